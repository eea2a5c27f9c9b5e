"""The picture and the clips of boiling in networks.md: what styles make of things that move, without and with `--steady`.

    uv run python docs/steadiness_figure.py wave udnie starry_night -o docs/steadiness.jpg --clips docs

The picture has five frames in a row of a slow pan over a face, crops at twice their size (the whole frame is painted); the last
one of a row is ten times the mean difference of neighbouring frames, moved to where they belong. The clips are of the first
style, without `--steady` at the left and with it at the right: a face.webp, a walk.webp up to a house, a pan.webp over a sky.
All frames are made of bundled photos, with camera noise of their own.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from contact_sheet import PHOTOS, label
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import clips
from allaprima import Controls, Stylizer
from allaprima.core.files import atomic
from allaprima.infer.steadiness import paint_frames

BEFORE, SHOWN, STEP = 8, 5, (1.4, 0.6)  # frames that are painted and not shown; those that are; px from frame to frame
CROP = 150, 40, 96  # left, top and side of what is shown
WAYS = {" --no-steady": Controls(steady=False), " --steady": Controls()}
RATE, FRAMES, SIZE = 12, 24, (320, 240)  # of the clips
MOVES = {  # photo, and how the camera moves over it
    "face": ("astronaut.jpg", {"start": (70, 0), "step": (0.9, 0.4), "nearer": 1.004}),
    "walk": ("china.jpg", {"start": (60, 60), "step": (0.3, 0.0), "nearer": 1.012}),
    "pan": ("china.jpg", {"start": (0, 20), "step": (2.2, 0.3)}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="model files, or names of styles")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--clips", type=Path, help="folder for the clips")
    arguments = parser.parse_args()
    stylizers = [Stylizer(model, one_size=True) for model in arguments.models]
    frames = list(clips.filmed(PHOTOS / "astronaut.jpg", BEFORE + SHOWN, (384, 288), STEP, noise=2))
    rows = [*strip("the clip", frames)]
    for stylizer in stylizers:
        for way, controls in WAYS.items():
            rows += strip(stylizer.name + way, paint_frames(stylizer, frames, controls))
    with atomic(arguments.output) as part:
        Image.fromarray(np.concatenate(rows)).save(part, quality=90)
    for name, (photo, how) in MOVES.items() if arguments.clips else ():
        write_clip(arguments.clips / f"{name}.webp", stylizers[0], PHOTOS / photo, how)


def strip(name, pictures):
    """A line of text, and the crops of the last pictures in a row with what changes from one to the next."""
    left, top, side = CROP
    pictures = pictures[-SHOWN:]
    still = [moved_back(picture, k)[top : top + side, left : left + side] for k, picture in enumerate(pictures)]
    change = np.mean([np.abs(one - other) for one, other in zip(still, still[1:])], 0)
    crops = [picture[top : top + side, left : left + side] for picture in pictures]
    row = np.concatenate([*crops, (10 * change).clip(0, 255).astype(np.uint8)], 1).repeat(2, 0).repeat(2, 1)
    return label(name, row.shape[1]), row


def moved_back(picture, steps):
    """A picture moved by so many steps of the pan, to where the first one is: float32."""
    matrix = np.array([[1, 0, steps * STEP[0]], [0, 1, steps * STEP[1]]], np.float32)
    picture, size = picture.astype(np.float32), picture.shape[1::-1]
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)


def write_clip(file, stylizer, photo, how):
    frames = list(clips.filmed(photo, FRAMES, SIZE, **how))
    both = zip(*(paint_frames(stylizer, frames, controls) for controls in WAYS.values()))
    images = [Image.fromarray(np.concatenate(pair, 1)) for pair in both]
    with atomic(file) as part:
        more = {"save_all": True, "append_images": images[1:], "duration": 1000 // RATE, "loop": 0}
        images[0].save(part, "WEBP", quality=40, method=6, **more)


if __name__ == "__main__":
    main()
