"""End-to-end video speed: decode, stylize, encode, in frames per second, for a model against another in the same run.

    python benchmarks/video_speed.py live.onnx --against johnson.onnx

The clip pans over a bundled photo (H.264, 25 frames/s, with a tone), at 640x480 and 1280x720. They take turns,
and each figure is the median of the rounds. The ratio is that of frames that are painted anew.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from page import publish, table  # noqa: E402

import clips  # noqa: E402
from allaprima.core.contract import Controls  # noqa: E402
from allaprima.infer.stylizer import Stylizer  # noqa: E402
from allaprima.infer.video import stylize_video  # noqa: E402

SIZES = [(640, 480), (1280, 720)]


def frames_per_second(stylizer, source, frames, folder, controls):
    began = time.perf_counter()
    stylize_video(source, folder / "out.mp4", stylizer, controls)
    return frames / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model file")
    parser.add_argument("--against", help="model file to compare with")
    parser.add_argument("--seconds", type=float, default=6, help="length of the clip for the model (default 6)")
    parser.add_argument("--rounds", type=int, default=3, help="turns for each model (default 3)")
    parser.add_argument("--threads", type=int, help="threads of ONNX Runtime (default: one per physical core)")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    options = parser.parse_args()

    def same(rgb, strength):
        return rgb

    # The slow model gets a shorter clip: its rate settles within a few frames.
    frames = round(options.seconds * 25)
    model, anew = Stylizer(options.model, threads=options.threads), Controls(steady=False)
    runs = [
        ("no network", same, frames, anew),
        (model.name, model, frames, Controls()),
        (f"{model.name} --no-steady", model, frames, anew),
    ]
    if options.against:
        other = Stylizer(options.against, threads=options.threads)
        runs.append((f"{other.name} --no-steady", other, max(10, frames // 10), anew))

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for width, height in SIZES:
            rates = [[] for _ in runs]
            for _ in range(options.rounds):
                for k, (_, stylizer, count, controls) in enumerate(runs):
                    source = folder / f"{width}-{count}.mp4"
                    if not source.exists():
                        clips.write_clip(source, clips.panned(count, width, height), sound=[("aac", 48000, "stereo")])
                    rates[k].append(frames_per_second(stylizer, source, count, folder, controls))
            rates = [statistics.median(rate) for rate in rates]
            ratio = [f"{rates[2] / rates[3]:.1f}"] if options.against else []
            rows.append([f"{width}x{height}", *(f"{rate:.1f} fps" for rate in rates), *ratio])
    head = ["size", *(name for name, *_ in runs), *(["ratio"] if options.against else [])]
    publish("Video: decode, stylize, encode", table(head, rows), options.write)


if __name__ == "__main__":
    main()
