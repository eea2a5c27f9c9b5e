"""The Gatys optimizer: the reconstructions of its paper, its bookkeeping, and what is left after Ctrl-C."""

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima.baseline.optimizer import Descent, descend
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Started
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective, PerceptualLoss, balance
from allaprima.models.tensors import to_image, to_tensor
from allaprima.train.photos import Photos
from baseline_cases import CONTENT, GOAL, STYLE, bundled, costs_of, psnr, quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


@pytest.fixture(scope="module")
def content():
    return bundled("chelsea.jpg")


@pytest.fixture(scope="module")
def painting():
    return bundled("brushes.jpg")


# Figure 1 of the paper


@pytest.mark.parametrize("layer, least", [("relu1_2", 26), ("relu2_2", 22)])
def test_content_alone_reconstructs_the_photo_from_noise(layer, least, content, painting, network):
    """From white noise back to the photo, the nearer the lower the layer. These layers hardly see a checkerboard of
    single pixels, which remains of the noise, so the distance (PSNR in dB; noise has 15) is that of means of 2x2."""
    goal = Objective(content={layer: 1e-3}, beta=0)
    result = quick(content, painting, network, goal, init="noise", descent=Descent(iterations=50))
    assert result.trace[-1].content < result.trace[0].content / 500
    assert all(step.style == 0 for step in result.trace)
    start = quick(content, painting, network, goal, init="noise", descent=Descent(iterations=0)).image
    assert psnr(start, content) < 16 and psnr(result.image, content) > least


def test_style_alone_reconstructs_the_texture_from_noise(content, painting, network):
    result = quick(
        content, painting, network, Objective(style=STYLE, alpha=0), init="noise", descent=Descent(iterations=50)
    )
    assert result.trace[-1].style < result.trace[0].style / 100
    assert all(step.content == 0 for step in result.trace)
    # the palette is the painting's, the places are not: no photo and no painting shows through
    assert np.abs(result.image.mean((0, 1)) - painting.mean((0, 1))).max() < 20
    assert np.corrcoef(result.image.mean(2).ravel(), content.mean(2).ravel())[0, 1] < 0.3


@pytest.mark.parametrize("idle, asked", [("alpha", set(STYLE)), ("beta", set(CONTENT))])
def test_layers_without_weight_are_not_computed(idle, asked, content, painting, monkeypatch):
    seen = set()
    forward = LossNetwork.forward

    def spy(self, images, layers):
        seen.update(layers)
        return forward(self, images, layers)

    monkeypatch.setattr(LossNetwork, "forward", spy)
    goal = Objective(content=CONTENT, style=STYLE, **{idle: 0})
    quick(content, painting, LossNetwork(), goal, init="noise", descent=Descent(iterations=1))
    assert seen == asked


# The descent


def test_the_trace_starts_at_the_photo_falls_and_ends_at_the_picture(content, painting, network):
    result = quick(content, painting, network, descent=Descent(iterations=12))
    assert [step.iteration for step in result.trace] == list(range(13)) and result.ended == "finished"
    assert (
        result.trace[0].content == 0
        and pytest.approx(costs_of(content, content, painting, network).J.item(), rel=1e-4) == result.trace[0].J
    )
    assert all(later.J < step.J * 1.01 for step, later in zip(result.trace, result.trace[1:]))
    assert result.trace[-1].J < result.trace[0].J / 3
    final = costs_of(result.image, content, painting, network)
    # the picture is rounded to 8 bits
    for name in ("J", "content", "content_as_written", "style"):
        assert getattr(result.trace[-1], name) == pytest.approx(getattr(final, name).item(), rel=0.03), name
    assert result.image.shape == content.shape and result.image.dtype == np.uint8


def test_lbfgs_is_torchs_own_and_evaluates_nothing_twice(content, painting, monkeypatch):
    """One iteration at a time gives what torch.optim.LBFGS gives in one go, in as many evaluations (less the repeated
    first one of each step), and the trace counts them."""
    network = LossNetwork(dtype=torch.float64)
    loss = PerceptualLoss(network, GOAL)
    photo, style = to_tensor(content).double(), to_tensor(painting).double()
    targets = loss.content_targets(photo), loss.style_targets(style)
    calls = []

    class Spy:
        def __call__(self, *args):
            calls.append(1)
            return loss(*args)

    *_, (step, pixels) = descend(Spy(), photo, *targets, Descent(iterations=5))
    assert step.evaluations == len(calls)

    x = photo.clone(memory_format=torch.contiguous_format).requires_grad_()
    evaluations, outside = 0, 10 * loss(photo, *targets).J.item()

    def closure():
        nonlocal evaluations
        evaluations += 1
        x.grad = None
        total = loss(x.clamp(0, 1), *targets).J.sum() * x.numel()
        total = total + outside * (x - x.detach().clamp(0, 1)).square().sum()
        total.backward()
        return total

    torch.optim.LBFGS(
        [x],
        max_iter=5,
        max_eval=1000,
        history_size=20,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    ).step(closure)
    torch.testing.assert_close(pixels, x.detach().clamp(0, 1), rtol=0, atol=1e-6)
    assert step.evaluations == evaluations


def test_bfloat16_gets_as_far(content, painting, network):
    """The line search copes with bfloat16's noise: J after 15 iterations, measured in float32, is within 10 %."""
    ends = [
        costs_of(
            quick(content, painting, LossNetwork(dtype=dtype), descent=Descent(iterations=15)).image,
            content,
            painting,
            network,
        ).J.item()
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert ends[1] == pytest.approx(ends[0], rel=0.1)


def test_adam_descends_and_the_best_is_kept(content, painting, network):
    """With a rate that overshoots, the picture is the best of the trace and not the last."""
    result = quick(content, painting, network, descent=Descent("adam", 25, learning_rate=0.02))
    assert result.trace[-1].J < result.trace[0].J / 2 and result.trace[-1].evaluations == 26
    goal = Objective(content=CONTENT, beta=0, tv=1e-6)
    wild = quick(content, painting, network, goal, descent=Descent("adam", 3, 1, 0.5))
    assert wild.trace[-1].J > wild.trace[0].J
    assert np.array_equal(wild.image, content)


def test_the_start(content, painting, network):
    """No iteration: the picture is the start."""
    none = Descent(iterations=0)
    assert np.array_equal(quick(content, painting, network, descent=none).image, content)
    noise = [quick(content, painting, network, init="noise", seed=seed, descent=none).image for seed in (0, 0, 1)]
    assert np.array_equal(noise[0], noise[1]) and not np.array_equal(noise[0], noise[2])
    assert 25 < noise[0].std() < 50 and noise[0].shape == content.shape
    style = quick(content, painting, network, init="style", descent=none).image
    assert style.shape == content.shape
    assert np.abs(style.mean((0, 1)) - painting.mean((0, 1))).max() < 12


def test_total_variation_smooths(content, painting, network):
    def roughness(tv):
        goal = Objective(content=CONTENT, style=STYLE, tv=tv)
        image = quick(content, painting, network, goal, descent=Descent(iterations=10)).image / 255.0
        return np.mean(np.diff(image, axis=0) ** 2) + np.mean(np.diff(image, axis=1) ** 2)

    assert roughness(1000.0) < roughness(0.0) / 2


def test_nothing_lower_ends_early(content, painting, network):
    result = quick(content, painting, network, Objective(content=CONTENT, beta=0))
    assert result.ended == "converged" and len(result.trace) == 1 and np.array_equal(result.image, content)


# Styles, scales, colours


def test_shares_of_several_styles(content, painting, network):
    other = bundled("sunset.jpg")
    alone = quick(content, painting, network)
    assert np.array_equal(quick(content, [painting, other], network, style_weights=[3, 0]).image, alone.image)
    even, uneven = (quick(content, [painting, other], network, style_weights=w).trace[0].style for w in (None, [2, 1]))
    targets = [PerceptualLoss(network, GOAL).style_targets(to_tensor(style)) for style in (painting, other)]
    for first, got in ((1 / 2, even), (2 / 3, uneven)):
        blended = {layer: first * gram + (1 - first) * targets[1][layer] for layer, gram in targets[0].items()}
        loss = PerceptualLoss(network, GOAL)
        expected = loss(to_tensor(content), {}, blended).style.item()
        assert got == pytest.approx(expected, rel=1e-3)


def test_the_style_is_scaled_to_its_size(network, monkeypatch):
    sizes = []
    targets = PerceptualLoss.style_targets
    monkeypatch.setattr(
        PerceptualLoss,
        "style_targets",
        lambda self, style: sizes.append(tuple(style.shape[-2:])) or targets(self, style),
    )
    none, large, content = Descent(iterations=0), bundled("brushes.jpg", 300), np.zeros((96, 128, 3), np.uint8)
    quick(content, large, network, descent=none)
    quick(content, large, network, descent=none, style_size=160)
    quick(content, large, network, descent=none, style_size=160, scales=2)
    assert [max(size) for size in sizes] == [128, 160, 80, 160]


def test_coarse_to_fine(painting, network):
    content = bundled("chelsea.jpg", 160)
    seen = []
    result = quick(
        content,
        painting,
        network,
        scales=2,
        descent=Descent(iterations=4),
        each=lambda step, picture: seen.append((step.iteration, tuple(picture.shape))),
    )
    assert [(step.iteration, step.size) for step in result.trace] == (
        [(k, 80) for k in range(5)] + [(k, 160) for k in range(4, 9)]
    )
    assert result.ended == "finished" and result.image.shape == content.shape
    assert seen == [(step.iteration, (1, 3, *content.shape[:2])) for step in result.trace]
    assert all(a.evaluations < b.evaluations and a.seconds < b.seconds for a, b in zip(result.trace, result.trace[1:]))
    # the fine scale began with what the coarse one had done
    alone = quick(content, painting, network, descent=Descent(iterations=0))
    assert result.trace[5].style < alone.trace[0].style


def test_keep_colors_changes_the_luminance_only(content, painting, network):
    result = quick(content, painting, network, keep_colors=True, descent=Descent(iterations=10))
    change = result.image.astype(int) - content
    inside = ((result.image > 0) & (result.image < 255)).all(2)
    assert inside.mean() > 0.8 and np.abs(change).mean() > 5
    assert np.ptp(change[inside], axis=1).max() <= 1
    assert result.trace[-1].J < result.trace[0].J


def test_balanced_weights_mean_the_same_for_every_painting(content, painting, network):
    """J_style of untouched photos is about 1 for a faint painting and for a strong one; with raw weights it is not."""

    def start(style, balanced):
        return quick(content, style, network, GOAL, balanced=balanced, descent=Descent(iterations=0)).trace[0].style

    strong = (255 * (painting > 128)).astype(np.uint8)
    assert 0.2 < start(painting, True) < 5 and 0.2 < start(strong, True) < 5
    assert start(strong, False) > 5 * start(painting, False)


def test_balancing_one_style_is_perceptual_balance(content, painting, network):
    photos = Photos(size=256).batch(8, seed=0)
    expected = balance(network, to_tensor(painting), photos, GOAL)
    loss = PerceptualLoss(network, expected)
    J = loss(to_tensor(content), loss.content_targets(to_tensor(content)), loss.style_targets(to_tensor(painting))).J
    got = quick(content, painting, network, balanced=True, descent=Descent(iterations=0))
    assert pytest.approx(J.item(), rel=1e-3) == got.trace[0].J


# Interruption, divergence


def test_ctrl_c_gives_the_best_picture_so_far(content, painting, network):
    pictures = []

    def each(step, picture):
        pictures.append((step.J, picture.clone()))
        if step.iteration == 4:
            raise KeyboardInterrupt

    result = quick(content, painting, network, each=each, descent=Descent(iterations=50))
    assert result.ended == "stopped" and len(result.trace) == 5
    best = min(pictures, key=lambda pair: pair[0])[1]
    assert np.array_equal(result.image, to_image(best))


def test_a_J_that_is_no_number_any_more_keeps_the_best(content, painting, network, monkeypatch):
    call, count = PerceptualLoss.__call__, 0

    def breaking(self, *args):
        nonlocal count
        count += 1
        costs = call(self, *args)
        if count > 6:
            costs.J = costs.J * float("nan")
        return costs

    monkeypatch.setattr(PerceptualLoss, "__call__", breaking)
    result = quick(content, painting, network, descent=Descent(iterations=50))
    assert result.ended == "diverged" and len(result.trace) < 9
    best = min(step.J for step in result.trace[:-1])
    assert np.isfinite(best) and best < result.trace[0].J and not np.array_equal(result.image, content)


def test_weights_beyond_all_numbers_are_one_sentence(content, painting, network):
    with pytest.raises(AllaprimaError, match="not finite at the start: use smaller weights"):
        quick(content, painting, network, Objective(content=CONTENT, style=STYLE, beta=1e38))


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"init": "grey"}, "init must be content, noise or style, not 'grey'"),
        ({"style_weights": [1, 2]}, "style_weights must be 1 numbers, one for each"),
        ({"style_weights": [-1]}, "at least 0 and not all 0, not .-1."),
        ({"scales": 3}, "use fewer"),
        ({"scales": 0}, "scales must be a whole number of at least 1, not 0"),
        ({"scales": "2"}, "scales must be a whole number of at least 1, not '2'"),
        ({"style_size": 10.5}, "style_size must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number from 0 to 4294967295, not 1844"),
        ({"style_weights": 1}, "style_weights must be 1 numbers"),
        ({"style_weights": ["1"]}, "style_weights must be 1 numbers"),
        ({"descent": 20}, "descent must be of the type Descent, not int"),
        ({"goal": {"alpha": 1}}, "objective must be of the type Objective, not dict"),
        ({"goal": Objective(alpha=0, beta=0)}, "weights of J are all 0: give"),
        ({"goal": Objective(style={"relu1_2": 0.0}, alpha=0)}, "weights of J are all 0: give"),
        ({"goal": Objective(style={"relu6_1": 1.0})}, "no layer 'relu6_1'"),
    ],
)
def test_arguments_that_make_no_sense(options, sentence, content, painting, network):
    with pytest.raises(AllaprimaError, match=sentence):
        quick(content, painting, network, **options)


@pytest.mark.parametrize(
    "values, sentence",
    [
        (("sgd",), "method must be lbfgs or adam, not 'sgd'"),
        (("adam", -1), "iterations must be a whole number of at least 0, not -1"),
        (("lbfgs", 5, 0), "history must be a whole number of at least 1, not 0"),
        (("adam", 5, 20, 0.0), "learning_rate must be a number above 0, not 0.0"),
        (("adam", 5, 20, float("nan")), "learning_rate must be a number above 0, not nan"),
        (("adam", "5"), "iterations must be a whole number of at least 0, not '5'"),
    ],
)
def test_descents_that_make_no_sense(values, sentence):
    with pytest.raises(AllaprimaError, match=sentence):
        Descent(*values)


# What a picture may be given as


def test_arrays_pil_images_and_paths_give_the_same_picture(content, painting, network, tmp_path):
    Image.fromarray(content).save(tmp_path / "photo.png")
    Image.fromarray(painting).save(tmp_path / "painting.png")
    expected = quick(content, painting, network).image
    images = Image.fromarray(content), [Image.fromarray(painting).convert("RGBA")]
    for photo, style in (images, (tmp_path / "photo.png", str(tmp_path / "painting.png"))):
        assert np.array_equal(quick(photo, style, network).image, expected)
    grey, deep = content[..., [0, 0, 0]], Image.fromarray(content[..., 0].astype(np.uint16) * 257)
    assert np.array_equal(quick(deep, painting, network).image, quick(grey, painting, network).image)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            lambda photo: photo / 255.0,
            r"must be a uint8 array \[H, W, 3\] with values 0 to 255, not float64 \[\d+, 72, 3\]",
        ),
        (lambda photo: photo[..., 0], r"not uint8 \[\d+, 72\]"),
        (lambda photo: photo[:0], r"not uint8 \[0, 72, 3\]"),
        (lambda photo: photo[None], r"not uint8 \[1, \d+, 72, 3\]"),
        (lambda photo: torch.from_numpy(photo), "must be a uint8 array, a PIL image or a path, not Tensor"),
        (lambda photo: None, "must be a uint8 array, a PIL image or a path, not NoneType"),
        (lambda photo: "nowhere.png", "nowhere.png does not exist"),
    ],
)
def test_what_is_not_a_picture_is_one_sentence(change, sentence, content, painting, network):
    for arguments in (
        (change(content), painting),
        (content, change(painting)),
        (content, [painting, change(painting)]),
    ):
        with pytest.raises(AllaprimaError, match=sentence):
            quick(*arguments, network)
    with pytest.raises(AllaprimaError, match="styles is empty: give at least one painting"):
        quick(content, [], network)


# Silence


def test_the_optimizer_reports_by_events_and_prints_nothing(content, painting, network, capfd):
    events = []
    result = quick(content, painting, network, listener=events.append)
    assert events[0] == Started("optimize", 5, "iterations")
    assert [(type(event), event.done) for event in events[1:]] == [(Advanced, n) for n in range(6)]
    assert f"J {result.trace[-1].J:.4g}" in events[-1].note
    assert capfd.readouterr() == ("", "")
