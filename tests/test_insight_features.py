"""`allaprima inspect features`, and what all pages share: the sheet, where they can be written, Ctrl-C."""

import numpy as np
import pytest
from PIL import Image

from allaprima.core.errors import AllaprimaError
from allaprima.insight.deconvnet import as_picture
from allaprima.insight.features import features
from allaprima.insight.sheet import LINE, grid
from conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("one_thread")


def test_features(inspect, copied):
    (copied / "broken.jpg").write_bytes(b"not a picture")
    Image.new("RGB", (9, 64)).save(copied / "narrow.png")
    code, error, page, sheet = inspect("features", copied, "--layer", "relu2_1", "--maps", "5,102")
    assert code == 0 and "2 files are skipped" in error and "broken.jpg is not a picture that can be read" in error
    assert "relu2_1" in page and "10x10 pixels, in steps of 2" in page and "128 maps" in page
    assert sheet.shape[0] > 3 * 120 and sheet.shape[1] > 12 * 120  # two maps side by side


def test_features_draws_maps_that_nine_photos_excite(inspect, ten_photos):
    _, error, page, sheet = inspect("features", ten_photos, "--layer", "relu1_2", "--count", "1")
    assert "1 maps of relu1_2 over 10 photos" in error and "never active" not in page and sheet.shape[1] < 12 * 120


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--layer", "relu9_1"], "no layer 'relu9_1'. It has: conv1_1, relu1_1"),
        (["--layer", "relu1_1", "--maps", "64"], "maps must be numbers from 0 to 63 for relu1_1, not 64"),
        (["--maps", "a"], "maps must be numbers with commas between them, for example 3,17, not 'a'"),
        (["--count", "0"], "count must be a whole number of at least 1, not 0"),
        (["--size", "0"], "size must be a whole number of at least 1, not 0"),
        (["--layer", "relu5_3"], "relu5_3 sees 196x196: give a larger one, or a layer up to relu4_1"),
        (["--loss-network", "vgg11"], "no loss network 'vgg11'"),
        (["--loss-network", "vgg19", "--loss-weights", PHOTOS / "fig.jpg"], "can't be read as vgg19"),
    ],
)
def test_features_of_bad_input(inspect, ten_photos, arguments, sentence):
    code, error, *_ = inspect("features", ten_photos, *arguments)
    assert code == 2 and sentence in error and "Traceback" not in error


def test_a_layer_that_nothing_excites(inspect, ten_photos, monkeypatch):
    monkeypatch.setattr("allaprima.insight.features.top_activations", lambda *_: ([[] for _ in range(64)], []))
    code, error, *_ = inspect("features", ten_photos, "--layer", "relu1_1")
    assert code == 2 and "Not one map of relu1_1 is excited by nine of the photos" in error


def test_fewer_than_nine_photos(inspect, copied):
    for file in list(copied.iterdir())[:2]:
        file.unlink()
    assert "has 8 photos: give a folder with at least 9" in inspect("features", copied)[1]
    (copied / "a.jpg").write_bytes(b"not a picture")
    assert "8 of 9 photos can be used, and it takes at least 9: " in inspect("features", copied)[1]
    assert "is not a folder" in inspect("features", copied / "a.jpg")[1]


@pytest.mark.parametrize(
    "output, sentence",
    [
        ("page.png", "output must be an .html file, for example page.html"),
        ("folder.html", "is a folder"),
        ("file/page.html", "is a file and not a "),
    ],
)
def test_an_output_that_cannot_be_written(output, sentence, tmp_path, ten_photos):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(AllaprimaError, match=sentence):
        features(ten_photos, output=tmp_path / output)


def test_cells_of_a_sheet():
    red, blue = (np.full((30, 40, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    sheet = grid([[(red, "above"), (blue, "")], [(None, "a row's name"), (blue[:10], "")]], pad=4)
    top = 4 + LINE
    assert (sheet[top : top + 30, 4:44] == red).all() and (sheet[4:top, 4:44] < 128).any()
    left = 4 + sheet[0].shape[0] - 3 * 4 - 40 + 4  # behind the first column, which is as wide as the row's name
    assert (sheet[top : top + 30, left : left + 40] == blue).all()
    assert (sheet[top + 34 : top + 44, left : left + 40] == blue[:10]).all()


def test_projections_as_pictures():
    projection = np.zeros((3, 4, 5), np.float32)
    projection[0, 1, 2], projection[2, 3, 4], projection[:, 0, 0] = 2, -2, np.nan
    picture = as_picture(projection)
    assert picture[1, 2].tolist() == [255, 128, 128] and picture[3, 4].tolist() == [128, 128, 0]
    assert picture[0, 0].tolist() == [255] * 3 and picture[2, 2].tolist() == [128] * 3


def test_ctrl_c_while_writing_leaves_nothing(inspect, ten_photos, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    code, error, *_ = inspect("features", ten_photos, "--layer", "relu1_1", "--count", "1")
    assert code == 130 and "Wrote" not in error


def test_a_page_is_never_written_over_what_it_reads_nor_over_files_of_others(copied):
    """The sheet's name is that of a photo in the folder; then that of another's file; then an earlier page's own."""
    small = {"layer": "relu1_1", "count": 1}
    photo = next(copied.glob("*.png"))
    before = photo.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(AllaprimaError, match="is an input"):
            features(copied, output=photo.with_suffix(".html"), overwrite=overwrite, **small)
    assert photo.read_bytes() == before and not photo.with_suffix(".html").exists()
    page = copied.parent / "page.html"
    page.write_text("of another")
    with pytest.raises(AllaprimaError, match="page.html already exists. .*--overwrite"):
        features(copied, output=page, **small)
    features(copied, output=page, overwrite=True, **small)
    features(copied, output=page, **small)  # its own page is replaced without asking
    assert "relu1_1" in page.read_text()
