"""Every parameter of `run_live`, `bench` and Stylizer, given a value of a wrong type: one sentence."""

import pytest

from allaprima import Stylizer
from allaprima.core.errors import AllaprimaError
from allaprima.infer.bench import bench
from allaprima.infer.live import run_live
from conftest import PHOTOS

WRONG = [object(), 3.5, b"x", [1], {}, -1]
LIVE = ("styles", "source", "controls", "size", "frames")


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", LIVE)
def test_live(name, value, tiny_model):
    with pytest.raises(AllaprimaError) as caught:
        run_live(**{"styles": [tiny_model], "source": PHOTOS / "fig.jpg", "display": False, name: value})
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


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
