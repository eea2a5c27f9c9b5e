"""The install without torch: its size, how fast it starts, and the memory that a long video takes.

    uv run python benchmarks/deploy.py starry.onnx

Installs the project without extras into an empty environment (with uv), and runs everything in there.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import clips  # noqa: E402
from memory import PEAK  # noqa: E402

VIDEO = (
    PEAK
    + """
import sys
from allaprima import Stylizer
from allaprima.infer.video import stylize_video
stylize_video(sys.argv[1], sys.argv[2], Stylizer(sys.argv[3]))
print(round(peak_megabytes()))
"""
)


def size_of(folder):
    """Megabytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def seconds(command, runs=7):
    """Median wall time of a command, after a first run that fills the caches."""
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument(
        "--frames", type=int, default=150, help="of the short clip; the long one has eight times as many"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        python = folder / "env" / "bin" / "python"
        subprocess.run(["uv", "venv", "-q", folder / "env"], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, ROOT], check=True)
        run = [python, "-I", "-c"]  # -I: what is installed, not the checkout that this may be called from
        site = Path(
            subprocess.check_output([*run, "import allaprima; print(allaprima.__path__[0])"], text=True).strip()
        )
        torch = subprocess.run([*run, "import torch"], capture_output=True).returncode == 0
        print(f"installed: {size_of(site.parent):.0f} MB, of which allaprima {size_of(site):.0f} MB; torch: {torch}")
        nothing = seconds([*run, "pass"])
        for what, code in (
            ("import allaprima", "import allaprima"),
            ("import Stylizer", "from allaprima import Stylizer"),
            ("load the model", f"from allaprima import Stylizer; Stylizer({arguments.model!r})"),
        ):
            print(f"{what:18} {seconds([*run, code]) - nothing:.2f} s beyond an empty Python ({nothing:.2f} s)")
        for frames in (arguments.frames, 8 * arguments.frames):
            clip = folder / f"{frames}.mp4"
            clips.write_clip(clip, clips.panned(frames, 640, 480))
            said = subprocess.check_output([*run, VIDEO, clip, folder / "out.mp4", arguments.model], text=True)
            print(f"video of {frames:5} frames at 640x480: {said.split()[-1]} MB at the most")


if __name__ == "__main__":
    main()
