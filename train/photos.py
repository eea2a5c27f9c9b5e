"""Photos to train on: decoded once, kept in memory as uint8, cropped at random on the device."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from allaprima.core.contract import SMALLEST
from allaprima.core.errors import AllaprimaError
from allaprima.media.pictures import picture_files, read_rgb
from allaprima.train import schedule
from allaprima.train.settings import BUNDLED, BUNDLED_HELD_OUT, Settings

MEMORY = 4 * 2**30  # bytes of photos kept at most; a larger folder is sampled


class Photos:
    """A training set and a few held-out photos.

    source: a folder (nested, any size), a video file, or None for the bundled starter photos. size: of the crops. Each photo is
    scaled down until its short side is 1.5 times that, which leaves room for a random scale.
    Attributes: `train` and `held_out`, lists of uint8 tensors [3, h, w], RGB; `names` of the held-out ones; `skipped`,
    how many files could not be read or are smaller than SMALLEST. Raises AllaprimaError when there is nothing to train on.
    """

    def __init__(self, source=None, size=256, held_out=3):
        self.size, self.skipped = size, 0
        source = Path(source) if source else BUNDLED
        photos = list(self._from_video(source) if os.path.isfile(source) else self._from_folder(source))
        if len(photos) < 2:
            raise AllaprimaError(
                f"{source} has {len(photos)} photos that can be read: give a folder with at least two, "
                "or leave --photos out to use the bundled ones."
            )
        chosen = BUNDLED_HELD_OUT if source == BUNDLED else self._choose([n for n, _ in photos], held_out)
        self.train = [photo for name, photo in photos if name not in chosen]
        self.held_out = [photo for name, photo in photos if name in chosen]
        self.names = [name for name, _ in photos if name in chosen]

    @staticmethod
    def _choose(names, count):
        """Up to `count` of the names, at most a tenth and at least one: a function of the names, not of their folder."""
        ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        return set(ranked[: max(1, min(count, len(names) // 10))])

    def _from_folder(self, folder):
        if not os.path.isdir(folder):
            raise AllaprimaError(
                f"{folder} is not a folder or a video: give --photos a folder of photos or a video file."
            )
        files = picture_files(folder)
        if not files:
            raise AllaprimaError(f"{folder} has no photos in it: give --photos a folder of photos.")
        most = max(2, int(MEMORY / (1.5 * self.size) ** 2 / 4))  # about 3 bytes a pixel at an aspect of 4:3
        for file in files[:: -(-len(files) // most)]:
            try:
                yield str(file.relative_to(folder)), self._shrink(read_rgb(file, self._short_side()))
            except AllaprimaError:
                self.skipped += 1

    def _from_video(self, file):
        from allaprima.media.clips import sample_frames

        for number, frame in enumerate(sample_frames(file, 400)):
            yield f"frame {number}", self._shrink(Image.fromarray(frame))

    def _short_side(self):
        return round(1.5 * self.size)

    def _shrink(self, image):
        if min(image.size) < SMALLEST:
            raise AllaprimaError(f"A photo of {image.width}x{image.height} is too small to learn on: give larger ones.")
        ratio = self._short_side() / min(image.size)
        if ratio < 1:
            image = image.resize([max(1, round(side * ratio)) for side in image.size], Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    def to(self, device):
        """Keep the training photos on `device`."""
        self.train = [photo.to(device) for photo in self.train]
        return self

    def batch(self, count: int, seed: int, side: int | None = None, share=slice(None)) -> torch.Tensor:
        """`count` random crops, float [count, 3, side, side], 0..1; the same seed gives the same crops.

        side: `size` for None; smaller ones are of the same scale. share: the crops that are made; the others are only drawn.
        """
        random, side = np.random.default_rng(seed), side or self.size
        crops, wanted = [], range(count)[share]
        for number in range(count):
            photo = self.train[random.integers(len(self.train))]
            _, height, width = photo.shape
            length = int(side / self.size * random.uniform(min(self.size, height, width), min(height, width)))
            top, left = random.integers(height - length + 1), random.integers(width - length + 1)
            flipped = random.random() < 0.5
            if number not in wanted:
                continue
            crop = photo[:, top : top + length, left : left + length].float()[None] / 255
            if length != side:
                crop = F.interpolate(crop, (side, side), mode="bilinear", antialias=True)
            crops.append(crop.flip(3) if flipped else crop)
        return torch.cat(crops)


class Batches:
    """The crops of each step and their content targets, which would take a quarter of a step's time to compute anew.

    Which batch a step uses, and how large its crops are, follows from the step alone (train/schedule.py).
    crops: makes those of a batch from (count, seed, part, share), as `Trainer.crops`. targets: what is kept with them.
    share: the photos of each batch that are this process's.
    """

    def __init__(self, settings: Settings, crops: Callable, targets: Callable, share=slice(None)):
        self.settings, self.crops, self.targets, self.share = settings, crops, targets, share
        self.ready = {}

    def at(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The photos of a step, float [N, 3, side, side], 0..1, and their targets."""
        s, number = self.settings, schedule.batch_number(self.settings, step)
        self.ready = {key: batch for key, batch in self.ready.items() if key >= schedule.oldest_batch(step)}
        if number not in self.ready:
            photos = self.crops(s.batch, s.seed * 1_000_003 + number, schedule.crop_part(s, number), self.share)
            self.ready[number] = photos, self.targets(photos)
        return self.ready[number]
