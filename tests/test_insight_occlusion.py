"""`allaprima inspect occlusion`: where a square matters, with and without a classifier, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from allaprima.insight.occlusion import centres, occlude, occluded
from allaprima.models.loss_network import LossNetwork
from conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("one_thread")


def spotted():
    """A photo of 96x80 that is grey but for a coin of noise around (y, x) = (30, 60)."""
    random = np.random.default_rng(0)
    photo = np.full((80, 96, 3), 128, np.uint8)
    y, x = np.mgrid[:80, :96]
    inside = (y - 30) ** 2 + (x - 60) ** 2 < 10**2
    photo[inside] = random.integers(0, 256, (inside.sum(), 3))
    return photo


def test_activity_goes_where_the_square_hides_the_only_thing_there_is():
    found = occlude(LossNetwork(), "relu2_2", spotted(), square=30, stride=10)
    assert found.activity.shape == (8, 10) and found.label is None
    row, column = np.unravel_index(found.activity.argmin(), found.activity.shape)
    assert abs((row + 0.5) * 10 - 30) <= 10 and abs((column + 0.5) * 9.6 - 60) <= 10
    # grey on grey changes nothing, 0.5 against 128 of 255 aside
    assert found.activity.min() < 0.6 and abs(found.activity[6, 1] - 1) < 1e-3
    strength = np.abs(found.projection).sum(0)
    assert strength[12:48, 42:78].sum() > 0.99 * strength.sum() > 0


def test_a_square_is_cut_at_the_rim():
    picture = torch.zeros(1, 3, 20, 30)
    assert (occluded(picture, 10, 15, 8)[0, 0] > 0).nonzero().aminmax(dim=0)[0].tolist() == [6, 11]
    assert occluded(picture, 0, 29, 8)[0, 0].count_nonzero() == 4 * 5 and picture.count_nonzero() == 0


@given(side=st.integers(1, 500), stride=st.integers(1, 600))
def test_squares_are_even_and_no_further_apart_than_asked(side, stride):
    places = centres(side, stride)
    steps = np.diff([-places[0], *places, 2 * side - places[-1]])
    assert np.allclose(steps, steps[0]) and steps[0] <= stride and steps[0] * (len(places) - 1) < side


class Bright(torch.nn.Module):
    """A classifier of two classes: is the middle of the upper left quarter bright?"""

    def forward(self, x):
        level = x[:, :, 40:72, 40:72].mean((1, 2, 3))
        return torch.stack([5 * level, -5 * level], 1)


def test_class_probability_falls_where_the_class_is_hidden(monkeypatch):
    monkeypatch.setattr("allaprima.insight.occlusion.labels", lambda: ["bright", "dark"])
    photo = spotted()
    photo[:40, :48] = 255
    photo[40:, :] = 0
    found = occlude(LossNetwork(), "relu1_2", photo, square=40, stride=20, classifier=Bright())
    assert found.label == "bright" and found.unhidden > 0.99 and found.probability.shape == (4, 5)
    assert found.probability.argmin() in (0, 1, 5, 6)
    assert found.probability[3, 4] == pytest.approx(found.unhidden, abs=1e-3)
    assert {name for row in found.most_probable for name in row} <= {"bright", "dark"}


def vgg16_file(path):
    """A file as torchvision's VGG-16, with one number for each tensor, so that it takes no room."""
    from torchvision import models

    with torch.device("meta"):
        model = models.vgg16()
    torch.save({key: torch.full((1,), 0.01).expand(value.shape) for key, value in model.state_dict().items()}, path)
    return path


def test_occlusion_with_a_classifier(inspect, tmp_path):
    Image.fromarray(spotted()).save(tmp_path / "spot.png")
    file = vgg16_file(tmp_path / "vgg16.pth")
    code, error, page, sheet = inspect(
        "occlusion", tmp_path / "spot.png", "--layer", "relu2_1", "--stride", "40", "--classifier", file
    )
    assert code == 0 and "left out" not in error and "<table>" in page and sheet.shape[1] == 5 * 330


def test_occlusion_without_a_classifier(inspect, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    arguments = ["--layer", "relu2_1", "--size", "80", "--stride", "40"]
    code, error, page, sheet = inspect("occlusion", PHOTOS / "fig.jpg", PHOTOS / "coffee.jpg", *arguments)
    assert code == 0 and "put torchvision's vgg16-397923af.pth into" in error and "<table>" not in page
    assert sheet.shape[1] == 4 * 330 and "coffee.jpg" in page


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--layer", "pool9"], "no layer 'pool9'. It has: conv1_1"),
        (["--size", "80"], "has 80x54 pixels and relu5_3 sees 196x196: give a larger one, or a layer up to pool3"),
        (["--stride", "0"], "stride must be a whole number of at least 1, not 0"),
        (["--classifier", "nothing.pth"], "nothing.pth can't be read as torchvision's VGG-16"),
        (["--classifier", PHOTOS / "fig.jpg"], "fig.jpg can't be read as torchvision's VGG-16"),
    ],
)
def test_occlusion_of_bad_input(inspect, arguments, sentence):
    code, error, *_ = inspect("occlusion", PHOTOS / "fig.jpg", *arguments)
    assert code == 2 and sentence in error


def test_a_photo_that_excites_nothing_does_not_end_the_others(inspect, tmp_path, monkeypatch):
    """A flat one, say; found out when the others are done."""
    Image.fromarray(spotted()).save(tmp_path / "spotted.png")
    Image.new("RGB", (90, 80)).save(tmp_path / "flat.png")
    real = LossNetwork.forward

    def forward(self, images, layers):
        taps = real(self, images, layers)
        return taps if images.max() else {layer: 0 * a for layer, a in taps.items()}

    monkeypatch.setattr(LossNetwork, "forward", forward)
    options = ["--layer", "relu1_2", "--square", "40", "--stride", "40"]
    code, error, page, _ = inspect("occlusion", tmp_path / "spotted.png", tmp_path / "flat.png", *options)
    assert code == 0 and "flat.png: Nothing in the photo excites relu1_2" in error and "spotted.png" in page, error
