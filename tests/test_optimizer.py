"""The Gatys optimizer: the reconstructions of its paper, its bookkeeping, and what is left after Ctrl-C."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from allaprima.baseline import optimizer
from allaprima.baseline.optimizer import Descent, descend, optimize, optimize_files
from allaprima.commands import baseline as commands
from allaprima.core.errors import AllaprimaError
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective, PerceptualLoss, balance
from allaprima.models.tensors import to_tensor
from conftest import PHOTOS

# What `balance` gives for the two pictures below, about: the tests need not compute it each time.
CONTENT = {"relu2_2": 1e-5}
STYLE = {"relu1_2": 1e-9, "relu2_2": 1e-9}
GOAL = Objective(content=CONTENT, style=STYLE)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


def bundled(name, side):
    image = Image.open(PHOTOS / name).convert("RGB")
    image.thumbnail((side, side))
    return np.array(image)


@pytest.fixture(scope="module")
def content():
    return bundled("chelsea.jpg", 72)


@pytest.fixture(scope="module")
def painting():
    return bundled("brushes.jpg", 72)


def quick(content, painting, network, goal=GOAL, **options):
    options = {"descent": Descent(iterations=5), "balanced": False} | options
    return optimize(content, painting, goal, network=network, **options)


def costs_of(image, content, painting, network, goal=GOAL):
    loss = PerceptualLoss(network, goal)
    with torch.no_grad():
        return loss(to_tensor(image), loss.content_targets(to_tensor(content)), loss.style_targets(to_tensor(painting)))


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


def psnr(a, b):
    def halve(image):
        image = image[: image.shape[0] // 2 * 2] / 255.0
        return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4

    return -10 * np.log10(np.mean((halve(a) - halve(b)) ** 2))


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
    other = bundled("sunset.jpg", 72)
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


def test_original_colours_change_the_luminance_only(content, painting, network):
    result = quick(content, painting, network, original_colours=True, descent=Descent(iterations=10))
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
    photos = optimizer.Photos(size=256).batch(8, seed=0)
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
    assert np.array_equal(result.image, optimizer.to_image(best))


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
    with pytest.raises(AllaprimaError, match="smaller weights"):
        quick(content, painting, network, Objective(content=CONTENT, style=STYLE, beta=1e38))


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"init": "grey"}, "content, noise or style"),
        ({"style_weights": [1, 2]}, "one for each"),
        ({"style_weights": [-1]}, "0 or more"),
        ({"scales": 3}, "give fewer"),
        ({"goal": Objective(alpha=0, beta=0)}, "nothing to minimise"),
        ({"goal": Objective(style={"relu6_1": 1.0})}, "no layer 'relu6_1'"),
    ],
)
def test_arguments_that_make_no_sense(options, sentence, content, painting, network):
    with pytest.raises(AllaprimaError, match=sentence):
        quick(content, painting, network, **options)


@pytest.mark.parametrize("values", [("sgd",), ("adam", -1), ("lbfgs", 5, 0), ("adam", 5, 20, 0.0)])
def test_descents_that_make_no_sense(values):
    with pytest.raises(AllaprimaError):
        Descent(*values)


# Files and the command


@pytest.fixture
def files(tmp_path, content, painting):
    Image.fromarray(content).save(tmp_path / "photo.png")
    Image.fromarray(painting).save(tmp_path / "painting.png")
    return tmp_path


def run(*arguments):
    app = Typer()
    app.command()(commands.baseline)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_picture_trace_and_steps(files, content):
    goal = ["--content-layers", "relu2_2=1e-5", "--style-layers", "relu1_2=1e-9,relu2_2=1e-9", "--raw-weights"]
    result = run(
        files / "photo.png",
        files / "painting.png",
        "-o",
        files / "out.png",
        "--iterations",
        4,
        "--trace",
        files / "trace.csv",
        "--every",
        2,
        *goal,
    )
    assert result.exit_code == 0, result.output
    painted = np.asarray(Image.open(files / "out.png"))
    assert painted.shape == content.shape and not np.array_equal(painted, content)
    rows = list(csv.DictReader((files / "trace.csv").open()))
    assert [int(row["iteration"]) for row in rows] == [0, 1, 2, 3, 4]
    assert float(rows[4]["J"]) < float(rows[0]["J"])
    steps = sorted((files / "out_steps").iterdir())
    assert [step.name for step in steps] == ["00000.png", "00002.png", "00004.png"]
    assert np.array_equal(np.asarray(Image.open(steps[0])), content)
    assert np.array_equal(np.asarray(Image.open(steps[2])), painted)


def test_a_json_trace_says_the_same(files, network):
    result = optimize_files(
        files / "photo.png",
        [files / "painting.png"],
        files / "out.jpg",
        trace=files / "t.json",
        size=64,
        objective=GOAL,
        network=network,
        balanced=False,
        descent=Descent(iterations=2),
    )
    rows = json.loads((files / "t.json").read_text())
    assert [row["J"] for row in rows] == [step.J for step in result.trace]
    assert list(rows[0]) == [
        "iteration",
        "evaluations",
        "seconds",
        "size",
        "J",
        "content",
        "content_as_written",
        "style",
        "tv",
    ]
    assert max(Image.open(files / "out.jpg").size) == 64


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere.png", "painting.png", "-o", "out.png"], "nowhere.png does not exist"),
        (["photo.png", "photo.txt", "-o", "out.png"], "can't be read as a picture"),
        (["photo.png", "painting.png", "-o", "out.xyz"], "ending of a picture"),
        (["photo.png", "painting.png", "-o", "out.png", "--trace", "t.txt"], "csv or .json"),
        (["photo.png", "painting.png", "-o", "out.png", "--size", "0"], "above 0"),
        (["photo.png", "painting.png", "-o", "out.png", "--style-weights", "a,b"], "as 2,1"),
        (["photo.png", "painting.png", "-o", "out.png", "--style-layers", "relu1_2=x"], "relu3_3=0.5"),
        (["photo.png", "painting.png", "-o", "out.png", "--loss-network", "alexnet"], "Choose one of"),
        (["dot.png", "painting.png", "-o", "out.png"], "1x1 is too small"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, sentence, files, monkeypatch):
    (files / "photo.txt").write_text("no picture")
    Image.new("RGB", (1, 1)).save(files / "dot.png")
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    result = run(*arguments, "--raw-weights")
    assert isinstance(result.exception, AllaprimaError) and sentence in str(result.exception)
    assert sorted(files.rglob("*")) == before


def test_without_torch_the_sentence_names_the_extra(files):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from allaprima.commands import baseline as commands\n"
        "try: commands.baseline('a', ['b'], 'c.png')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "AllaprimaError This needs the training extra: pip install 'allaprima[train]'."


def test_sigint_leaves_the_best_picture_in_its_file(files, content, painting, network):
    """The real thing: a process, Ctrl-C after a few iterations, exit code 130, a whole and better picture."""
    code = "import typer; from allaprima.commands.baseline import baseline; typer.run(baseline)"
    command = [
        sys.executable,
        "-c",
        code,
        "photo.png",
        "painting.png",
        "-o",
        "out.png",
        "--iterations",
        "100000",
        "--every",
        "1",
        "--content-layers",
        "relu2_2=1e-5",
        "--style-layers",
        "relu1_2=1e-9,relu2_2=1e-9",
        "--raw-weights",
        "--trace",
        "trace.csv",
    ]
    process = subprocess.Popen(command, cwd=files, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while not (files / "out_steps" / "00003.png").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    assert not (files / "out.png").exists()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said and "stopped at iteration" in said
    painted = np.array(Image.open(files / "out.png"))
    assert costs_of(painted, content, painting, network).J < costs_of(content, content, painting, network).J
    assert len((files / "trace.csv").read_text().splitlines()) > 4
    assert not list(files.glob(".*"))
