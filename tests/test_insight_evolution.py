"""`allaprima inspect evolution`: snapshots of a training, guided projections against another way, the page."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

from allaprima.commands.app import main
from allaprima.insight.evolution import activations, feature_layers, follow, guided_projection, read_snapshots
from allaprima.insight.features import find_photos
from allaprima.models.tensors import to_tensor
from allaprima.models.transformer import transformer
from allaprima.train.checkpoint import checkpoint_of, snapshot_steps, write_checkpoint
from allaprima.train.run import Stopped, train_style
from allaprima.train.settings import Settings
from conftest import PHOTOS
from training import LIGHT, STYLE

pytestmark = pytest.mark.usefixtures("one_thread")


SMALL = Settings(steps=6, batch=1, size=64, style_size=64, warmup=2, **LIGHT)


def tensors(file):
    with safe_open(file, "pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model file of a small training with snapshots."""
    output = tmp_path_factory.mktemp("snapshots") / "small.onnx"
    train_style(STYLE, output, SMALL, snapshots=True)
    return output


def test_snapshots_change_nothing_and_end_with_the_trained_weights(trained, tmp_path):
    train_style(STYLE, tmp_path / "plain.onnx", SMALL)
    plain, snapped = (tensors(checkpoint_of(output)) for output in (tmp_path / "plain.onnx", trained))
    assert plain.keys() == snapped.keys() and all(torch.equal(plain[key], snapped[key]) for key in plain)
    assert not list((tmp_path / "plain.run").glob("snapshot*"))
    steps = [file.name for file in sorted(trained.with_suffix(".run").glob("snapshot*"))]
    assert steps == [f"snapshot-{n:06d}.safetensors" for n in (1, 2, 3, 4, 6)]  # 1, 2, 5 and 10 64ths are one step
    last = tensors(trained.with_suffix(".run") / steps[-1])
    assert all(torch.equal(last[key], plain[f"network.{key}"]) for key in last) and len(last) == len(
        [key for key in plain if key.startswith("network.")]
    )


def test_snapshots_survive_an_interruption(trained, tmp_path):
    output, answers = tmp_path / "small.onnx", iter([False, True])
    with pytest.raises(Stopped):
        train_style(STYLE, output, SMALL, snapshots=True, stop=lambda: next(answers))
    assert [s.step for s in read_snapshots(output)] == [1, 2, 3, 4]
    train_style(STYLE, output, resume=True)
    whole, resumed = read_snapshots(trained), read_snapshots(tmp_path / "small.run")
    assert [s.step for s in resumed] == [s.step for s in whole] == [1, 2, 3, 4, 6]
    for a, b in zip(whole, resumed, strict=True):
        state = b.network.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in a.network.state_dict().items())
    train_style(STYLE, output, steps=9, resume=True)
    assert [s.step for s in read_snapshots(output)] == [1, 2, 3, 4, 6, 9]  # of a training that went on


def test_snapshots_of_another_training_are_passed_over(trained, tmp_path):
    run = tmp_path / "two.run"
    run.mkdir()
    values = {"settings": replace(SMALL, seed=7).to_dict(), "style": "other", "step": 5}
    weights = tensors(next(trained.with_suffix(".run").glob("snapshot*")))
    write_checkpoint(run / "snapshot-000005.safetensors", weights, values)
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

    def begin(style, output, settings, **options):
        seen.append(settings.snapshots)
        raise SystemExit

    monkeypatch.setattr("allaprima.train.run.begin", begin)
    for more in ([], ["--snapshots"]):
        monkeypatch.setattr(sys, "argv", ["allaprima", "train", str(STYLE), "--no-report", *more])
        with pytest.raises(SystemExit):
            main()
    assert seen == [False, True]


def test_evolution(inspect, trained, ten_photos):
    code, error, page, sheet = inspect("evolution", trained, "--photos", ten_photos, "--count", "1", "--size", "64")
    assert code == 0 and "1 features of 6 layers in 5 snapshots over 10 photos" in error
    assert "1, 2, 3, 4, 6 steps" in page and sheet.shape[0] > 7 * 96


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nothing.run"], "nothing.run does not exist: give the .run folder or the model file"),
        (["nothing.onnx"], "nothing.run does not exist"),
        ([PHOTOS], "has no snapshots: train with --snapshots"),
        (["RUN", "--layers", "relu1_1"], "no layer 'relu1_1'. It has: stem, quarter, eighth, at_eighth.1"),
        (["RUN", "--count", "0"], "count must be a whole number of at least 1, not 0"),
        (["RUN", "--size", "15"], "size must be a whole number of at least 16, not 15"),
        (["RUN", "--photos", "nothing"], "nothing is not a folder"),
    ],
)
def test_evolution_of_bad_input(inspect, trained, arguments, sentence):
    code, error, *_ = inspect("evolution", *[trained if word == "RUN" else word for word in arguments])
    assert code == 2 and sentence in error


def test_photos_that_can_not_be_used_are_skipped(inspect, trained, copied):
    """One that is damaged, one that is smaller than a style network's least, and a long one that gets so by --size."""
    first = min(copied.iterdir())
    first.write_bytes(first.read_bytes()[:100])
    Image.new("RGB", (15, 40)).save(copied / "small.png")
    Image.new("RGB", (640, 60)).save(copied / "wide.png")
    code, error, page, _ = inspect("evolution", trained, "--photos", copied, "--count", "1", "--size", "64")
    assert code == 0 and f"3 files are skipped; the first: {first} is damaged" in error and "over 9 photos" in page


def test_photos_of_which_none_can_be_used(inspect, trained, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (15, 40)).save(tmp_path / "photos" / "small.png")
    code, error, *_ = inspect("evolution", trained, "--photos", tmp_path / "photos")
    assert code == 2 and "small.png of 15x40 is too small for a style network: give one of at least 16x16" in error


def test_broken_snapshots(inspect, tmp_path):
    (tmp_path / "a.run").mkdir()
    (tmp_path / "a.run" / "snapshot-000001.safetensors").write_bytes(b"nothing")
    assert "snapshot-000001.safetensors is not a checkpoint" in inspect("evolution", tmp_path / "a.run")[1]
    values = {"settings": SMALL.to_dict(), "style": "", "step": 1}
    write_checkpoint(tmp_path / "a.run" / "snapshot-000001.safetensors", {}, values)
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
        "at_eighth.1",
        "to_quarter",
        "at_quarter.0",
        "at_quarter.1",
        "to_half",
        "at_half.0",
    ]
    assert list(feature_layers(transformer("johnson"))) == [f"layers.{n}" for n in (*range(8), 9, 11)]


def test_the_last_snapshot_is_like_itself_and_finds_the_strongest(trained, ten_photos):
    snapshots, files = read_snapshots(trained), find_photos(ten_photos)[:3]
    best, likeness, _ = follow(snapshots, ["stem", "to_half"], files, 64)
    assert all(values[-1] == pytest.approx(1, abs=1e-5) and values[0] < 0.999999 for values in likeness.values())
    maps = [activations(snapshots[2].network, to_tensor(Image.open(file)), ["stem"])["stem"][0] for file in files]
    for channel, hit in enumerate(best[2]["stem"]):
        assert hit.value == max(m[channel].max().item() for m in maps) == maps[hit.photo][channel, hit.y, hit.x].item()


@pytest.mark.parametrize("missing", ["torch", "matplotlib", "jinja2"])
def test_without_the_extra(missing):
    """In a fresh process: one sentence where a package is missing; the help needs none of them."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from allaprima.commands.app import main; "
        "assert not {'torch', 'matplotlib'} & {name for name, module in sys.modules.items() if module}; main()"
    )
    for arguments, expected in (["--help"], 0), (["features", "--layer", "relu1_1"], 2):
        ran = subprocess.run([sys.executable, "-c", code, "inspect", *arguments], capture_output=True, text=True)
        assert ran.returncode == expected, ran.stderr
    assert "pip install '.[train]'" in ran.stderr and "Traceback" not in ran.stderr
