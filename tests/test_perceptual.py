"""J: every term against numbers worked out by hand, and against an independent float64 computation in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allaprima.core.errors import AllaprimaError
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import (
    STYLE_LAYERS,
    Objective,
    PerceptualLoss,
    balance,
    content_cost,
    gram_matrix,
    style_cost,
    total_variation,
)

# Two channels of 1x2 places.
A = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
B = torch.tensor([[[[0.0, 2.0]], [[3.0, 1.0]]]])


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


@pytest.fixture(scope="module")
def exact():
    return LossNetwork(dtype=torch.float64)


@pytest.fixture
def pictures(photo):
    """Content 48x64, a style of another size, and a generated picture between them, float [1, 3, H, W], 0..1."""
    content = torch.from_numpy(photo[::5, ::5].copy()).permute(2, 0, 1)[None].float() / 255
    style = content.flip(2)[..., :40, :34].roll(1, 1).contiguous()
    noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(1))
    return content, style, 0.7 * content + 0.3 * noise


def test_gram_matrix_by_hand():
    # channel 1 with itself: 1*1 + 2*2 = 5; with channel 2: 1*3 + 2*4 = 11; channel 2 with itself: 9 + 16 = 25
    assert (gram_matrix(A) * 2).tolist() == [[[5, 11], [11, 25]]]
    assert gram_matrix(A).tolist() == [[[2.5, 5.5], [5.5, 12.5]]]


def test_style_cost_by_hand():
    # Gram(B) = [[4, 2], [2, 10]]; Gram(A) - Gram(B) = [[1, 9], [9, 15]]: squared 1 + 81 + 81 + 225 = 388,
    # divided by (2 * n_H n_W n_C)^2 = (2 * 1 * 2 * 2)^2 = 64
    assert style_cost(gram_matrix(A), gram_matrix(B)).tolist() == [388 / 64]


def test_content_cost_by_hand():
    # differences 1, 0, 0, 3: half of 1 + 9
    assert content_cost(A, B).tolist() == [5.0]


def test_total_variation_by_hand():
    image = torch.tensor([[0.0, 0.5], [1.0, 1.0]]).expand(1, 3, 2, 2)
    # across: (0.25 + 0) / 2; down: (1 + 0.25) / 2
    assert total_variation(image).item() == pytest.approx(0.125 + 0.625)


class Fixed:
    """In place of a loss network: one layer whose activations are the picture itself."""

    def check(self, layers):
        pass

    def __call__(self, images, layers):
        return dict.fromkeys(layers, images)


def test_J_by_hand():
    """alpha * content per element + beta * sum of lambda * style + tv * total variation, one value a picture."""
    one, two = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]]]]), torch.ones(1, 1, 2, 2)
    goal = Objective(content={"x": 2.0}, style={"x": 3.0, "y": 0.5}, alpha=7.0, beta=11.0, tv=13.0)
    loss = PerceptualLoss(Fixed(), goal)
    costs = loss(torch.cat([one, two]), loss.content_targets(torch.cat([two, two])), loss.style_targets(two))
    assert costs.content_as_written.tolist() == [1, 0]  # half of 0 + 1 + 1 + 0
    assert costs.content.tolist() == [2 * 1 / 4, 0]
    # Gram 1 + 4 + 0 + 1 = 6 against 4: 2 squared, divided by (2 * 2 * 2 * 1)^2
    assert {name: cost.tolist() for name, cost in costs.style_layers.items()} == {"x": [4 / 64, 0], "y": [4 / 64, 0]}
    assert costs.style.tolist() == [3.5 * 4 / 64, 0]
    assert costs.tv.tolist() == [1 + 1, 0]
    assert costs.J.tolist() == [7 * 0.5 + 11 * 3.5 / 16 + 13 * 2, 0]
    goal.tv = 0.0
    costs = loss(one, loss.content_targets(two), loss.style_targets(two))
    assert (costs.J.item(), costs.tv.item()) == (7 * 0.5 + 11 * 3.5 / 16, 0)


def numpy_J(network, generated, content, style, goal):
    """The docstring of perceptual.py, in numpy and float64, straight from the activations."""

    def taps(image, layers):
        return {name: a[0].double().numpy() for name, a in network(image, layers).items()}

    def gram(a):
        channels, height, width = a.shape
        total = np.zeros((channels, channels))
        for i in range(height):
            for j in range(width):
                total += np.outer(a[:, i, j], a[:, i, j])
        return total

    G, C, S = taps(generated, [*goal.content, *goal.style]), taps(content, goal.content), taps(style, goal.style)
    J_content = sum(w * 0.5 * np.sum((C[l] - G[l]) ** 2) / C[l].size for l, w in goal.content.items())
    as_written = sum(0.5 * np.sum((C[l] - G[l]) ** 2) for l in goal.content)
    J_style = 0
    for l, lam in goal.style.items():
        (n_C, n_H, n_W), places = G[l].shape, S[l].shape[1] * S[l].shape[2]
        # the style's Gram matrix as if it had as many places as G
        distance = np.sum((gram(S[l]) * (n_H * n_W / places) - gram(G[l])) ** 2)
        J_style += lam * distance / (2 * n_H * n_W * n_C) ** 2
    x = generated[0].double().numpy()
    tv = np.mean(np.diff(x, axis=1) ** 2) + np.mean(np.diff(x, axis=2) ** 2)
    return goal.alpha * J_content + goal.beta * J_style + goal.tv * tv, J_content, as_written, J_style


GOAL = Objective(
    content={"relu2_2": 1e-4, "relu3_3": 2e-5},
    style={"relu1_2": 1e-9, "pool2": 3e-9, "conv3_1": 2e-10},
    alpha=2.0,
    beta=0.5,
    tv=3.0,
)


@pytest.mark.parametrize("same_size", [True, False])
def test_every_term_against_numpy_in_float64(exact, pictures, same_size):
    content, style, generated = (picture.double() for picture in pictures)
    if same_size:
        style = content.flip(3).roll(1, 1)
    expected = numpy_J(exact, generated, content, style, GOAL)
    loss = PerceptualLoss(exact, GOAL)
    costs = loss(generated, loss.content_targets(content), loss.style_targets(style))
    got = costs.J, costs.content, costs.content_as_written, costs.style
    assert all(value.dtype == torch.float64 for value in got)
    np.testing.assert_allclose([value.item() for value in got], expected, rtol=1e-9)


def test_float32_is_near_float64(network, exact, pictures):
    def J(network, cast):
        loss = PerceptualLoss(network, GOAL)
        content, style, generated = map(cast, pictures)
        return loss(generated, loss.content_targets(content), loss.style_targets(style)).J.item()

    assert J(network, torch.Tensor.float) == pytest.approx(J(exact, torch.Tensor.double), rel=1e-5)


def test_gradient_of_the_gram_matrix_in_float64():
    """The hand-written gradient against finite differences, for a loss that is not symmetric in the matrix too."""
    activations = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    activations.requires_grad_()
    assert torch.autograd.gradcheck(gram_matrix, activations)
    weights = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda a: (gram_matrix(a) * weights).sum().square(), activations)


def test_gradient_of_J_points_along_finite_differences(exact, pictures):
    content, style, generated = (picture.double() for picture in pictures)
    loss = PerceptualLoss(exact, GOAL)
    targets = loss.content_targets(content), loss.style_targets(style)
    generated.requires_grad_()
    loss(generated, *targets).J.sum().backward()
    direction = torch.randn(generated.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ahead, behind = (loss(generated + step * direction, *targets).J.item() for step in (1e-8, -1e-8))
    # some ReLUs and poolings switch within any step
    assert (ahead - behind) / 2e-8 == pytest.approx((generated.grad * direction).sum().item(), rel=1e-3)


def test_every_picture_of_a_batch_has_its_own_J(network, pictures):
    content, style, generated = pictures
    loss = PerceptualLoss(network, GOAL)
    targets, style_targets = loss.content_targets(torch.cat([content, content.flip(3)])), loss.style_targets(style)
    both = loss(torch.cat([generated, content]), targets, style_targets)
    for n, (c, g) in enumerate([(content, generated), (content.flip(3), content)]):
        one = loss(g, loss.content_targets(c), style_targets)
        for name in ("J", "content", "content_as_written", "style", "tv"):
            assert getattr(both, name).shape == (2,)
            assert getattr(both, name)[n].item() == pytest.approx(getattr(one, name).item(), rel=1e-4)


@given(height=st.integers(1, 6), width=st.integers(1, 6), times=st.integers(2, 3))
@settings(max_examples=25)
def test_more_of_the_same_costs_the_same(height, width, times):
    """Activations repeated side by side: the Gram matrix per place and the style cost stay, as written it all grows."""
    a, b = torch.rand(2, 1, 5, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(height))
    wide_a, wide_b = a.repeat(1, 1, times, times), b.repeat(1, 1, times, times)
    torch.testing.assert_close(gram_matrix(wide_a), gram_matrix(a))
    cost = style_cost(gram_matrix(a), gram_matrix(b))
    torch.testing.assert_close(style_cost(gram_matrix(wide_a), gram_matrix(b)), cost)
    torch.testing.assert_close(content_cost(wide_a, wide_b), times**2 * content_cost(a, b))


def test_weights_mean_the_same_at_every_resolution(network, pictures):
    """Four times the area of the same, mirrored at the seams: J stays, the content cost as written grows fourfold."""

    def larger(picture):
        row = torch.cat([picture, picture.flip(3)], 3)
        return torch.cat([row, row.flip(2)], 2)

    content, style, generated = pictures
    loss = PerceptualLoss(network, Objective(content={"relu2_2": 1e-3}, style={"relu2_2": 1e-6, "relu3_3": 1e-6}))
    style_targets = loss.style_targets(style)
    small = loss(generated, loss.content_targets(content), style_targets)
    large = loss(larger(generated), loss.content_targets(larger(content)), style_targets)
    assert large.content.item() == pytest.approx(small.content.item(), rel=0.1)
    assert large.style.item() == pytest.approx(small.style.item(), rel=0.1)
    assert large.content_as_written.item() == pytest.approx(4 * small.content_as_written.item(), rel=0.1)


def test_bfloat16_autocast_accumulates_in_float32(network, exact, pictures):
    """Costs under autocast are float32 and as near as the activations are; sums in bfloat16 would be far off."""
    content, style, generated = pictures
    reference = PerceptualLoss(exact, GOAL)
    expected = reference(
        generated.double(), reference.content_targets(content.double()), reference.style_targets(style.double())
    )
    loss = PerceptualLoss(network, GOAL)
    generated.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        costs = loss(generated, loss.content_targets(content), loss.style_targets(style))
    for name in ("J", "content", "style"):
        value = getattr(costs, name)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(getattr(expected, name).item(), rel=0.02), name
    costs.J.sum().backward()
    assert generated.grad.isfinite().all() and generated.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_many_low_precision_activations_are_exact(dtype):
    """1 + 2^20 ones: bfloat16 and float16 both stop counting long before."""
    ones = torch.ones(1, 2, 1024, 1024, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        gram = gram_matrix(ones)
        cost = content_cost(ones, torch.zeros_like(ones))
    assert gram.dtype == cost.dtype == torch.float32
    assert gram.tolist() == [[[1.0, 1.0], [1.0, 1.0]]]
    assert cost.item() == 2**20


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_bfloat16_gram_matrix_of_any_size_and_layout(count, height, width, channels_last, seed):
    """Sizes that the parts of the sum divide and sizes that they don't; against float64 of the same activations."""
    activations = torch.randn(count, 5, height, width, generator=torch.Generator().manual_seed(seed)).bfloat16()
    if channels_last:
        activations = activations.contiguous(memory_format=torch.channels_last)
    flat = activations.flatten(2).double()
    expected = flat @ flat.mT / (height * width)
    torch.testing.assert_close(
        gram_matrix(activations).double(), expected, atol=0.01 * expected.abs().max().item(), rtol=0.01
    )


def test_no_layers_of_a_kind_are_not_computed(pictures):
    class Counting(Fixed):
        asked = []

        def __call__(self, images, layers):
            self.asked += layers
            return super().__call__(images, layers)

    content, style, generated = pictures
    loss = PerceptualLoss(Counting(), Objective(content={}, style={"relu1_1": 1.0}))
    costs = loss(generated, loss.content_targets(content), loss.style_targets(style))
    assert set(Counting.asked) == {"relu1_1"}
    assert costs.content.item() == 0 < costs.style.item()


def test_balance_makes_every_style_layer_begin_with_its_share(network, pictures):
    """After balancing, a third unknown photo's J_style is about 1, each layer's about its share, for any painting."""
    content, style, _ = pictures
    photos = torch.cat([content, content.flip(3), content.flip(2), content.roll(1, 1), 1 - content])
    for painting in (style, style * 0.3, (style > 0.5).float()):
        wanted = Objective(style={"relu1_2": 1.0, "relu3_3": 3.0}, alpha=2, beta=4, tv=1)
        goal = balance(network, painting, photos, wanted)
        assert (goal.alpha, goal.beta, goal.tv) == (2, 4, 1)
        loss = PerceptualLoss(network, goal)
        costs = loss(photos, loss.content_targets(photos), loss.style_targets(painting))
        layers = {name: (goal.style[name] * cost).median().item() for name, cost in costs.style_layers.items()}
        assert layers == {"relu1_2": pytest.approx(0.25, rel=1e-3), "relu3_3": pytest.approx(0.75, rel=1e-3)}
        features = network(photos, ["relu3_3"])["relu3_3"]
        assert goal.content["relu3_3"] == pytest.approx(1 / np.var(features.double().numpy(), ddof=1), rel=1e-4)


def test_an_unknown_layer_is_one_sentence(network):
    with pytest.raises(AllaprimaError, match="no layer 'relu3_9'"):
        PerceptualLoss(network, Objective(content={"relu3_9": 1.0}))


@pytest.mark.parametrize(
    "weights, sentence",
    [
        ({"alpha": -1}, "alpha must be a number of at least 0, not -1."),
        ({"beta": float("nan")}, "beta must be a number of at least 0, not nan."),
        ({"beta": "10"}, "beta must be a number of at least 0, not '10'."),
        ({"tv": 10**400}, "tv must be a number of at least 0"),
        ({"tv": True}, "tv must be a number of at least 0, not True."),
        ({"style": {"relu1_2": -0.5}}, "style must be names of layers, each with a weight of at least 0"),
        ({"content": ["relu3_3"]}, "content must be names of layers, each with a weight of at least 0"),
        ({"content": {3: 1.0}}, "content must be names of layers"),
    ],
)
def test_weights_that_make_no_sense_are_one_sentence(weights, sentence):
    with pytest.raises(AllaprimaError, match=sentence):
        Objective(**weights)


def test_an_objective_goes_through_json(tmp_path):
    import json

    goal = Objective(content={"relu2_2": 0.5}, style=dict(STYLE_LAYERS), alpha=2, beta=3, tv=4)
    assert Objective(**json.loads(json.dumps(goal.to_dict()))) == goal
