"""The command `baseline`: what it writes, what it refuses, and what is left after Ctrl-C."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from allaprima.baseline.files import optimize_files
from allaprima.baseline.optimizer import Descent
from allaprima.commands import baseline as commands
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Started, Wrote
from allaprima.models.loss_network import LossNetwork
from baseline_cases import GOAL, bundled, costs_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


@pytest.fixture(scope="module")
def content():
    return bundled("chelsea.jpg")


@pytest.fixture(scope="module")
def painting():
    return bundled("brushes.jpg")


@pytest.fixture
def files(tmp_path, content, painting):
    Image.fromarray(content).save(tmp_path / "photo.png")
    Image.fromarray(painting).save(tmp_path / "painting.png")
    return tmp_path


def run(*arguments):
    app = Typer()
    app.command()(commands.baseline)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_picture_trace_and_steps(files, content):
    goal = ["--content-layers", "relu2_2=1e-5", "--style-layers", "relu1_2=1e-9,relu2_2=1e-9", "--raw-weights"]
    result = run(
        files / "photo.png",
        files / "painting.png",
        "-o",
        files / "out.png",
        "--iterations",
        4,
        "--trace",
        files / "trace.csv",
        "--every",
        2,
        *goal,
    )
    assert result.exit_code == 0, result.output
    painted = np.asarray(Image.open(files / "out.png"))
    assert painted.shape == content.shape and not np.array_equal(painted, content)
    rows = list(csv.DictReader((files / "trace.csv").open()))
    assert [int(row["iteration"]) for row in rows] == [0, 1, 2, 3, 4]
    assert float(rows[4]["J"]) < float(rows[0]["J"])
    steps = sorted((files / "out_steps").iterdir())
    assert [step.name for step in steps] == ["00000.png", "00002.png", "00004.png"]
    assert np.array_equal(np.asarray(Image.open(steps[0])), content)
    assert np.array_equal(np.asarray(Image.open(steps[2])), painted)


def test_pictures_of_steps_never_take_the_place_of_an_input_or_of_another_file(files):
    steps, options = files / "out_steps", {"every": 2, "size": 64, "descent": Descent(iterations=4)}
    steps.mkdir()
    first = steps / "00000.png"
    first.write_bytes((files / "photo.png").read_bytes())
    with pytest.raises(AllaprimaError, match="is an input"):
        optimize_files(first, [files / "painting.png"], files / "out.png", overwrite=True, **options)
    with pytest.raises(AllaprimaError, match="00000.png already exists"):
        optimize_files(files / "photo.png", [files / "painting.png"], files / "out.png", **options)
    assert first.read_bytes() == (files / "photo.png").read_bytes() and not (files / "out.png").exists()


def test_a_json_trace_says_the_same_and_events_tell_of_each_file(files, network, capfd):
    events = []
    result = optimize_files(
        files / "photo.png",
        [files / "painting.png"],
        files / "out.jpg",
        trace=files / "t.json",
        size=64,
        objective=GOAL,
        network=network,
        balanced=False,
        descent=Descent(iterations=2),
        listener=events.append,
    )
    assert capfd.readouterr() == ("", "")
    assert isinstance(events[0], Started) and f"Writing {files / 'out.jpg'} (64x" in events[0].about
    assert [event.done for event in events if isinstance(event, Advanced)] == [0, 1, 2]
    assert [event.path for event in events if isinstance(event, Wrote)] == [files / "out.jpg", files / "t.json"]
    rows = json.loads((files / "t.json").read_text())
    assert [row["J"] for row in rows] == [step.J for step in result.trace]
    assert list(rows[0]) == [
        "iteration",
        "evaluations",
        "seconds",
        "size",
        "J",
        "content",
        "content_as_written",
        "style",
        "tv",
    ]
    assert max(Image.open(files / "out.jpg").size) == 64


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere.png", "painting.png", "-o", "out.png"], "nowhere.png does not exist"),
        (["photo.png", "photo.txt", "-o", "out.png"], "is not a picture that can be read"),
        (["photo.png", "painting.png", "-o", "out.xyz"], "ending of a picture"),
        (["photo.png", "painting.png", "-o", "out.png", "--trace", "t.txt"], "must be a .csv or .json file, not t.txt"),
        (
            ["photo.png", "painting.png", "-o", "out.png", "--size", "0"],
            "size must be a whole number of at least 1, not 0",
        ),
        (["photo.png", "painting.png", "-o", "out.png", "--style-weights", "a,b"], "for example 2,1, not 'a,b'"),
        (["photo.png", "painting.png", "-o", "out.png", "--style-layers", "relu1_2=x"], "relu3_3=0.5"),
        (["photo.png", "painting.png", "-o", "out.png", "--loss-network", "alexnet"], "Choose one of"),
        (["dot.png", "painting.png", "-o", "out.png"], "1x1 is too small"),
        (["photo.png", "painting.png", "-o", "photo.png", "--overwrite"], "photo.png is an input"),
        (["photo.png", "painting.png", "-o", "./painting.png"], "painting.png is an input"),
        (["photo.png", "painting.png", "-o", "dot.png"], "dot.png already exists"),
        (["photo.png", "painting.png", "-o", "new.png/"], "new.png/ is a folder. Give a file name inside it"),
        (["photo.png", "painting.png", "-o", "new.png", "--trace", "t.csv/"], "t.csv/ is a folder"),
        (["photo.png", "painting.png", "-o", "new.png", "--seed", 2**64], "seed must be a whole number from 0 to"),
        (["photo.png", "painting.png", "-o", "new.png", "--tv", "nan"], "tv must be a number of at least 0, not nan"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, sentence, files, monkeypatch):
    (files / "photo.txt").write_text("not a picture")
    Image.new("RGB", (1, 1)).save(files / "dot.png")
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    result = run(*arguments, "--raw-weights")
    assert isinstance(result.exception, AllaprimaError) and sentence in str(result.exception)
    assert sorted(files.rglob("*")) == before


def test_without_torch_the_sentence_names_the_extra(files):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from allaprima.commands import baseline as commands\n"
        "try: commands.baseline('a', ['b'], 'c.png')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (
        done.stdout.strip() == "AllaprimaError This needs the extra 'train'. In the checkout: pip install '.[train]'."
    )


def test_sigint_leaves_the_best_picture_in_its_file(files, content, painting, network):
    """The real thing: a process, Ctrl-C after a few iterations, exit code 130, a whole and better picture."""
    code = "import typer; from allaprima.commands.baseline import baseline; typer.run(baseline)"
    command = [
        sys.executable,
        "-c",
        code,
        "photo.png",
        "painting.png",
        "-o",
        "out.png",
        "--iterations",
        "100000",
        "--every",
        "1",
        "--content-layers",
        "relu2_2=1e-5",
        "--style-layers",
        "relu1_2=1e-9,relu2_2=1e-9",
        "--raw-weights",
        "--trace",
        "trace.csv",
    ]
    process = subprocess.Popen(command, cwd=files, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while not (files / "out_steps" / "00003.png").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    assert not (files / "out.png").exists()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said and "stopped at iteration" in said
    painted = np.array(Image.open(files / "out.png"))
    assert costs_of(painted, content, painting, network).J < costs_of(content, content, painting, network).J
    assert len((files / "trace.csv").read_text().splitlines()) > 4
    assert not list(files.glob(".*"))
