"""Photos to train on: what is read, what is kept out, which crops a step has."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima.core.errors import AllaprimaError
from allaprima.media.pictures import read_rgb
from allaprima.models.tensors import read_style
from allaprima.train import schedule
from allaprima.train.photos import Batches, Photos
from allaprima.train.settings import BUNDLED, BUNDLED_HELD_OUT
from clips import panned, write_clip
from training import SMALL, STYLE


def test_photos_come_from_nested_folders_and_broken_ones_are_counted(tmp_path):
    nested = tmp_path / "a" / "b"
    nested.mkdir(parents=True)
    for number, name in enumerate(["astronaut.jpg", "coffee.jpg", "fig.jpg"]):
        Image.open(BUNDLED / name).save(nested / f"{number}.png")
    (tmp_path / "broken.jpg").write_bytes((BUNDLED / "life.jpg").read_bytes()[:500])
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("no photo")
    Image.new("RGB", (300, 1)).save(tmp_path / "line.png")
    photos = Photos(tmp_path, size=64)
    assert (len(photos.train), len(photos.held_out), photos.skipped) == (2, 1, 3)
    assert all(min(p.shape[1:]) == 96 and p.dtype == torch.uint8 for p in photos.train)


def test_16_bit_and_turned_pictures_are_read_as_they_look(tmp_path):
    ramp = np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (80, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert np.abs(np.asarray(read_rgb(tmp_path / "deep.png"))[..., 0].astype(int) - ramp // 257).max() <= 1
    exif = Image.Exif()
    exif[274] = 6  # shown a quarter turn clockwise
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg").size == (20, 40)


def test_every_bundled_photo_is_credited():
    credits = (BUNDLED / "CREDITS.md").read_text(encoding="utf-8")
    files = [file.relative_to(BUNDLED).as_posix() for file in BUNDLED.rglob("*.jpg")]
    assert sorted(files) == sorted(re.findall(r"^\| (\S+\.jpg) \|", credits, re.M))


def test_crops_are_a_function_of_the_seed():
    photos = Photos(size=64)
    assert len(photos.train) == 85 and sorted(photos.names) == sorted(BUNDLED_HELD_OUT)
    first, again, other = photos.batch(3, 1), photos.batch(3, 1), photos.batch(3, 2)
    assert first.shape == (3, 3, 64, 64) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert photos.batch(3, 1, 48).shape == (3, 3, 48, 48)


def crops_of(photos):
    """Crops as a trainer's whose network looks at nothing around a picture."""
    return lambda count, seed, part, share: photos.batch(count, seed, round(part * photos.size), share)


def test_batches_come_back_and_others_have_the_same():
    """Content targets are computed once for about REUSE steps, and follow from the number of the step alone."""
    settings, photos, computed = replace(SMALL, batch=4), Photos(size=64), []
    batches = Batches(settings, crops_of(photos), lambda crops: computed.append(len(crops)))
    seen = [batches.at(step)[0].sum().item() for step in range(80)]
    assert len(computed) == len(set(seen)) < 40 and len(batches.ready) <= schedule.WAITING // 4
    other = Batches(settings, crops_of(photos), lambda crops: None)
    assert [other.at(step)[0].sum().item() for step in (3, 40, 77)] == [seen[step] for step in (3, 40, 77)]


def test_processes_share_a_batch():
    """Its parts are the whole, and no crop is in two of them."""
    settings, photos = replace(SMALL, batch=6), Photos(size=64)
    whole = Batches(settings, crops_of(photos), lambda crops: None).at(5)[0]
    shares = [slice(0, 2), slice(2, 4), slice(4, 6)]
    parts = [Batches(settings, crops_of(photos), lambda crops: None, share).at(5)[0] for share in shares]
    assert torch.equal(torch.cat(parts), whole) and len({crop.sum().item() for crop in whole}) == 6


def test_the_first_crops_are_smaller_and_a_continued_training_has_the_same():
    settings, photos = replace(SMALL, steps=800, early_size=0.75), Photos(size=64)
    batches, again = (Batches(settings, crops_of(photos), lambda crops: None) for _ in range(2))
    sides = [batches.at(step)[0].shape[-1] for step in range(800)]
    assert set(sides[:430]) == {48} and set(sides[690:]) == {64} and set(sides[430:690]) == {48, 64}
    assert [again.at(step)[0].shape[-1] for step in (500, 560, 620)] == [sides[step] for step in (500, 560, 620)]


def test_photos_from_a_video(tmp_path):
    clip = tmp_path / "clip.mp4"
    write_clip(clip, panned(12, 160, 120))
    photos = Photos(clip, size=64)
    assert len(photos.train) + len(photos.held_out) == 12 and photos.train[0].shape == (3, 96, 128)


def test_style_size_is_the_long_side():
    assert max(read_style(STYLE, 200).shape[2:]) == 200


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: folder / "missing", "not a folder"),
        (lambda folder: folder, "no photos"),
    ],
)
def test_nothing_to_train_on(tmp_path, make, words):
    with pytest.raises(AllaprimaError, match=words):
        Photos(make(tmp_path))
