"""How much of the flicker of a still camera stylized video shows, for model files next to each other.

    python benchmarks/flicker.py clip.mp4 starry_night other.onnx

The clip is of a camera that stands still. Measured is where nothing moves: pixels of which none within 20 px changes by
more than 12 grey levels from a frame to the next. There, the mean change of the picture over that of the clip, 1 being the
camera's own: where each frame is painted anew (`--no-steady`), and as videos are painted by default.
"""

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from page import publish, table

from allaprima.core.contract import Controls
from allaprima.infer.steadiness import paint_frames
from allaprima.infer.stylizer import Stylizer
from allaprima.media.clips import Clip, Frame

MOVES, AROUND = 12, np.ones((41, 41), np.uint8)


def changes(before, after):
    return np.abs(after.astype(int) - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="video of a camera that stands still")
    parser.add_argument("models", nargs="+", help="names of bundled styles, or model files")
    parser.add_argument("--frames", type=int, default=13, help="from the beginning of the clip")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    options = parser.parse_args()

    with Clip(options.clip) as clip:
        pictures = (item for item in clip.read() if isinstance(item, Frame))
        frames = [picture.rgb for picture in islice(pictures, options.frames)]
    pairs = list(zip(frames, frames[1:]))
    still = [cv2.dilate((changes(*pair).max(2) > MOVES).astype(np.uint8), AROUND) == 0 for pair in pairs]
    own = [changes(*pair)[place].mean() for pair, place in zip(pairs, still)]
    rows = []
    for model in options.models:
        stylizer, cells = Stylizer(model), []
        for steady in (False, True):
            painted = paint_frames(stylizer, frames, Controls(steady=steady))
            shown = [changes(*pair)[place].mean() for pair, place in zip(zip(painted, painted[1:]), still)]
            cells.append(f"{np.mean(shown) / np.mean(own):.1f}")
        rows.append([Path(model).stem, *cells])
    note = (
        f"{len(frames)} frames of {options.clip.name}, {frames[0].shape[1]}x{frames[0].shape[0]}; nothing moves in "
        f"{np.mean(still):.0%} of it, where the clip changes by {np.mean(own):.2f} grey levels from frame to frame."
    )
    head = ["style", "each frame anew", "steady"]
    publish("Flicker under a still camera", f"{note}\n\n{table(head, rows)}", options.write)


if __name__ == "__main__":
    main()
