"""`allaprima train`: what is asked for, said, refused, stopped and continued on the command line."""

import signal
import subprocess
import sys
import time

import pytest

from allaprima.infer.stylizer import Stylizer
from allaprima.train.checkpoint import checkpoint_of
from training import SMALL_OPTIONS, STYLE, run_cli, weights

pytestmark = pytest.mark.usefixtures("one_thread")

COMMAND = [sys.executable, "-m", "allaprima", "train", str(STYLE)]


def test_ctrl_c_saves_and_resume_finishes(tmp_path):
    output = tmp_path / "stopped.onnx"
    command = [*COMMAND, "-o", str(output), *map(str, SMALL_OPTIONS)]
    about = ["--name", "my style", "--no-painting"]
    process = subprocess.Popen([*command, *about, "--steps", "100000"], stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and not list(output.with_suffix(".run").glob("preview-*.jpg")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    done = len(weights(checkpoint_of(output))["history"])
    assert process.returncode == 130 and not output.exists() and done > 0
    assert (
        f"Saved step {done} in" in said
        and f"To continue: allaprima train {STYLE} -o {output} --resume --no-report\n" in said
    )
    more = ["--resume", "--steps", str(done + 1), "--no-report"]
    subprocess.run([*COMMAND, "-o", str(output), *more], check=True, timeout=120)
    card = Stylizer(output).card
    assert card.name == "my style" and card.grams and not card.painting


def test_a_training_is_told_and_not_replaced(tmp_path, monkeypatch, capsys):
    arguments = ["train", STYLE, "-o", tmp_path / "s.onnx", "--steps", 1, *SMALL_OPTIONS]
    code, told = run_cli(monkeypatch, capsys, *arguments)
    assert code == 0 and "from its pretrained start" in told and "Wrote" in told and "allaprima live -m" in told
    code, told = run_cli(monkeypatch, capsys, *arguments)
    assert code == 2 and "--overwrite" in told
    code, told = run_cli(monkeypatch, capsys, *arguments, "--overwrite", "--from", "scratch")
    assert code == 0 and "from random weights" in told


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.jpg", "-o", "x.onnx"], "does not exist"),
        (["empty.jpg", "-o", "x.onnx"], "empty.jpg is empty"),
        ([STYLE, "-o", "x.pt"], "does not end in .onnx"),
        ([STYLE, "-o", "empty.jpg/x.onnx"], "folder"),
        ([STYLE, "-o", "y.onnx"], "y.run is a file"),
        ([STYLE, "-o", "x.onnx", "--resume"], "no training to continue"),
        ([STYLE, "-o", "x.onnx", "--minutes", "0"], "minutes must be a number above 0"),
        ([STYLE, "-o", "x.onnx", "--device", "cuda:7"], "no device"),
        ([STYLE, "-o", "x.onnx", "--architecture", "unet"], "live, best or johnson"),
        ([STYLE, "-o", "x.onnx", "--from", "nowhere"], "start must be pretrained or scratch"),
        ([STYLE, "-o", "x.onnx", "--photos", "missing"], "not a folder"),
        ([STYLE, "-o", "x.onnx", "--style-layers", "relu1_2=much"], "relu3_3=0.5"),
        ([STYLE, "-o", "x.onnx", "--loss-network", "vgg11"], "vgg16_oxford"),
        ([STYLE, "-o", "x.onnx", "--loss-weights", "empty.jpg"], "can't be read as vgg16_oxford"),
        ([STYLE, "-o", "x.onnx", "--seed", "-1"], "seed must be a whole number from 0"),
        ([STYLE, "-o", "x.onnx", "--config", "missing.toml"], "check the spelling of --config"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "y.run").touch()
    code, said = run_cli(monkeypatch, capsys, "train", *arguments)
    assert code == 2 and words in said and "Traceback" not in said
    assert {p.name for p in tmp_path.iterdir()} == {"empty.jpg", "y.run"}


def test_a_broken_checkpoint_is_one_sentence(tmp_path, monkeypatch, capsys):
    checkpoint = checkpoint_of(tmp_path / "x.onnx")
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"nonsense")
    code, said = run_cli(monkeypatch, capsys, "train", STYLE, "-o", tmp_path / "x.onnx", "--resume")
    assert code == 2 and "delete it" in said


def test_the_report_is_written_beside_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("allaprima.insight.report.ITERATIONS", 2)
    options = [option for option in SMALL_OPTIONS if option != "--no-report"]
    code, told = run_cli(monkeypatch, capsys, "train", STYLE, "-o", tmp_path / "x.onnx", "--steps", 2, *options)
    assert code == 0 and f"Wrote {tmp_path / 'x.html'}: the report" in told and (tmp_path / "x.html").exists()


def test_a_folder_that_is_not_there_yet_is_meant_by_its_slash(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "styles"
    code, _ = run_cli(monkeypatch, capsys, "train", STYLE, "-o", f"{folder}/", "--steps", 1, *SMALL_OPTIONS)
    assert code == 0 and (folder / STYLE.with_suffix(".onnx").name).exists()


def test_without_the_extra_the_public_names_say_what_to_install():
    """In a fresh process: one sentence for what needs torch, and help for the rest."""
    code = "import sys; sys.modules['torch'] = None; import allaprima; "
    ran = subprocess.run(
        [sys.executable, "-c", code + "from allaprima import train_style"], capture_output=True, text=True
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert (
        "This needs the extra 'train'" in last
        and "pip install '.[train]'" in last
        and last.startswith("allaprima.core.errors")
    )
    told = subprocess.run([sys.executable, "-c", code + "help(allaprima)"], capture_output=True, text=True)
    assert told.returncode == 0 and "class Stylizer" in told.stdout and "pip install '.[train]'" in told.stdout
