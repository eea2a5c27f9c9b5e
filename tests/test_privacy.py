"""Nothing is kept in the home folder, and nothing sent: every way into the program, run with a home that is empty."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from conftest import PHOTOS

PHOTO, PAINTING = PHOTOS / "chelsea.jpg", PHOTOS / "coffee.jpg"
LAYERS = "--content-layers relu2_2 --style-layers relu1_2"
COMMANDS = {
    "models": "models",
    "stylize": f"stylize {PHOTO} -m MODEL -o out.jpg",
    "bench": "bench -m MODEL --size 64x64 --runs 1",
    "live": "live clip.mp4 -m MODEL --no-display",
    "compare": f"compare {PHOTO} -m wave --size 32 --iterations 1",
    "inspect": f"inspect loss {PHOTO} -m wave --size 64",
    "train": f"train {PAINTING} -o out.onnx --steps 1 --size 64 --style-size 64 --photos small {LAYERS}",
}
IMPORTS = ["allaprima.infer.stylizer", "allaprima.commands.app"]


def left_behind(folder, *arguments):
    """Run Python with an empty home, in `folder`, as a user would: what lies in the home afterwards."""
    home = folder / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY", "MPLCONFIGDIR")}
    kept = {k: v for k, v in kept.items() if not k.startswith("XDG_")}
    where = {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home), "APPDATA": str(home)}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=kept | where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_home_folder_stays_empty(tmp_path, tiny_model, command):
    from clips import panned, write_clip

    write_clip(tmp_path / "clip.mp4", panned(3, 64, 48))
    (tmp_path / "small").mkdir()  # photos on which the report's optimizer takes a fifth of the time
    for number, frame in enumerate(panned(4, 160, 120)):
        Image.fromarray(frame).save(tmp_path / "small" / f"{number}.png")
    arguments = COMMANDS[command].replace("MODEL", str(tiny_model)).split()
    assert left_behind(tmp_path, "-m", "allaprima", *arguments) == []


@pytest.mark.parametrize("module", IMPORTS)
def test_an_import_leaves_nothing(tmp_path, module):
    assert left_behind(tmp_path, "-c", f"import {module}, onnxruntime") == []


def test_the_test_sees_what_it_looks_for(tmp_path):
    """ONNX Runtime alone, as long as it does keep something; else there is nothing to guard against."""
    version = tuple(map(int, __import__("onnxruntime").__version__.split(".")[:2]))
    assert bool(left_behind(tmp_path, "-c", "import onnxruntime")) == (version >= (1, 29) and sys.platform == "linux")
