"""The picture of boiling in networks.md: five frames in a row of a slow pan over a face, and what networks make of them.

    uv run python docs/steadiness_figure.py before/wave.onnx wave before/udnie.onnx udnie -o docs/steadiness.jpg

The clip is made of a bundled photo: it moves by a fraction of a pixel from frame to frame, and each frame has camera noise
of its own, as the training's second views have. Each frame is a crop at twice its size, the whole frame is painted; the last
picture of a row is ten times the mean difference of neighbouring frames, moved to where they belong.
"""

import argparse

import cv2
import numpy as np
from contact_sheet import PHOTOS, label
from PIL import Image

from allaprima import Stylizer
from allaprima.core.files import atomic

FRAMES, SIZE = 5, (384, 288)
STEP = 1.4, 0.6  # px from frame to frame, to the left and up
NOISE = 2.0  # grey levels
CROP = 150, 40, 96  # left, top and side of what is shown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="model files, or names of styles")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    frames = panned(np.asarray(Image.open(PHOTOS / "astronaut.jpg").convert("RGB")))
    rows = [*strip("the clip", frames)]
    for model in arguments.models:
        stylizer = Stylizer(model)
        rows += strip(model, [stylizer(frame) for frame in frames])
    with atomic(arguments.output) as part:
        Image.fromarray(np.concatenate(rows)).save(part, quality=90)


def panned(photo):
    """FRAMES frames, uint8 [H, W, 3], of a slow pan over a photo."""
    random, frames = np.random.default_rng(0), []
    for k in range(FRAMES):
        moved = shifted(photo.astype(np.float32), -k)[: SIZE[1], : SIZE[0]]
        frames.append((moved + random.normal(0, NOISE, moved.shape)).clip(0, 255).round().astype(np.uint8))
    return frames


def shifted(picture, steps):
    """A picture moved by so many steps of the pan."""
    matrix = np.array([[1, 0, steps * STEP[0]], [0, 1, steps * STEP[1]]], np.float32)
    return cv2.warpAffine(
        picture, matrix, picture.shape[1::-1], flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT
    )


def strip(name, pictures):
    """A line of text, and the crops of the pictures in a row with what changes from one to the next."""
    left, top, side = CROP
    still = [
        shifted(picture.astype(np.float32), k)[top : top + side, left : left + side]
        for k, picture in enumerate(pictures)
    ]
    change = np.mean([np.abs(one - other) for one, other in zip(still, still[1:])], 0)
    crops = [picture[top : top + side, left : left + side] for picture in pictures]
    row = np.concatenate([*crops, (10 * change).clip(0, 255).astype(np.uint8)], 1).repeat(2, 0).repeat(2, 1)
    return label(name, row.shape[1]), row


if __name__ == "__main__":
    main()
