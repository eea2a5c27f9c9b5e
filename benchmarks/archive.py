"""What an archive takes: of a core, of a worker's memory, and what a second worker is worth.

    uv run --extra ray python benchmarks/archive.py -m wave
    uv run --extra ray python benchmarks/archive.py -m wave --provider cuda

A worker of one thread paints a 1920x1080 clip (H.264, 25 frames/s, with sound), each frame anew and cut in parts, and
photos of 12 megapixels (JPEG): decoded, painted, encoded. What it takes of a core is the processor's time, which other
programs do not add to. Then a Ray cluster of two nodes with one CPU each paints the same clip at 640x480 as one such node
does: that is the time on the clock, and wants two cores with nothing else to do.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from page import publish, table  # noqa: E402
from PIL import Image  # noqa: E402

import clips  # noqa: E402
from allaprima.core.contract import Controls  # noqa: E402
from allaprima.infer.cluster import FOLDER, stylize_archive  # noqa: E402
from memory import PEAK  # noqa: E402

HOURS, PHOTOS = 1000, 1_000_000
WEEK = 7 * 24  # hours


def painted(source, folder, model, **how):
    """Seconds on the clock for an archive, the frames in it, and the seconds that they took of a core."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    stylize_archive(source, folder, model, Controls(steady=False), seconds=2, **how)  # or a video is not cut
    seconds = time.perf_counter() - began
    (manifest,) = (folder / FOLDER).glob("manifest-*")
    files = [json.loads(line) for line in manifest.read_text().splitlines()[1:]]
    return seconds, sum(file["frames"] for file in files), sum(file["processor"] for file in files)


def make_sources(folder, options):
    """A clip, large photos, and a picture that takes no time."""
    sound = [("aac", 48000, "stereo")]
    clips.write_clip(folder / "clip.mp4", clips.panned(options.frames, 1920, 1080), sound=sound)
    for name in ("album", "tiny"):
        (folder / name).mkdir()
    for number in range(options.photos):
        photo = Image.open(clips.PHOTOS[number]).convert("RGB").resize((4000, 3000))
        photo.save(folder / "album" / f"{number}.jpg", quality=90)
    Image.new("RGB", (64, 64)).save(folder / "tiny" / "a.png")


def rates(folder, options):
    """Rows of what a frame and a photo take, and of what an archive of them does."""
    namespace = {}
    exec(PEAK, namespace)
    maker = get_context("spawn").Process(
        target=make_sources, args=(folder, options)
    )  # whose memory is not the worker's
    maker.start()
    maker.join()
    clip, album = folder / "clip.mp4", folder / "album"
    painted(folder / "tiny", folder / "out", options.model, workers=1, provider=options.provider)  # loads the model
    rows = []
    frames = HOURS * 3600 * 25
    for what, source, count, archive in (
        ("frame of 1920x1080", clip, frames, f"{HOURS:,} hours, 25 frames/s"),
        ("photo of 4000x3000", album, PHOTOS, f"{PHOTOS:,} photos"),
    ):
        seconds, done, processor = painted(source, folder / "out", options.model, workers=1, provider=options.provider)
        hours = count * processor / done / 3600
        memory = namespace["peak_megabytes"]()
        row = [what, f"{processor / done:.3f} s", f"{done / seconds:.1f}", f"{memory:.0f} MB", archive]
        rows.append([*row, f"{hours:,.0f}", f"{hours / WEEK:,.0f}"])
    return rows


def two_against_one(folder, options):
    """Rows of frames a second with a node, and with two."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    clip = clips.write_clip(folder / "small.mp4", clips.panned(4 * options.frames, 640, 480))
    short = clips.write_clip(folder / "short.mp4", clips.panned(101, 64, 48))  # two parts, for two workers
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    rows = []
    try:
        for nodes in (1, 2):
            if nodes == 2:
                cluster.add_node(**small)
            import ray

            ray.init(cluster.address, log_to_driver=False, configure_logging=False)
            painted(short, folder / "out", options.model, ray=cluster.address)  # the workers start, and load the model
            seconds, done, processor = painted(clip, folder / "out", options.model, ray=cluster.address)
            ray.shutdown()
            rows.append([f"{nodes}", f"{done / seconds:.1f}", f"{1000 * processor / done:.1f} ms"])
    finally:
        cluster.shutdown()
    ratio = float(rows[1][1]) / float(rows[0][1])
    return [[*rows[0], "1"], [*rows[1], f"{ratio:.2f}"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="wave")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--frames", type=int, default=150, help="of 1920x1080 (default 150)")
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--without-ray", action="store_true", help="measure one worker alone")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        head = ["a", "takes of a core", "a second", "memory", "an archive of", "core-hours", "cores for a week"]
        publish(f"Archives: what {options.model} takes", table(head, rates(Path(folder), options)), options.write)
        if not options.without_ray:
            head = ["nodes of one CPU", "frames/s", "of a core for a frame", "times as fast"]
            publish(
                "Archives: two workers against one", table(head, two_against_one(Path(folder), options)), options.write
            )


if __name__ == "__main__":
    main()
