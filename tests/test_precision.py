"""Copies of a style in fewer bits keep the contract, run where the style runs, and differ by what is printed."""

import errno
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image
from typer.testing import CliRunner

from allaprima.commands.app import app
from allaprima.core.contract import STYLIZED
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Wrote
from allaprima.infer import tiles
from allaprima.infer.library import BUNDLED
from allaprima.infer.stylizer import Stylizer
from allaprima.train.precision import PRECISIONS, copy_in_precision
from allaprima.train.settings import BUNDLED_HELD_OUT
from conftest import PHOTOS, make_model
from test_web import LIBRARIES, WEB, packages  # noqa: F401 - a fixture

MEAN = {"float16": 0.1, "int8": 3}  # grey levels that pictures may differ by
WAVE = BUNDLED / "wave.onnx"


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The path and the Difference of a copy in each precision, and what the listener was told."""
    folder, told = tmp_path_factory.mktemp("copies"), []
    paths = {precision: folder / f"my {precision}.onnx" for precision in PRECISIONS}
    return {p: (path, copy_in_precision(WAVE, path, p, listener=told.append), told[-1]) for p, path in paths.items()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_copy_differs_by_what_is_said_and_keeps_the_contract(precision, copies, photo, monkeypatch):
    path, difference, told = copies[precision]
    assert isinstance(told, Wrote) and told.path == path and f"{difference.mean:.2f} grey levels" in told.about
    style, copy = Stylizer("wave"), Stylizer(path)
    assert path.stat().st_size < 0.85 * WAVE.stat().st_size  # its weights are two fifths of the file
    assert (copy.card.name, copy.card.precision, style.card.precision) == (path.stem, precision, "")
    assert copy.card.grams.keys() == style.card.grams.keys() and copy.card.settings == style.card.settings
    assert (copy(photo, 0) == photo).all()

    sessions = [ort.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (path, WAVE)]
    apart = []
    for name in BUNDLED_HELD_OUT:
        seen = Image.open(PHOTOS / name).convert("RGB")
        seen.thumbnail((640, 640), Image.Resampling.LANCZOS)
        feed = {"image": np.asarray(seen)[None], "strength": np.ones(1, np.float32)}
        one, other = (session.run([STYLIZED], feed)[0].astype(int) for session in sessions)
        apart.append(np.abs(one - other))
    assert difference.mean == pytest.approx(np.mean([each.mean() for each in apart]), rel=0.05)
    assert difference.largest == pytest.approx(max(each.max() for each in apart), abs=5)
    assert difference.mean < MEAN[precision]

    large = np.asarray(Image.open(PHOTOS / "china.jpg").convert("RGB").resize((1200, 1100)))
    monkeypatch.setattr(tiles, "WHOLE", 10**6)
    assert np.abs(copy(large).astype(int) - style(large)).mean() < MEAN[precision]


@pytest.mark.parametrize("library", LIBRARIES)
def test_copies_run_in_javascript(packages, library, copies, tmp_path):  # noqa: F811
    photo = np.asarray(Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize((161, 107)))
    (tmp_path / "photo").write_bytes(photo.tobytes())
    paths = [path for path, _, _ in copies.values()]
    command = ["node", WEB / "stylize.cjs", library, tmp_path / "photo", "107", "161", tmp_path, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for precision, (path, _, _) in copies.items():
        painted = np.frombuffer((tmp_path / f"{path.stem}-1").read_bytes(), np.uint8).reshape(photo.shape).astype(int)
        assert np.abs(painted - Stylizer(path)(photo)).mean() < MEAN[precision]


def test_the_command_writes_a_copy_and_says_how_it_differs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["models", "wave", "--precision", "float16"])
    assert done.exit_code == 0 and done.stdout == "wave-float16.onnx\n"
    assert "grey levels on average, 1 at most" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["wave-float16.onnx"]


def test_a_copy_goes_into_a_folder_and_to_standard_output(tmp_path, tiny_model):
    command = ["models", str(tiny_model), "--precision", "float16", "-o"]
    for output in (f"{tmp_path}/new/", str(tmp_path)):
        assert CliRunner().invoke(app, [*command, output]).exit_code == 0
        assert (Path(output) / "tiny-float16.onnx").is_file()
    done = CliRunner().invoke(app, [*command, "-"])
    (tmp_path / "piped.onnx").write_bytes(done.stdout_bytes)
    assert Stylizer(tmp_path / "piped.onnx").card.precision == "float16"


def test_what_a_listener_raises_is_not_blamed_on_the_disk(tmp_path, tiny_model):
    raised = OSError(errno.ENOSPC, "mine")

    def listener(event):
        if isinstance(event, Advanced):
            raise raised

    with pytest.raises(OSError, match="mine") as caught:
        copy_in_precision(tiny_model, tmp_path / "out.onnx", "float16", listener=listener)
    assert caught.value is raised and not list(tmp_path.iterdir())


def test_what_has_no_copy(tmp_path, copies):
    tiny = make_model(tmp_path / "tiny.onnx")
    with pytest.raises(AllaprimaError, match="too small for int8"):
        copy_in_precision(tiny, tmp_path / "out.onnx", "int8")
    with pytest.raises(AllaprimaError, match="precision must be one of float16, int8, not 'int4'"):
        copy_in_precision(tiny, tmp_path / "out.onnx", "int4")
    with pytest.raises(AllaprimaError, match=r"my float16.onnx is float16: give the model file"):
        copy_in_precision(copies["float16"][0], tmp_path / "out.onnx", "int8")
    with pytest.raises(AllaprimaError, match="is an input"):
        copy_in_precision(tiny, tiny, "float16")
    for arguments, says in (
        (["--precision", "int8"], "needs the style"),
        (["wave", "-o", "x"], "need --precision"),
        (["wave", "--overwrite"], "need --precision"),
        (["wave", "--precision", "int8", "-o", ""], "output is empty"),
        (["wave", "--precision", "int8", "-o", str(tmp_path / "x.y")], "give the model file a name such as x.onnx"),
    ):
        assert says in str(CliRunner().invoke(app, ["models", *arguments]).exception)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
