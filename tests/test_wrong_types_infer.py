"""Every parameter of `run_live`, `bench` and Stylizer, and every switch, given a value of a wrong type: one sentence."""

from functools import partial

import pytest

from allaprima import Stylizer, stylize
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import check_output
from allaprima.infer.bench import bench
from allaprima.infer.cluster import stylize_archive
from allaprima.infer.live import run_live
from allaprima.infer.video import stylize_video
from clips import panned, write_clip
from conftest import PHOTOS

WRONG = [1j, 3.5, b"x", [1], {}, -1]
LIVE = ("styles", "source", "controls", "size", "frames")


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", LIVE)
def test_live(name, value, tiny_model):
    with pytest.raises(AllaprimaError) as caught:
        run_live(**{"styles": [tiny_model], "source": PHOTOS / "fig.jpg", "display": False, name: value})
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("value", ["no", "", 0, 1, None], ids=repr)
def test_what_is_neither_true_nor_false(value, tiny_model, tmp_path):
    """The text "no" would be taken for True, and files replaced."""
    photo, clip = PHOTOS / "fig.jpg", tmp_path / "clip.mp4"
    write_clip(clip, panned(3, 64, 48))
    theirs = tmp_path / "theirs.jpg"
    theirs.write_bytes(b"mine")
    calls = [(partial(stylize, photo, theirs, tiny_model), ("overwrite", "deinterlace"))]
    calls += [(partial(stylize_archive, photo, tmp_path / "out", tiny_model), ("overwrite", "deinterlace"))]
    calls += [(partial(stylize_video, clip, tmp_path / "out.mp4", Stylizer(tiny_model)), ("overwrite", "deinterlace"))]
    calls += [(partial(run_live, [tiny_model], photo), ("mirror", "display", "overwrite", "loop", "deinterlace"))]
    calls += [(partial(check_output, theirs), ("overwrite",))]
    for call, names in calls:
        for name in names:
            with pytest.raises(AllaprimaError, match=f"{name} must be True or False, not {value!r}"):
                call(**{name: value})
    assert theirs.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "theirs.jpg"]


def test_a_camera_of_a_size_beyond_all_numbers(tiny_model):
    with pytest.raises(AllaprimaError, match="width must be a whole number from 1 to 999999"):
        run_live([tiny_model], 0, size=(10**400, 16))


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["model", "sizes", "runs"])
def test_bench(name, value, tiny_model):
    with pytest.raises(AllaprimaError):
        bench(**{"model": tiny_model, "sizes": ["64x64"], "runs": 1, name: value})


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["model", "provider", "threads", "foreign"])
def test_a_stylizer(name, value, tiny_model):
    with pytest.raises(AllaprimaError):
        Stylizer(**{"model": tiny_model, name: value})
