"""What the tests of training share: a small training, a way to stop it, the command line, the weights in a file."""

import sys
from itertools import count

import pytest
from safetensors import safe_open

from allaprima.commands.app import main
from allaprima.train.settings import Settings
from conftest import ROOT

STYLE = ROOT / "examples" / "styles" / "starry_night.jpg"
SMALL = Settings(steps=6, batch=2, size=64, style_size=96, warmup=2)
SMALL_OPTIONS = ["--batch", 2, "--size", 64, "--style-size", 96, "--warmup", 2, "--device", "cpu", "--no-report"]


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
