"""Work that is killed at a random moment (SIGKILL), and run again: it must end as if nothing had happened.

    python tests/kills.py --times 50             # each of the kinds of work, so many times
    python tests/kills.py video --first 17 --times 1

After the kill no final name may hold half a file; after the second run the folder must hold what an undisturbed run
leaves, and nothing else. A moment follows from its number: the k-th time that the work opens, renames, makes or removes
something there, or a time. The studio's line of trainings has a process for each: at an event the studio alone is killed,
and at a time both are.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from PIL import Image

from clips import panned, write_clip
from conftest import PHOTOS, make_model

EVENTS = ("open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.copyfile", "shutil.rmtree")


def prepare(folder: Path) -> None:
    """What the work reads."""
    make_model(folder / "tiny.onnx", channels=4)
    (folder / "album" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "deep/c.webp", "deep/d.gif", "e.tif")):
        photo = Image.open(sorted(PHOTOS.glob("*.jpg"))[number]).convert("RGB").resize((160, 120))
        photo.save(folder / "album" / name)
    write_clip(folder / "clip.mp4", panned(40, 160, 120), sound=[("aac", 44100, "stereo")])


def work(kind: str, inputs: Path, output: Path) -> None:
    """One kind of work, begun or continued."""
    if kind in ("folder", "video"):
        from allaprima.infer.jobs import stylize

        what, where = ("album", output / "painted") if kind == "folder" else ("clip.mp4", output / "out.mp4")
        stylize(inputs / what, where, inputs / "tiny.onnx", threads=1)
    elif kind == "archive":
        from allaprima.infer.cluster import stylize_archive

        sources = [inputs / "album", inputs / "clip.mp4"]
        stylize_archive(sources, output / "painted", inputs / "tiny.onnx", workers=1, seconds=0.4)
    elif kind == "export":
        from allaprima.serve.site import export_web

        export_web([inputs / "tiny.onnx"], output / "site")
    elif kind == "studio":
        asyncio.run(_trainings(output))
    else:
        import torch

        from allaprima.train import run
        from allaprima.train.checkpoint import checkpoint_of
        from training import SMALL, STYLE

        torch.set_num_threads(1)
        run.KEEP_EVERY = 2
        there = checkpoint_of(output / "x.onnx").exists()
        run.train_style(
            STYLE, output / "x.onnx", replace(SMALL, steps=4), resume=there, overwrite=not there, device="cpu"
        )


async def _trainings(library: Path) -> None:
    """Two trainings in the studio's line, added where they are not there, until both are done."""
    from allaprima.serve import trainings
    from allaprima.serve.library import Library
    from studios import train_small
    from training import STYLE

    train_small()
    line = trainings.Trainings(Library(library))
    line.load()
    for name in ("first", "second"):
        if name not in [each.name for each in line.all.values()]:
            line.add(name, STYLE.read_bytes(), b"shown", minutes=0.01, style_size=64)
    working = asyncio.create_task(line.work())
    while not all(each.state == trainings.DONE for each in line.all.values()):
        failed = [each.about for each in line.all.values() if each.state == trainings.FAILED]
        assert not failed, failed
        await asyncio.sleep(0.05)
    working.cancel()
    line.library.release()


KINDS = ("folder", "video", "archive", "export", "training", "studio")
MANIFEST = ".allaprima"  # of an archive: who wrote what, and when, is not the same twice


def child(kind: str, inputs: Path, output: Path, event: int, seconds: float) -> None:
    """Do the work in this process, which ends at the event with this number, or after so many seconds; -1 for never."""
    count, inside = 0, str(output)

    def watch(name, arguments):
        nonlocal count
        if name in EVENTS and str(arguments[0] if arguments else "").startswith(inside):
            count += 1
            if count == event:
                os.kill(os.getpid(), signal.SIGKILL)

    def later():
        time.sleep(seconds)
        os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)
    began = time.monotonic()
    if seconds >= 0:
        threading.Thread(target=later, daemon=True).start()
    work(kind, inputs, output)
    print(count, time.monotonic() - began)


def start(kind, inputs, output, event=-1, seconds=-1.0):
    output.mkdir(exist_ok=True)
    command = [sys.executable, __file__, kind, "--child", inputs, output, event, seconds]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, start_new_session=True)


def contents(folder: Path) -> dict[str, object]:
    """What is in each file, apart from how long it took to make it. A training of the studio is called by its name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != MANIFEST]
    names = {path.parent.name: json.loads(path.read_text())["name"] for path in files if path.name == "training.json"}
    return {
        "/".join(names.get(part, part) for part in path.relative_to(folder).parts): _content(path) for path in files
    }


def _content(path):
    if path.name.startswith("."):  # a part, which need not be whole
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if path.name == "training.json":
        kept = json.loads(path.read_text())
        return [kept[key] for key in ("name", "state", "steps", "done", "style", "process")]
    if path.name == "log.txt" or path.suffix == ".html":
        return ""
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(path)
        del model.metadata_props[:]
        return hashlib.sha256(model.SerializeToString()).hexdigest()
    if path.suffix == ".safetensors":
        from allaprima.train.checkpoint import read_checkpoint

        tensors, values = read_checkpoint(path)
        return hashlib.sha256(b"".join(tensors[key].numpy().tobytes() for key in sorted(tensors))).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Trials:
    """Kills of one kind of work, against what an undisturbed run leaves."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.inputs, self.folder = kind, folder / "inputs", folder
        self.inputs.mkdir()
        prepare(self.inputs)
        done = start(kind, self.inputs, folder / "undisturbed")
        assert done.returncode == 0, done.stderr
        events, seconds = done.stdout.split()[-2:]
        self.events, self.seconds = int(events), float(seconds)
        self.wanted = contents(folder / "undisturbed")

    def trial(self, number: int) -> bool:
        """Kill a run and run it again; was it killed before its end? AssertionError where anything is lost or left."""
        dice, output = random.Random(number), self.folder / f"killed-{number}"
        by_event = dice.random() < 0.6
        moment = {"event": dice.randint(1, self.events)} if by_event else {"seconds": dice.uniform(0, self.seconds)}
        killed = start(self.kind, self.inputs, output, **moment)
        assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
        for name, content in contents(output).items():  # reading a checkpoint checks it
            steady = self.kind not in ("training", "studio") or re.search(r"(?<!moment)\.onnx$", name)
            if not any(part.startswith(".") for part in Path(name).parts) and steady:
                assert content == self.wanted[name], f"{name} is not whole after {moment}"
        again = start(self.kind, self.inputs, output)
        assert again.returncode == 0, again.stderr
        found = contents(output)
        other = [name for name in found.keys() | self.wanted.keys() if found.get(name) != self.wanted.get(name)]
        assert not other, f"{other} differ after {moment}"
        left = [path.name for path in output.rglob("*") if path.name.startswith(".") and path.name != MANIFEST]
        assert not left, f"{left} stay after {moment}"
        shutil.rmtree(output)
        return killed.returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=KINDS)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="number of the first moment")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        inputs, output, event, seconds = options.child
        return child(options.kinds[0], Path(inputs), Path(output), int(event), float(seconds))
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            trials = Trials(kind, Path(folder))
            killed = sum(trials.trial(number) for number in range(options.first, options.first + options.times))
            print(f"{kind}: {options.times} runs, {killed} killed before their end; all ended as an undisturbed one")


if __name__ == "__main__":
    main()
