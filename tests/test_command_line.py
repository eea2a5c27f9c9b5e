"""The command line in processes of its own: what it prints where, in consoles of any kind, and how it ends."""

import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image


def allaprima(*arguments, cwd=None, stdin=b"", **environment):
    return subprocess.run(
        [sys.executable, "-m", "allaprima", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def encoded(kind="PNG"):
    data = io.BytesIO()
    Image.new("RGB", (24, 20), (200, 120, 40)).save(data, kind)
    return data.getvalue()


CONSOLES = {
    "utf-8": {"PYTHONIOENCODING": "utf-8:strict"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "cp1252": {"PYTHONIOENCODING": "cp1252:strict"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
NAMES = [b"caf\xe9.png", "写真 ☺.png".encode(), b"[red]x[bold].png", b"a\nb.png", b"%s{0}\\.png"]


@pytest.mark.parametrize("console", CONSOLES)
def test_printing_never_fails(tmp_path, tiny_model, console):
    """Neither a path that is no text, nor one with markup, nor one outside of the console's alphabet; in errors too."""
    folder = os.fsencode(tmp_path)
    for name in NAMES:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(encoded())
    with open(os.path.join(folder, b"broken\xe9[bold].png"), "wb") as file:
        file.write(encoded()[:60])
    done = allaprima("stylize", ".", "-o", "out", "-m", tiny_model, cwd=tmp_path, **CONSOLES[console])
    assert done.returncode == 2 and b"Traceback" not in done.stderr and b"[bold].png is" in done.stderr
    assert sorted(os.listdir(os.path.join(folder, b"out"))) == sorted(NAMES)
    assert os.path.join(b"out", b"caf\xe9.png") in done.stdout  # as its bytes, for the next program in the pipe
    assert b"[red]x[bold].png" in done.stdout


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_standard_input_and_output(tmp_path, tiny_model, kind):
    done = allaprima("stylize", "-", "-m", tiny_model, "-s", "0", stdin=encoded(kind))
    assert done.returncode == 0, done.stderr
    assert b"Stylizing standard input to standard output, as stdin." in done.stderr
    image = Image.open(io.BytesIO(done.stdout))
    assert image.format == kind and image.size == (24, 20)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (200, 120, 40)).max() < 12
    (tmp_path / "a.png").write_bytes(encoded())
    done = allaprima("stylize", tmp_path / "a.png", "-o", "-", "-m", tiny_model)
    assert Image.open(io.BytesIO(done.stdout)).size == (24, 20) and os.listdir(tmp_path) == ["a.png"]
    assert allaprima("stylize", "-", "-o", tmp_path / "b.png", "-m", tiny_model, stdin=encoded()).returncode == 0
    assert Image.open(tmp_path / "b.png").size == (24, 20)
    assert allaprima("stylize", "-", "a.png", "-m", tiny_model).returncode == 2
    done = allaprima("stylize", "-", "-m", tiny_model, stdin=b"text")
    assert done.returncode == 2 and done.stderr.startswith(b"error: standard input is not a picture")
    (tmp_path / "c.png").write_bytes(encoded())
    for several in (tmp_path, tmp_path / "*.png"):
        done = allaprima("stylize", several, "-o", "-", "-m", tiny_model)
        assert done.returncode == 2 and b"stands for several files" in done.stderr and not done.stdout


@pytest.mark.parametrize(
    "options, said",
    [
        (["--no-steady"], b"need --video"),
        (["-o", "map.png"], b"need --video"),
        (["--video", "x.mp4", "--size", "64x64"], b"--video is for steadiness"),
    ],
)
def test_what_bench_would_not_heed_is_refused(options, said):
    done = allaprima("bench", "-m", "wave", *options)
    assert done.returncode == 2 and said in done.stderr


def test_a_token_that_nobody_would_see_is_not_made():
    done = allaprima("serve", "--host", "0.0.0.0", "-q")
    assert done.returncode == 2 and b"give one with --token" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["baseline", "a.png", "a.png", "-o", "b.png"],
        ["compare", "a.png", "-m", "wave"],
        ["inspect", "loss", "a.png", "-m", "wave"],
        ["train", "a.png", "-o", "b.onnx"],
    ],
)
def test_threads_of_torch_sleep_soon_beside_other_programs(tmp_path, arguments):
    """OpenMP reads how long they spin once: so it is said before torch is imported, for which a module stands here."""
    (tmp_path / "a.png").write_bytes(encoded())
    (tmp_path / "torch.py").write_text("import os; print(os.environ['GOMP_SPINCOUNT'], flush=True); os._exit(0)")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    done = subprocess.run(
        [sys.executable, "-m", "allaprima", *arguments],
        cwd=tmp_path,
        capture_output=True,
        env=environment | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.split() == [b"1000"], done.stderr


def test_quiet(tmp_path, tiny_model):
    (tmp_path / "a.png").write_bytes(encoded())
    done = allaprima("stylize", tmp_path / "a.png", "-q", "-m", tiny_model)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"") and (tmp_path / "a-tiny.png").is_file()
    done = allaprima("stylize", tmp_path / "none.png", "-q", "-m", tiny_model)
    assert done.returncode == 2 and done.stderr.startswith(b"error: ")


@pytest.mark.parametrize("command", [[], ["stylize"], ["train"], ["inspect"], ["inspect", "loss"]])
def test_help_in_short(command):
    done = allaprima(*command, "-h")
    assert done.returncode == 0 and b"Usage: " in done.stdout and b"--help" in done.stdout


def test_shell_completion():
    done = allaprima("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0 and b"complete" in done.stdout


def test_names_of_styles_are_never_cut():
    done = allaprima("models")
    assert "contrast_of_forms" in [line.split("\t")[0] for line in done.stdout.decode().splitlines()]


def test_a_reader_that_goes_away(tmp_path, tiny_model):
    """As `allaprima stylize ... | head -0`: the work is done, and nothing is said of the pipe."""
    (tmp_path / "a.png").write_bytes(encoded())
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "allaprima", "stylize", tmp_path / "a.png", "-m", tiny_model]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (tmp_path / "a-tiny.png").is_file() and b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_says_stopped(tmp_path):
    for number in range(400):
        Image.new("RGB", (400, 300), (number % 255, 1, 2)).save(tmp_path / f"{number}.png")
    command = [sys.executable, "-m", "allaprima", "stylize", ".", "-o", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (tmp_path / "out" / "1.png").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and told.decode().strip().endswith("Stopped.")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
