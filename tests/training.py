"""What the tests of training share: a small training, a way to stop it, the command line, the weights in a file."""

import os
import sys
import tempfile
from itertools import count

import pytest
from PIL import Image
from safetensors import safe_open

from allaprima.commands.app import main
from allaprima.train.settings import Settings
from conftest import PHOTOS, ROOT

STYLE = ROOT / "examples" / "styles" / "starry_night.jpg"
if "ALLAPRIMA_SMALL_PHOTOS" not in os.environ:  # a process that a test starts finds those of the tests
    _folder = tempfile.TemporaryDirectory()
    os.environ["ALLAPRIMA_SMALL_PHOTOS"] = _folder.name
    for _file in PHOTOS.glob("*.jpg"):
        with Image.open(_file) as _photo:
            _photo.convert("RGB").resize((128, 96)).save(f"{_folder.name}/{_file.name}", quality=95)
# Few and small photos, and the first layers of the loss network, which take a third of the time of all.
LAYERS = {"content_layers": {"relu2_2": 1.0}, "style_layers": {"relu1_2": 0.5, "relu2_2": 1.0}}
LIGHT = {"photos": os.environ["ALLAPRIMA_SMALL_PHOTOS"], **LAYERS}
SMALL = Settings(steps=6, batch=2, size=64, style_size=96, warmup=2, **LIGHT)
SMALL_OPTIONS = ["--batch", 2, "--size", 64, "--style-size", 96, "--warmup", 2, "--device", "cpu", "--no-report"]
SMALL_OPTIONS += ["--content-layers", "relu2_2", "--style-layers", "relu1_2=0.5,relu2_2=1", "--photos", LIGHT["photos"]]


def after(steps: int):
    """A `stop` that says yes after so many steps."""
    asked = count(1)
    return lambda: next(asked) >= steps


def weights(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def run_cli(monkeypatch, capsys, *arguments):
    """The exit code and stderr, in one line, of the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["allaprima", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return exit.value.code, " ".join(capsys.readouterr().err.split())
