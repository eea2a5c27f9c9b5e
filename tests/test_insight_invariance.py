"""`allaprima inspect invariance`: windows and distances by hand, the page, bad input."""

import numpy as np
import pytest
from PIL import Image

from allaprima.insight.invariance import CHANGES, changed, distances, load, steps
from allaprima.models.loss_network import LossNetwork
from allaprima.models.tensors import to_tensor
from conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("one_thread")


def test_invariance(inspect):
    code, error, page, sheet = inspect("invariance", "--window", "64", "--layers", "relu1_2,relu2_2", "--count", "2")
    assert code == 0 and "distances of 2 layers over 2 photos and 3 changes" in error
    assert sheet.shape[1] == 1200 and page.count("<table>") == 3 and "relu2_2" in page and "aitzgorri.jpg" in page


def test_photos_that_can_not_be_used_are_skipped(inspect, tmp_path):
    """The first ones that can be are taken in their place."""
    for name, data in (
        ("a.jpg", (PHOTOS / "fig.jpg").read_bytes()[:5000]),
        ("c.jpg", (PHOTOS / "fig.jpg").read_bytes()),
    ):
        (tmp_path / name).write_bytes(data)
    Image.new("RGB", (50, 50)).save(tmp_path / "b.png")
    code, error, page, _ = inspect("invariance", tmp_path, "--window", "64", "--layers", "relu1_2", "--count", "1")
    assert (
        code == 0
        and "2 files are skipped; the first:" in error
        and "a.jpg is damaged" in error
        and "1 photos: c.jpg" in page
    )


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--layers", "relu1_9"], "no layer 'relu1_9'. It has: conv1_1"),
        (["--window", "90"], "The window has 90x90 pixels and relu4_3 sees 92x92: give a larger one, or a "),
        (["--window", "800"], "a window of 800 needs a short side of 1200: give a larger photo or a smaller --window"),
        (["--count", "0"], "count must be a whole number of at least 1, not 0"),
        (["--layers", ","], "layers is empty: give at least one"),
    ],
)
def test_invariance_of_bad_input(inspect, arguments, sentence):
    code, error, *_ = inspect("invariance", "--layers", "relu1_1,relu4_3", *arguments)
    assert code == 2 and sentence in error


@pytest.fixture(scope="module")
def distances_of_two():
    images = [load(PHOTOS / name, 96) for name in ("astronaut.jpg", "chelsea.jpg")]
    return distances(LossNetwork(), ["relu1_2", "relu3_3"], images, 96)


def test_changes_move_features_and_gram_matrices(distances_of_two):
    for change, by_layer in distances_of_two.items():
        for d in by_layer.values():
            assert d.features.shape == d.grams.shape == (2, len(steps(change, 96)))
            assert (d.features[:, 0] == 0).all() and (d.grams[:, 0] == 0).all() and (d.features[:, 1:-1] > 0.05).all()
    for d in distances_of_two["rotation"].values():  # a whole turn changes nothing, half a turn much
        assert (d.features[:, -1] < 0.02).all() and (d.features[:, CHANGES["rotation"].index(180)] > 0.5).all()


def test_gram_matrices_move_less_under_translation_than_features(distances_of_two):
    for d in distances_of_two["translation"].values():
        assert (d.grams[:, 1:4] < 0.5 * d.features[:, 1:4]).all()


def test_distances_by_hand(distances_of_two):
    network, photo = LossNetwork(), load(PHOTOS / "chelsea.jpg", 96)
    first, turned = (
        network(to_tensor(changed(photo, 96, "rotation", angle)), ["relu3_3"])["relu3_3"][0].flatten(1).double().numpy()
        for angle in (0, 90)
    )
    found, number = distances_of_two["rotation"]["relu3_3"], CHANGES["rotation"].index(90)
    features = np.linalg.norm(first - turned) / np.linalg.norm(first)
    grams = np.linalg.norm(first @ first.T - turned @ turned.T) / np.linalg.norm(first @ first.T)
    assert found.features[1, number] == pytest.approx(features, rel=1e-3)
    assert found.grams[1, number] == pytest.approx(grams, rel=1e-3)


def test_windows_by_hand():
    """A translation copies pixels, a quarter turn is numpy's, twice as large shows the middle half."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (60, 72, 3), np.uint8)
    photo = Image.fromarray(pixels)

    def window(change, amount):
        return np.asarray(changed(photo, 40, change, amount)).astype(int)

    middle = pixels[10:50, 16:56]
    assert (window("scale", 1) == middle).all()
    assert (window("translation", 7) == pixels[3:43, 16:56]).all()
    assert np.abs(window("rotation", 90) - np.rot90(middle)).max() <= 1  # rounded
    smooth = Image.fromarray(pixels).resize((9, 8)).resize((72, 60), Image.Resampling.BICUBIC)
    twice = np.asarray(smooth.crop((26, 20, 46, 40)).resize((40, 40), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.asarray(changed(smooth, 40, "scale", 2)) - twice)[2:-2, 2:-2].max() <= 12
