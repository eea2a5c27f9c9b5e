"""`allaprima inspect`: every command on small input, from the command line to the page and the sheet, and bad input."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allaprima.cli import main
from allaprima.errors import AllaprimaError
from allaprima.insight.features import features
from conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def inspect(tmp_path, monkeypatch, capsys):
    """Run `allaprima inspect ARGUMENTS -o page.html` in an empty folder: exit code, stderr, the page, the sheet.

    Checks that a page comes with its sheet, holds its pictures, and that nothing half-written stays behind.
    """

    def run(*arguments):
        folder = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["allaprima", "inspect", *map(str, arguments), "-o", str(folder / "page.html")])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        error = " ".join(capsys.readouterr().err.split())
        files = {file.name for file in folder.glob("*")} if folder.exists() else set()
        if code:
            assert not files
            return code, error, None, None
        assert files == {"page.html", "page.png"} and "page.html and " in error.split(":")[0]
        page = (folder / "page.html").read_text()
        assert page.startswith("<!doctype html>") and "src='data:image/" in page and "src='http" not in page
        sheet = np.asarray(Image.open(folder / "page.png"))
        assert sheet.dtype == np.uint8 and sheet.shape[2] == 3 and sheet.std() > 10
        return code, error, page, sheet

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten photos of 64x64."""
    folder = tmp_path_factory.mktemp("photos")
    for file in sorted(PHOTOS.glob("*.jpg"))[:10]:
        Image.open(file).convert("RGB").resize((64, 64)).save(folder / f"{file.stem}.png")
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the ten photos that a test can add to and take from."""
    target = tmp_path / "photos"
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


# -- features ----------------------------------------------------------------------------------------------------------


def test_features(inspect, copied):
    (copied / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (9, 64)).save(copied / "narrow.png")
    code, error, page, sheet = inspect("features", copied, "--layer", "relu2_1", "--maps", "5,102")
    assert code == 0 and "2 files are skipped" in error and "broken.jpg can't be read" in error
    assert "relu2_1" in page and "10x10 pixels, in steps of 2" in page and "128 maps" in page
    assert sheet.shape[0] > 3 * 120 and sheet.shape[1] > 12 * 120  # two maps side by side


def test_features_draws_maps_that_nine_photos_excite(inspect, folder):
    _, error, page, sheet = inspect("features", folder, "--layer", "relu1_2", "--count", "1")
    assert "1 maps of relu1_2 over 10 photos" in error and "never active" not in page and sheet.shape[1] < 12 * 120


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--layer", "relu9_1"], "no layer 'relu9_1'. It has: conv1_1, relu1_1"),
        (["--layer", "relu1_1", "--maps", "64"], "no map 64: give numbers from 0 to 63"),
        (["--maps", "a"], "'a' is no list of numbers"),
        (["--count", "0"], "count of maps is 0"),
        (["--layer", "relu5_3"], "relu5_3 sees 196x196: give a larger one, or a layer up to relu4_1"),
        (["--loss-network", "vgg11"], "no loss network 'vgg11'"),
        (["--loss-network", "vgg19", "--loss-weights", PHOTOS / "fig.jpg"], "can't be read as vgg19"),
    ],
)
def test_features_of_bad_input(inspect, folder, arguments, sentence):
    code, error, *_ = inspect("features", folder, *arguments)
    assert code == 2 and sentence in error and "Traceback" not in error


def test_fewer_than_nine_photos(inspect, copied):
    for file in list(copied.iterdir())[:2]:
        file.unlink()
    assert "has 8 photos: give a folder of at least 9" in inspect("features", copied)[1]
    (copied / "a.jpg").write_bytes(b"no picture")
    assert "8 photos can be used of 9, and nine are needed: " in inspect("features", copied)[1]
    assert "is not a folder" in inspect("features", copied / "a.jpg")[1]


@pytest.mark.parametrize(
    "output, sentence",
    [("page.png", "does not end in .html"), ("folder.html", "is a folder"), ("file/page.html", "is a file and not a folder")],
)
def test_an_output_that_cannot_be_written(output, sentence, tmp_path, folder):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(AllaprimaError, match=sentence):
        features(folder, output=tmp_path / output)


def test_ctrl_c_while_writing_leaves_nothing(inspect, folder, monkeypatch):
    save = Image.Image.save

    def interrupted(image, target, *arguments, **options):
        if not isinstance(target, Path):
            return save(image, target, *arguments, **options)
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    code, error, *_ = inspect("features", folder, "--layer", "relu1_1", "--count", "1")
    assert code == 130 and "Wrote" not in error
