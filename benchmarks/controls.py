"""What the controls beside the network cost: milliseconds of a frame with each of them, next to one without any.

    python benchmarks/controls.py --threads 1

They take turns, a frame each, and figures are medians: of the processor's time, and of its ratio for the same frame.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from page import publish, table  # noqa: E402

import clips  # noqa: E402
from allaprima.core.contract import Controls, parse_size  # noqa: E402
from allaprima.infer.steady import Painter  # noqa: E402
from allaprima.infer.stylizer import Stylizer  # noqa: E402

WAYS = {
    "--no-steady": Controls(steady=False),
    "--no-steady --keep-colors": Controls(keep_colors=True, steady=False),
    **{f"--no-steady --stroke {stroke:g}": Controls(stroke=stroke, steady=False) for stroke in (1, 2)},
    "--steady": Controls(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="wave", help="name of a bundled style, or a model file")
    parser.add_argument("--size", default="640x480", help="of the frame")
    parser.add_argument("--frames", type=int, default=60, help="timed of each (default 60)")
    parser.add_argument("--threads", type=int, help="of ONNX Runtime and OpenCV (default: one per physical core)")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    options = parser.parse_args()

    stylizer = Stylizer(options.model, threads=options.threads, one_size=True)
    cv2.setNumThreads(options.threads or cv2.getNumThreads())
    times, painter = {way: [] for way in WAYS}, Painter()
    for photo in clips.panned(options.frames, *parse_size(options.size)):
        for way, controls in WAYS.items():
            began = time.process_time()
            painter(stylizer, photo, controls)
            times[way].append(1000 * (time.process_time() - began))
    rows = []
    for way, took in times.items():
        ratio = statistics.median(each / without for each, without in zip(took, times["--no-steady"]))
        rows.append([way, f"{statistics.median(took):.1f} ms", f"{ratio - 1:+.1%}"])
    note = f"{options.model} at {options.size}, {options.threads or 'all'} threads."
    publish("Controls beside the network", f"{note}\n\n{table(['', 'a frame', 'more'], rows)}", options.write)


if __name__ == "__main__":
    main()
