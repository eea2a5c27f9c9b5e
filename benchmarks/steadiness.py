"""How steady styles are when things move, for model files next to each other.

    python benchmarks/steadiness.py clip.mp4 wave other.onnx
    python benchmarks/steadiness.py train/photos/china.jpg wave

Over a photo a camera pans slowly, with noise of its own: there `--steady` is measured without its canvas that goes along with
the camera (infer/canvas.py), too.

The multiples of the clip's own change are those of `allaprima bench --video` (infer/steadiness.py). E_warp is that of Lai et
al., *Learning Blind Video Temporal Consistency*, ECCV 2018, equation 8: of neighbouring frames with values 0..1, the
squared distance of a pixel's colours to those of the earlier frame, moved along, averaged where nothing is covered or
uncovered and no motion boundary lies (Ruder et al. 2016, equations 4 and 5). Its flow is DIS in the place of FlowNet2.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from page import publish, table
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import clips  # noqa: E402
from allaprima.core.contract import Controls  # noqa: E402
from allaprima.infer.steadiness import Yardstick, difference, paint_frames, read_frames  # noqa: E402
from allaprima.infer.steady import Steady  # noqa: E402
from allaprima.infer.stylizer import Stylizer  # noqa: E402
from allaprima.media import motion  # noqa: E402
from allaprima.media.clips import VIDEO_SUFFIXES  # noqa: E402

PAN = 1.3, 0.4  # px from frame to frame, to the right and down


def visible(yardstick, earlier, later, flow):
    """Where the later frame's pixels are seen in the earlier one too, and no motion boundary lies: bool [H, W]."""
    forward = motion.flow_to(yardstick.grey[later], yardstick.grey[earlier])
    slopes = sum((step**2).sum(-1) for step in np.gradient(flow, axis=(0, 1)))
    smooth = slopes <= 0.01 * (flow**2).sum(-1) + 0.002
    return motion.agree(flow, forward) & motion.inside(flow) & smooth


def e_warp(yardstick, masks, pictures):
    pairs = []
    for (earlier, later), (flow, _) in yardstick.near.items():
        squares = ((difference(pictures[earlier], pictures[later], flow) / 255) ** 2).sum(2)
        pairs.append(squares[masks[earlier, later]].mean())
    return np.mean(pairs)


def panned(photo, count):
    """Frames of a camera that sees three quarters of a photo's sides, and moves slowly over it."""
    with Image.open(photo) as picture:
        size = tuple(3 * side // 4 for side in picture.size)
    return clips.filmed(photo, count, size, PAN)


def on_still_canvas(stylizer, frames):
    steady = Steady()
    return [steady(frame, stylizer(frame)) for frame in frames]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a video, or a photo")
    parser.add_argument("models", nargs="+", help="names of bundled styles, or model files")
    parser.add_argument("--foreign", help="value range of models that are not ours")
    parser.add_argument("--frames", type=int, default=40, help="from the beginning of the clip (default 40)")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    options = parser.parse_args()

    is_clip = options.clip.suffix.lower() in VIDEO_SUFFIXES
    yardstick = Yardstick(list((read_frames if is_clip else panned)(options.clip, options.frames)))
    masks = {pair: visible(yardstick, *pair, flow) for pair, (flow, _) in yardstick.near.items()}
    rows = [["the clip", "", "1.0", "1.0", "1.0", f"{1000 * e_warp(yardstick, masks, yardstick.frames):.2f}"]]
    for model in options.models:
        stylizer = Stylizer(model, foreign=options.foreign)
        ways = {"--no-steady": Controls(steady=False), "--steady, still canvas": None, "--steady": Controls()}
        for way, controls in ways.items():
            if controls:
                painted = paint_frames(stylizer, yardstick.frames, controls)
            elif is_clip:
                continue
            else:
                painted = on_still_canvas(stylizer, yardstick.frames)
            multiples = vars(yardstick.measure(painted).over(yardstick.own)).values()
            e = f"{1000 * e_warp(yardstick, masks, painted):.2f}"
            rows.append([Path(model).stem, way, *(f"{value:.1f}" for value in multiples), e])
    own = yardstick.own
    height, width = yardstick.frames[0].shape[:2]
    what = options.clip.name if is_clip else f"a pan over {options.clip.name}"
    note = (
        f"{len(yardstick.frames)} frames of {what}, {width}x{height}; the motion of {yardstick.certain:.0%} of "
        f"it is certain, where the clip changes by {own.near:.2f} grey levels from frame to frame and by {own.far:.2f} over 8."
    )
    head = ["style", "", "from frame to frame", "over 8 frames", "detail", "E_warp, thousandths"]
    publish(f"Steadiness: {options.clip.name}", f"{note}\n\n{table(head, rows)}", options.write)


if __name__ == "__main__":
    main()
