"""Memory that long work holds: after a tenth of it, after half, and at its end.

    uv run --extra train --extra web python benchmarks/flat_memory.py             # all kinds of work, an hour
    uv run --extra train --extra web python benchmarks/flat_memory.py live --part 0.01  # one of them, a hundredth of it

Each kind runs in a process of its own, which is asked for its resident memory; a server with the processes in which it
reads pictures. Pictures and frames are small, so that there are many of them.
"""

import argparse
import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import av  # noqa: E402
import psutil  # noqa: E402
from page import publish, table  # noqa: E402
from PIL import Image  # noqa: E402

import clips  # noqa: E402
from allaprima.core.events import Advanced, Event  # noqa: E402

WORK = {  # kind: (how many, of what)
    "training": (3_000, "steps of live"),
    "video": (45_000, "frames, 30 minutes"),
    "pictures": (100_000, "pictures"),
    "live": (300_000, "frames, 3 hours of a camera"),
    "requests": (10_000, "requests"),
}
NOTE = """Resident memory of the process; of a server, with the processes in which it reads pictures. Pictures and frames have
160x120 pixels, crops 128. A training has second views from a tenth of its steps on and, from 0.7 on, larger crops.

"""
FIRST = 0.1  # the part of the work after which memory should not grow
SIDE, RATE = (160, 120), 25


class Gauge:
    """A listener that notes the memory, in megabytes, of a process and its children at each hundredth of the work."""

    def __init__(self, total: int, process: int | None = None):
        self.total, self.process, self.seen = total, psutil.Process(process), {}

    def __call__(self, event: Event):
        if isinstance(event, Advanced):
            self.note(int(event.done))

    def note(self, done: int):
        part = 100 * done // self.total
        if part not in self.seen:
            processes = [self.process, *self.process.children(recursive=True)]
            self.seen[part] = sum(each.memory_info().rss for each in processes) / 2**20


class Camera:
    """A source for run_live that gives up to a thousand frames a second."""

    def __init__(self):
        self.frames = itertools.cycle([frame.copy() for frame in clips.panned(100, *SIDE)])

    def read(self):
        time.sleep(0.001)
        return next(self.frames)

    def close(self):
        pass


def prepare(folder: Path, kind: str, count: int) -> None:
    """The files that the work reads."""
    if kind == "video":
        _write_long(folder / "clip.mp4", count)
    elif kind in ("pictures", "requests"):
        data = io.BytesIO()
        Image.open(clips.PHOTOS[0]).convert("RGB").resize(SIDE).save(data, "JPEG")
        (folder / "album").mkdir()
        for number in range(count if kind == "pictures" else 1):
            (folder / "album" / f"{number}.jpg").write_bytes(data.getvalue())


def _write_long(path: Path, count: int) -> None:
    """A clip of `count` frames, a short one over and over, of which no frame is encoded twice."""
    short = clips.write_clip(path.with_name("short.mp4"), clips.panned(100, *SIDE))
    with av.open(str(short)) as source, av.open(str(path), "w") as out:
        track = source.streams.video[0]
        copy = out.add_stream_from_template(track)
        assert track.time_base
        length, packets = round(100 / Fraction(RATE) / track.time_base), []
        for packet in source.demux(track):
            if packet.pts is not None and packet.dts is not None:
                packets.append((bytes(packet), packet.pts, packet.dts, packet.is_keyframe))
        for number in range(count):
            turn, (data, pts, dts, key) = number // 100 * length, packets[number % 100]
            packet = av.Packet(data)
            packet.pts, packet.dts, packet.is_keyframe = pts + turn, dts + turn, key
            packet.time_base, packet.stream = track.time_base, copy
            out.mux(packet)


def work(folder: Path, kind: str, count: int) -> Gauge:
    """Do `count` of one kind of work."""
    gauge = Gauge(count)
    if kind == "training":
        from allaprima.train.run import train_style
        from training import STYLE

        train_style(STYLE, folder / "x.onnx", steps=count, size=128, device="cpu", listener=gauge)
    elif kind == "live":
        from allaprima.infer.live import run_live

        run_live(["wave"], Camera, display=False, frames=count, threads=1, listener=gauge)
    elif kind == "requests":
        gauge = _ask(folder / "album" / "0.jpg", count)
    else:
        from allaprima.infer.jobs import stylize

        what, where = ("clip.mp4", "out.mp4") if kind == "video" else ("album", "painted")
        stylize(folder / what, folder / where, "wave", threads=1, listener=gauge)
    return gauge


def _ask(photo: Path, count: int) -> Gauge:
    """Ask a server so many times, one after the other."""
    import httpx

    from services import server

    with server() as (address, _, process), httpx.Client(base_url=address, timeout=60) as session:
        gauge = Gauge(count, process.pid)
        for number in range(count):
            session.post("api/stylize", content=photo.read_bytes()).raise_for_status()
            gauge.note(number + 1)
        return gauge


def row(kind: str, part: float) -> list[str]:
    """The table's row for one kind of work, done in a process of its own."""
    total, what = WORK[kind]
    count = max(100, round(total * part))
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), kind, count)
        command = [sys.executable, __file__, kind, "--work", folder, str(count)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = {int(part): size for part, size in json.loads(done.stdout.splitlines()[-1]).items()}
    after = [size for part, size in seen.items() if part >= 100 * FIRST]
    half = min(seen, key=lambda part: abs(part - 50))
    sizes = after[0], seen[half], after[-1], max(after)
    return [kind, f"{count:,} {what}" if part == 1 else f"{count:,}", *(f"{size:.0f} MB" for size in sizes)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=[*WORK])
    parser.add_argument("--part", type=float, default=1.0, help="of the work, for a look")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        folder, count = options.work
        print(json.dumps(work(Path(folder), options.kinds[0], int(count)).seen))
        return
    rows = []
    for kind in options.kinds:
        rows.append(row(kind, options.part))
        print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    head = ["work", "how much", "after a tenth", "after half", "at the end", "most since a tenth"]
    publish("Memory that long work holds", NOTE + table(head, rows), options.write)


if __name__ == "__main__":
    main()
