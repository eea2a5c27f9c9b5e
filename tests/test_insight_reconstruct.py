"""`allaprima inspect reconstruct`: what layers give back, the page, bad input."""

import numpy as np
import pytest
from PIL import Image

from allaprima.core.events import Advanced, Wrote
from allaprima.insight.reconstruct import from_noise, plan, reconstruct
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import gram_matrix, style_cost
from allaprima.models.tensors import to_tensor
from conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("one_thread")


def test_reconstruct(inspect):
    code, error, page, sheet = inspect(
        "reconstruct",
        PHOTOS / "china.jpg",
        PHOTOS / "brushes.jpg",
        "--size",
        "48",
        "--iterations",
        "3",
        "--content-layers",
        "relu2_1",
        "--style-layers",
        "relu1_1,relu1_2",
    )
    assert code == 0 and "3 pictures made from noise in 3 iterations" in error and "style, relu1_2" in error
    assert "relu1_1, relu1_2" in page and sheet.shape[0] > 2 * 32 and sheet.shape[1] > 3 * 48


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([PHOTOS / "no.jpg"], "no.jpg does not exist"),
        ([PHOTOS / "fig.jpg", "--content-layers", "relu6_1"], "no layer 'relu6_1'. It has: conv1_1"),
        ([PHOTOS / "fig.jpg", "--size", "12"], "fig.jpg of 12x8 is too small for relu5_2"),
        ([PHOTOS / "fig.jpg", "--iterations", "0"], "iterations must be a whole number of at least 1, not 0"),
        (
            [PHOTOS / "fig.jpg", "--content-layers", ",", "--style-layers", ""],
            "content_layers and style_layers are both empty",
        ),
    ],
)
def test_reconstruct_of_bad_input(inspect, arguments, sentence):
    code, error, *_ = inspect("reconstruct", PHOTOS / "fig.jpg", *arguments)
    assert code == 2 and sentence in error


def test_what_is_reconstructed():
    assert plan(["a", "b"], ["x", "y", "z"]) == [
        ("content", ("a",)),
        ("content", ("b",)),
        ("style", ("x",)),
        ("style", ("x", "y")),
        ("style", ("x", "y", "z")),
    ]


def test_a_first_layer_gives_the_photo_back_and_its_gram_matrix_does_not():
    photo = np.asarray(Image.open(PHOTOS / "coffee.jpg").resize((48, 40)))
    painting = np.asarray(Image.open(PHOTOS / "fig.jpg").resize((56, 44)))
    network = LossNetwork()
    content = from_noise(photo, painting, "content", ["relu1_1"], network, iterations=15)
    style = from_noise(photo, painting, "style", ["relu1_1"], network, iterations=15)
    assert content.image.shape == (40, 48, 3) and content.error < 30 and content.remaining < 0.01
    assert style.image.shape == painting.shape and style.remaining < 0.01 and style.error > 2 * content.error
    grams = [gram_matrix(network(to_tensor(p), ["relu1_1"])["relu1_1"]) for p in (painting, style.image, photo)]
    assert style_cost(grams[1], grams[0]) < 0.1 * style_cost(grams[2], grams[0])


def test_ctrl_c_while_descending_writes_nothing(tmp_path):
    def listener(event):
        if isinstance(event, Advanced) and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(PHOTOS / "fig.jpg", PHOTOS / "fig.jpg", tmp_path / "page.html", size=48, listener=listener)
    assert not list(tmp_path.iterdir())


def test_it_reports_by_events_and_prints_nothing(tmp_path, capfd):
    events, photo = [], PHOTOS / "fig.jpg"
    layers = {"content_layers": ["relu1_1"], "style_layers": []}
    reconstruct(photo, photo, tmp_path / "page.html", **layers, size=48, iterations=2, listener=events.append)
    assert events[0].total == 2 and "page.html and " in events[0].about
    assert [event.done for event in events if isinstance(event, Advanced)] == [0, 1, 2, 2]
    assert [event.path.name for event in events if isinstance(event, Wrote)] == ["page.html", "page.png"]
    assert capfd.readouterr() == ("", "")
