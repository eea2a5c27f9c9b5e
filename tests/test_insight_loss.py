"""`allaprima inspect loss`: shares that sum to the costs, the page, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from allaprima.insight.costs import content_shares, layer_costs, style_shares
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import (
    Objective,
    PerceptualLoss,
    content_cost,
    gram_matrix,
    style_cost,
    total_variation,
)
from allaprima.models.tensors import to_image, to_tensor
from conftest import PHOTOS, make_model

pytestmark = pytest.mark.usefixtures("one_thread")


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
        ([PHOTOS / "fig.jpg", "--size", "6"], "fig.jpg of 6x4 is too small for relu4_3"),
        ([PHOTOS / "fig.jpg", "--size", "0"], "size must be a whole number of at least 1, not 0"),
    ],
)
def test_loss_of_bad_input(inspect, arguments, sentence):
    code, error, *_ = inspect("loss", *arguments, "-m", "wave")
    assert code == 2 and sentence in error
    assert "does not exist" in inspect("loss", PHOTOS / "fig.jpg", "-m", "nothing.onnx")[1]


@settings(max_examples=60)
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
    assert sum(row.part for row in (content, *styles)) == pytest.approx(costs.J.item(), rel=1e-3)


def test_total_variation_is_a_part_of_J_where_training_had_it(inspect, tmp_path):
    goal = Objective({"relu2_2": 1e-4}, {}, tv=1000.0)
    loss, photo = PerceptualLoss(LossNetwork(), goal), to_tensor(Image.open(PHOTOS / "life.jpg").resize((60, 40)))
    picture = photo.clone()
    picture[..., 20:30, 12:24] = 1.0
    content, tv = layer_costs(loss, {}, to_image(photo), to_image(picture))
    J = loss(to_tensor(to_image(picture)), loss.content_targets(photo), {}).J.item()
    assert (tv.kind, tv.layer, tv.weight) == ("tv", "pixels", 1000.0) and tv.part > 0.01 * J
    assert content.part + tv.part == pytest.approx(J, rel=1e-3)
    assert tv.photo_cost == pytest.approx(total_variation(photo).item(), rel=1e-4)
    assert tv.shares.shape == (40, 60) and tv.shares[21:29, 13:22].max() == 0 < tv.shares[19, 14]
    make_model(tmp_path / "model.onnx", settings={}, objective=goal.to_dict())
    code, error, page, _ = inspect("loss", PHOTOS / "china.jpg", "-m", tmp_path / "model.onnx", "--size", "96")
    assert code == 0 and "pixels" in page and "beta * style cost + tv * total variation" in page, error


def test_a_J_of_0_has_no_parts(inspect, tmp_path):
    goal = Objective({"relu2_2": 1.0}, {}, alpha=0.0, beta=0.0)
    make_model(tmp_path / "model.onnx", settings={}, objective=goal.to_dict())
    code, error, page, _ = inspect("loss", PHOTOS / "china.jpg", "-m", tmp_path / "model.onnx", "--size", "96")
    assert code == 0 and "Here it is 0;" in page and "0%" in page, error
