"""`allaprima inspect`: every command on small input, from the command line to the page and the sheet, and bad input."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from allaprima.baseline.optimizer import Result
from allaprima.commands.app import main
from allaprima.core.errors import AllaprimaError
from allaprima.insight.correspondence import FACES, align, disagreement, scores
from allaprima.insight.costs import content_shares, layer_costs, style_shares
from allaprima.insight.deconvnet import as_picture
from allaprima.insight.evolution import activations, feature_layers, follow, guided_projection, read_snapshots
from allaprima.insight.features import features, find_photos
from allaprima.insight.invariance import CHANGES, changed, distances, load, steps
from allaprima.insight.occlusion import centres, occlude, occluded
from allaprima.insight.reconstruct import plan, reconstruct
from allaprima.insight.sheet import LINE, grid
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective, PerceptualLoss, content_cost, gram_matrix, style_cost
from allaprima.models.tensors import to_image, to_tensor
from allaprima.models.transformer import transformer
from allaprima.train.settings import Settings
from allaprima.train.snapshots import snapshot_steps
from allaprima.train.trainer import Trainer, checkpoint_of, train_style
from conftest import PHOTOS, ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def inspect(tmp_path, monkeypatch, capsys):
    """Run `allaprima inspect ARGUMENTS -o page.html` in an empty folder: exit code, stderr, the page, the sheet.

    Checks that a page comes with its sheet, holds its pictures, and that nothing half-written stays behind.
    """

    def run(*arguments):
        folder = tmp_path / "out"
        arguments = ["allaprima", "inspect", *arguments, "-o", folder / "page.html"]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
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
        assert files == {"page.html", "page.png"} and "page.html and " in error
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
        (["--size", "0"], "the size 0: give 1 or more"),
        (["--layer", "relu5_3"], "relu5_3 sees 196x196: give a larger one, or a layer up to relu4_1"),
        (["--loss-network", "vgg11"], "no loss network 'vgg11'"),
        (["--loss-network", "vgg19", "--loss-weights", PHOTOS / "fig.jpg"], "can't be read as vgg19"),
    ],
)
def test_features_of_bad_input(inspect, folder, arguments, sentence):
    code, error, *_ = inspect("features", folder, *arguments)
    assert code == 2 and sentence in error and "Traceback" not in error


def test_a_layer_that_nothing_excites(inspect, folder, monkeypatch):
    monkeypatch.setattr("allaprima.insight.features.top_activations", lambda *_: ([[] for _ in range(64)], []))
    code, error, *_ = inspect("features", folder, "--layer", "relu1_1")
    assert code == 2 and "No map of relu1_1 is excited by nine of the photos" in error


def test_fewer_than_nine_photos(inspect, copied):
    for file in list(copied.iterdir())[:2]:
        file.unlink()
    assert "has 8 photos: give a folder of at least 9" in inspect("features", copied)[1]
    (copied / "a.jpg").write_bytes(b"no picture")
    assert "8 photos can be used of 9, and nine are needed: " in inspect("features", copied)[1]
    assert "is not a folder" in inspect("features", copied / "a.jpg")[1]


@pytest.mark.parametrize(
    "output, sentence",
    [("page.png", "does not end in .html"), ("folder.html", "is a folder"), ("file/page.html", "is a file and not a ")],
)
def test_an_output_that_cannot_be_written(output, sentence, tmp_path, folder):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(AllaprimaError, match=sentence):
        features(folder, output=tmp_path / output)


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


# -- invariance --------------------------------------------------------------------------------------------------------


def test_invariance(inspect):
    code, error, page, sheet = inspect("invariance", "--window", "64", "--layers", "relu1_2,relu2_2", "--count", "2")
    assert code == 0 and "distances of 2 layers over 2 photos and 3 changes" in error
    assert sheet.shape[1] == 1200 and page.count("<table>") == 3 and "relu2_2" in page and "aitzgorri.jpg" in page


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--layers", "relu1_9"], "no layer 'relu1_9'. It has: conv1_1"),
        (["--window", "90"], "The window has 90x90 pixels and relu4_3 sees 92x92: give a larger one, or a "),
        (["--window", "400"], "a window of 400 needs a short side of 600: give a larger photo or a smaller --window"),
        (["--count", "0"], "The count is 0"),
        (["--layers", ","], "There are no layers"),
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


# -- loss --------------------------------------------------------------------------------------------------------------


def test_loss(inspect, tiny_model):
    code, error, page, sheet = inspect(
        "loss", PHOTOS / "china.jpg", "-m", tiny_model, "--style", PHOTOS / "brushes.jpg", "--size", "96"
    )
    assert code == 0 and "by layer and place" in error
    assert all(layer in page for layer in ("relu1_2", "relu2_2", "relu3_3", "relu4_3")) and "china.jpg" in page
    assert sheet.shape[1] == 4 * 330  # photo, picture, painting and content above, four styles below


@pytest.mark.parametrize("style", ["starry_night", "wave"])
def test_loss_needs_nothing_but_the_model_file(inspect, style):
    """A style with its painting in the file, and one with its Gram matrices."""
    code, error, page, _ = inspect("loss", PHOTOS / "china.jpg", "-m", style, "--size", "96")
    assert code == 0 and "relu4_3" in page, error


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([PHOTOS / "nothing.jpg"], "nothing.jpg does not exist"),
        ([PHOTOS / "CREDITS.md"], "CREDITS.md is not a picture that can be read"),
        ([PHOTOS / "fig.jpg", "--style", "nothing.jpg"], "nothing.jpg does not exist"),
        ([PHOTOS / "fig.jpg", "--size", "6"], "too small for relu4_3"),
        ([PHOTOS / "fig.jpg", "--size", "0"], "The size is 0: give pixels above 0"),
    ],
)
def test_loss_of_bad_input(inspect, tiny_model, arguments, sentence):
    options = [] if "--style" in arguments else ["--style", PHOTOS / "brushes.jpg"]
    code, error, *_ = inspect("loss", *arguments, *options, "-m", tiny_model)
    assert code == 2 and sentence in error
    assert "does not exist" in inspect("loss", PHOTOS / "fig.jpg", "-m", "nothing.onnx")[1]


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 6),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    pictures=st.integers(1, 2),
    seed=st.integers(0, 2**31),
)
def test_shares_sum_to_the_costs(channels, height, width, pictures, seed):
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(pictures, channels, height, width, generator=random, dtype=torch.float64) for _ in range(2))
    target = gram_matrix(torch.rand(1, channels, 5, 5, generator=random, dtype=torch.float64))
    style = style_shares(a, target)
    assert style.shape == (pictures, height, width)
    torch.testing.assert_close(style.sum((1, 2)), style_cost(gram_matrix(a), target))
    content = content_shares(a, b)
    assert (content >= 0).all()
    torch.testing.assert_close(content.sum((1, 2)), content_cost(a, b) / a[0].numel())


def test_style_shares_by_hand():
    """Each place's share is its local deviation along the whole one, written out in loops."""
    random = np.random.default_rng(1)
    a, target = random.uniform(0, 1, (3, 2, 4)), random.uniform(0, 1, (3, 3))
    local = {(i, j): np.outer(a[:, i, j], a[:, i, j]) for i in range(2) for j in range(4)}
    whole = sum(local.values()) / 8 - target
    expected = [[(whole * (local[i, j] - target)).sum() / (4 * 3**2) / 8 for j in range(4)] for i in range(2)]
    shares = style_shares(torch.from_numpy(a)[None], torch.from_numpy(target)[None])
    np.testing.assert_allclose(shares[0].numpy(), expected)


def test_a_place_unlike_the_painting_has_the_style_cost():
    """A picture of the painting's own pixels, but for one flat corner: nearly all of the cost lies there."""
    network, painting = LossNetwork(), to_tensor(Image.open(PHOTOS / "life.jpg").resize((128, 96)))
    picture = painting.clone()
    picture[..., :32, :32] = 1.0
    loss = PerceptualLoss(network, Objective({"relu2_2": 2.0}, {"relu1_2": 1.0, "relu2_2": 3.0}, alpha=0.5, beta=7.0))
    content, *styles = layer_costs(loss, loss.style_targets(painting), to_image(painting), to_image(picture))
    assert [row.weight for row in (content, *styles)] == [1.0, 7.0, 21.0]
    assert content.shares[:20, :20].sum() > 0.95 * content.cost
    for row in styles:
        side = row.shares.shape[0] // 3
        squares = [network(p, [row.layer])[row.layer].square().mean().item() for p in (picture, painting)]
        assert row.energy == pytest.approx(squares[0] / squares[1], rel=1e-3)
        assert row.photo_cost < 0.01 * row.cost and row.shares[:side, :side].mean() > 3 * abs(row.shares.mean())
    costs = loss(picture, loss.content_targets(painting), loss.style_targets(painting))
    assert sum(row.weight * row.cost for row in (content, *styles)) == pytest.approx(costs.J.item(), rel=1e-3)


# -- occlusion ---------------------------------------------------------------------------------------------------------


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
        (["--stride", "0"], "give pixels above 0"),
        (["--classifier", "nothing.pth"], "nothing.pth can't be read as torchvision's VGG-16"),
        (["--classifier", PHOTOS / "fig.jpg"], "fig.jpg can't be read as torchvision's VGG-16"),
    ],
)
def test_occlusion_of_bad_input(inspect, arguments, sentence):
    code, error, *_ = inspect("occlusion", PHOTOS / "fig.jpg", *arguments)
    assert code == 2 and sentence in error


# -- correspondence ----------------------------------------------------------------------------------------------------


def test_correspondence(inspect):
    code, error, page, sheet = inspect(
        "correspondence", "--layers", "relu1_2,relu2_1", "--window", "64", "--square", "16", "--draws", "2"
    )
    assert code == 0 and "left eye, right eye, nose in 4 pictures" in error
    assert "chelsea.jpg" not in error and "relu2_1" in page and "±" in page and sheet.shape[0] > 4 * 160


def test_correspondence_of_the_users_parts(inspect, copied):
    parts = {"top": [20, 20], "bottom": [24, 40]}
    names = sorted(file.name for file in copied.iterdir())[:2]
    (copied / "parts.json").write_text(json.dumps([{"photo": name, "parts": parts} for name in names]))
    arguments = ["--layers", "relu1_1", "--window", "48", "--draws", "2"]
    code, error, page, _ = inspect("correspondence", "--parts", copied / "parts.json", *arguments)
    assert code == 0 and "top, bottom in 2 pictures" in error


@pytest.mark.parametrize(
    "text, sentence",
    [
        (None, "does not exist"),
        ("{", "is no list of parts: write it as"),
        ('[{"photo": "a.png", "parts": {"nose": 3}}]', "is no list of parts"),
        ('[{"photo": "a.png", "parts": {"nose": [3, 3], "eye": [5, 5]}}]', "needs two photos or more"),
        (json.dumps([{"photo": "a.png", "parts": p} for p in ({"a": [9, 9], "b": [5, 5]}, {"a": [9, 9]})]), "same"),
        (json.dumps([{"photo": "a.png", "parts": {"a": [9, 9], "b": [60, 70]}}] * 2), "a.png (64x64) lie outside of"),
        (json.dumps([{"photo": "no.png", "parts": {"a": [9, 9], "b": [6, 7]}}] * 2), "no.png does not exist"),
    ],
)
def test_parts_that_cannot_be_used(inspect, copied, text, sentence):
    next(copied.iterdir()).rename(copied / "a.png")
    if text:
        (copied / "parts.json").write_text(text)
    code, error, *_ = inspect("correspondence", "--parts", copied / "parts.json")
    assert code == 2 and sentence in error


def test_parts_of_faces_come_to_the_same_places():
    """The eyes of all four lie at about the same height, left and right, and the nose below, inside of the window."""
    faces = [align(entry, 100) for entry in FACES]
    for face in faces:
        (y1, x1), (y2, x2), (y3, x3) = (face.parts[name] for name in ("left eye", "right eye", "nose"))
        assert x1 < x3 < x2 and max(y1, y2) < y3 and all(10 < v < 90 for v in (x1, y1, x2, y2, x3, y3))
        assert face.window.shape == (1, 3, 100, 100)
    file = np.asarray(Image.open(PHOTOS / "chelsea.jpg"))
    y, x = (round(v) for v in faces[1].parts["nose"])
    nose = to_image(faces[1].window)[y, x].astype(int)
    assert np.abs(nose - file[235:246, 260:271].reshape(-1, 3).mean(0)).max() < 40


def test_pictures_that_change_alike_have_no_disagreement():
    """The same picture twice: equal where the same part is hidden, and different where another is."""
    network = LossNetwork()
    face = align(FACES[1], 64)
    found = scores(network, ["relu2_1"], [face, face], square=16, draws=3)["relu2_1"]
    assert all(found[name] == [0.0] for name in face.parts) and found["the same place in all"] == [0.0] * 3
    assert min(found["elsewhere in each"]) > 0.01


def test_disagreement_by_hand():
    a, b, c = (torch.tensor(row) for row in ([1, 0, -1, 0], [1, 1, -1, 0], [0, 0, 1, 0]))
    assert disagreement([a, b, c]) == pytest.approx((1 + 2 + 3) / 4 / 3)


# -- reconstruct -------------------------------------------------------------------------------------------------------


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
        ([PHOTOS / "fig.jpg", "--size", "12"], "12x8 is too small for relu5_2"),
        ([PHOTOS / "fig.jpg", "--iterations", "0"], "give numbers above 0"),
        ([PHOTOS / "fig.jpg", "--content-layers", ",", "--style-layers", ""], "There are no layers"),
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
    content = reconstruct(photo, painting, "content", ["relu1_1"], network, iterations=15)
    style = reconstruct(photo, painting, "style", ["relu1_1"], network, iterations=15)
    assert content.image.shape == (40, 48, 3) and content.error < 30 and content.remaining < 0.01
    assert style.image.shape == painting.shape and style.remaining < 0.01 and style.error > 2 * content.error
    grams = [gram_matrix(network(to_tensor(p), ["relu1_1"])["relu1_1"]) for p in (painting, style.image, photo)]
    assert style_cost(grams[1], grams[0]) < 0.1 * style_cost(grams[2], grams[0])


def test_ctrl_c_while_descending_writes_nothing(inspect, monkeypatch):
    def interrupted(*arguments, each, **options):
        each(None, None)
        return Result(np.zeros((2, 2, 3), np.uint8), [], "stopped")

    monkeypatch.setattr("allaprima.insight.reconstruct.optimize", interrupted)
    code, error, *_ = inspect("reconstruct", PHOTOS / "fig.jpg", PHOTOS / "fig.jpg", "--size", "48")
    assert code == 130 and "Wrote" not in error


# -- evolution ---------------------------------------------------------------------------------------------------------

STYLE = ROOT / "examples" / "styles" / "starry_night.jpg"
SMALL = Settings(steps=6, batch=1, size=64, style_size=64, warmup=2)


def tensors(file):
    with safe_open(file, "pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model file of a small training with snapshots."""
    output = tmp_path_factory.mktemp("snapshots") / "small.onnx"
    train_style(STYLE, output, replace(SMALL, snapshots=True), report=False)
    return output


def test_snapshots_change_nothing_and_end_with_the_trained_weights(trained, tmp_path):
    train_style(STYLE, tmp_path / "plain.onnx", SMALL, report=False)
    plain, snapped = (tensors(checkpoint_of(output)) for output in (tmp_path / "plain.onnx", trained))
    assert plain.keys() == snapped.keys() and all(torch.equal(plain[key], snapped[key]) for key in plain)
    assert not list((tmp_path / "plain.run").glob("snapshot*"))
    steps = [file.name for file in sorted(trained.with_suffix(".run").glob("snapshot*"))]
    assert steps == [f"snapshot-{n:06d}.safetensors" for n in (1, 2, 3, 4, 6)]  # 1, 2, 5 and 10 64ths are one step
    last = tensors(trained.with_suffix(".run") / steps[-1])
    assert all(torch.equal(last[key], plain[f"network.{key}"]) for key in last) and len(last) == len(
        [key for key in plain if key.startswith("network.")]
    )


def test_snapshots_survive_an_interruption(trained, tmp_path, monkeypatch):
    step = Trainer.step

    def interrupted(self):
        values = step(self)
        if self.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return values

    monkeypatch.setattr(Trainer, "step", interrupted)
    output = tmp_path / "small.onnx"
    with pytest.raises(KeyboardInterrupt):
        train_style(STYLE, output, replace(SMALL, snapshots=True), report=False)
    assert [s.step for s in read_snapshots(output)] == [1, 2, 3]
    monkeypatch.setattr(Trainer, "step", step)
    train_style(STYLE, output, resume=True, report=False)
    whole, resumed = read_snapshots(trained), read_snapshots(tmp_path / "small.run")
    assert [s.step for s in resumed] == [s.step for s in whole] == [1, 2, 3, 4, 6]
    for a, b in zip(whole, resumed, strict=True):
        state = b.network.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in a.network.state_dict().items())
    train_style(STYLE, output, replace(SMALL, snapshots=True, steps=9), resume=True, report=False)
    assert [s.step for s in read_snapshots(output)] == [1, 2, 3, 4, 6, 9]  # of a training that went on


def test_snapshots_of_another_training_are_passed_over(trained, tmp_path):
    run = tmp_path / "two.run"
    run.mkdir()
    values = {"settings": replace(SMALL, seed=7).to_dict(), "style": "other", "step": 5}
    save_file(
        tensors(next(trained.with_suffix(".run").glob("snapshot*"))),
        run / "snapshot-000005.safetensors",
        {"allaprima": json.dumps(values)},
    )
    for file in sorted(trained.with_suffix(".run").glob("snapshot*")):
        (run / file.name).write_bytes(file.read_bytes())
    assert [s.step for s in read_snapshots(run)] == [1, 2, 3, 4, 6]


@given(st.integers(1, 10**6))
def test_snapshot_steps(steps):
    taken = snapshot_steps(steps)
    assert taken[-1] == steps and taken[0] >= 1 and len(taken) == len(set(taken)) <= 8
    if steps % 64 == 0:
        assert [step * 64 // steps for step in taken] == [1, 2, 5, 10, 20, 30, 40, 64]


def test_the_train_command_has_the_option(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("allaprima.train.trainer.train_style", lambda *a, **k: seen.append(a[2].snapshots))
    for more in ([], ["--snapshots"]):
        monkeypatch.setattr(sys, "argv", ["allaprima", "train", str(STYLE), "--no-report", *more])
        with pytest.raises(SystemExit):
            main()
    assert seen == [False, True]


def test_evolution(inspect, trained, folder):
    code, error, page, sheet = inspect("evolution", trained, "--photos", folder, "--count", "1", "--size", "64")
    assert code == 0 and "1 features of 6 layers in 5 snapshots over 10 photos" in error
    assert "1, 2, 3, 4, 6 steps" in page and sheet.shape[0] > 7 * 96


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nothing.run"], "nothing.run does not exist: give the .run folder, or the model file"),
        (["nothing.onnx"], "nothing.run does not exist"),
        ([PHOTOS], "has no snapshots: train with --snapshots"),
        (["RUN", "--layers", "relu1_1"], "no layer 'relu1_1'. It has: stem, quarter, eighth, trunk.1"),
        (["RUN", "--count", "0"], "The count is 0"),
        (["RUN", "--size", "15"], "16 pixels or more"),
        (["RUN", "--photos", "nothing"], "nothing is not a folder"),
    ],
)
def test_evolution_of_bad_input(inspect, trained, arguments, sentence):
    code, error, *_ = inspect("evolution", *[trained if word == "RUN" else word for word in arguments])
    assert code == 2 and sentence in error


def test_broken_snapshots(inspect, tmp_path):
    (tmp_path / "a.run").mkdir()
    (tmp_path / "a.run" / "snapshot-000001.safetensors").write_bytes(b"nothing")
    assert "snapshot-000001.safetensors is no checkpoint" in inspect("evolution", tmp_path / "a.run")[1]
    save_file(
        {},
        tmp_path / "a.run" / "snapshot-000001.safetensors",
        {"allaprima": json.dumps({"settings": SMALL.to_dict(), "style": "", "step": 1})},
    )
    assert "snapshots in" in inspect("evolution", tmp_path / "a.run")[1]


def reference_relu(x, inplace=False):
    """Guided backpropagation written the other way: a hook on the gradient of the plain ReLU."""
    y = x.clamp(min=0)
    if y.requires_grad:
        x.register_hook(lambda gradient: gradient.clamp(min=0))
        y.register_hook(lambda gradient: gradient.clamp(min=0))
    return y


@pytest.mark.parametrize("architecture", ["live", "johnson"])
def test_guided_projections(architecture, monkeypatch):
    torch.manual_seed(0)
    network = transformer(architecture).eval()
    picture = to_tensor(Image.open(PHOTOS / "chelsea.jpg").resize((48, 40)))
    layers = list(feature_layers(network))
    plain = network(picture)
    taps = activations(network, picture, layers)
    assert torch.equal(taps["stylized"], plain) and all(layer in taps for layer in layers)
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        maps = taps[layer][0]
        channel, y, x = np.unravel_index(maps.argmax().item(), maps.shape)
        projection = guided_projection(network, picture, layer, channel, y, x)
        with monkeypatch.context() as patched:
            patched.setattr("torch.nn.functional.relu", reference_relu)
            leaf = picture.clone().requires_grad_()
            activation = activations(network, leaf, [layer])[layer][0, channel, y, x]
            (expected,) = torch.autograd.grad(activation, leaf)
        assert projection.shape == (3, 40, 48) and np.abs(projection).max() > 0
        np.testing.assert_allclose(projection, expected[0].numpy(), rtol=1e-3, atol=1e-5 * np.abs(projection).max())
    assert torch.equal(network(picture), plain)  # nothing stays behind


def test_layers_of_the_style_networks():
    assert list(feature_layers(transformer("live"))) == [
        "stem",
        "quarter",
        "eighth",
        *(f"trunk.{n}" for n in range(1, 7)),
        "to_quarter",
        "to_half",
    ]
    assert list(feature_layers(transformer("johnson"))) == [f"layers.{n}" for n in (*range(8), 9, 11)]


def test_the_last_snapshot_is_like_itself_and_finds_the_strongest(trained, folder):
    snapshots, files = read_snapshots(trained), find_photos(folder)[:3]
    best, likeness = follow(snapshots, ["stem", "to_half"], files, 64)
    assert all(values[-1] == pytest.approx(1, abs=1e-5) and values[0] < 0.999999 for values in likeness.values())
    maps = [activations(snapshots[2].network, to_tensor(Image.open(file)), ["stem"])["stem"][0] for file in files]
    for channel, hit in enumerate(best[2]["stem"]):
        assert hit.value == max(m[channel].max().item() for m in maps) == maps[hit.photo][channel, hit.y, hit.x].item()


@pytest.mark.parametrize("missing", ["torch", "matplotlib"])
def test_without_the_extra(missing):
    """In a fresh process: one sentence where a package is missing; the help needs none of them."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from allaprima.commands.app import main; "
        "assert not {'torch', 'matplotlib'} & {name for name, module in sys.modules.items() if module}; main()"
    )
    for arguments, expected in (["--help"], 0), (["features", "--layer", "relu1_1"], 2):
        ran = subprocess.run([sys.executable, "-c", code, "inspect", *arguments], capture_output=True, text=True)
        assert ran.returncode == expected, ran.stderr
    assert "pip install 'allaprima[train]'" in ran.stderr and "Traceback" not in ran.stderr
