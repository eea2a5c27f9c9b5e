"""Training, small: six steps at 64 pixels. What a long one would be good for is measured in benchmarks/."""

import copy
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from allaprima.commands.app import main
from allaprima.core.contract import Card
from allaprima.core.errors import AllaprimaError
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import read_rgb
from allaprima.models import transformer as transformers
from allaprima.models.tensors import read_style
from allaprima.models.transformer import start_of, transformer
from allaprima.train import pretrain as pretraining
from allaprima.train import trainer as training
from allaprima.train.card import make_card
from allaprima.train.photos import BUNDLED, BUNDLED_HELD_OUT, Photos
from allaprima.train.settings import Settings, change, make_settings, parse_layers
from clips import panned, write_clip
from conftest import ROOT

STYLE = ROOT / "examples" / "styles" / "starry_night.jpg"
SMALL = Settings(steps=6, batch=2, size=64, style_size=96, warmup=2)


def weights(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def run_cli(monkeypatch, capsys, *arguments):
    """The exit code and stderr of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["allaprima", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return exit.value.code, capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output = tmp_path_factory.mktemp("train") / "small.onnx"
    training.train_style(STYLE, output, SMALL, report=False, name="Small", credit="Vincent van Gogh", licence="CC0-1.0")
    return output


def test_training_leaves_a_model_file_with_its_settings(trained):
    session = onnxruntime.InferenceSession(str(trained), providers=["CPUExecutionProvider"])
    card = Card.of_metadata(session.get_modelmeta().custom_metadata_map)
    assert (card.name, card.credit, card.licence) == ("Small", "Vincent van Gogh", "CC0-1.0")
    assert card.settings["steps"] == 6 and card.objective["style"].keys() == SMALL.style_layers.keys()
    assert set(card.losses["held_out"]) == set(BUNDLED_HELD_OUT)
    painting, thumbnail = (Image.open(io.BytesIO(jpeg)) for jpeg in (card.painting, card.thumbnail))
    assert max(painting.size) == SMALL.style_size == max(thumbnail.size) and not card.grams
    assert {p.name for p in trained.parent.iterdir()} == {"small.onnx", "small.run"}
    assert (trained.with_suffix(".run") / "preview-000006.jpg").exists()


def test_the_painting_can_stay_out_of_the_model_file(trained, tmp_path):
    """Then the file holds its Gram matrices, and is shown by a photo in the style; folders are named in neither."""
    shutil.copytree(trained.with_suffix(".run"), tmp_path / "small.run")
    training.train_style(STYLE, tmp_path / "small.onnx", resume=True, report=False, painting=False)
    card = Stylizer(tmp_path / "small.onnx").card
    assert not card.painting and card.grams.keys() == SMALL.style_layers.keys()
    wanted = training.Trainer(STYLE, SMALL, "cpu").style_targets
    for layer, gram in card.grams.items():
        assert (torch.from_numpy(gram) - wanted[layer][0]).norm() < 0.005 * wanted[layer].norm()
    shown = Image.open(io.BytesIO(card.thumbnail))
    shapes = [
        np.asarray(image.convert("L").resize(shown.size)) for image in (shown, Image.open(BUNDLED / "chelsea.jpg"))
    ]
    assert max(shown.size) == 160 and np.corrcoef(*(image.ravel() for image in shapes))[0, 1] > 0.6

    settings = change(SMALL, {"photos": str(tmp_path / "photos"), "loss_weights": str(tmp_path / "vgg.pth")})
    trainer = training.Trainer(STYLE, SMALL, "cpu")
    trainer.settings = settings
    card = make_card(trainer, STYLE, {"name": "small"})
    assert (card.settings["photos"], card.settings["loss_weights"]) == ("photos", "vgg.pth")
    assert str(tmp_path) not in str(card.to_metadata()) and str(STYLE.parent) not in str(card.to_metadata())


def test_costs_go_down(tmp_path):
    trainer = training.Trainer(STYLE, change(SMALL, {"steps": 30, "start": "scratch", "stylization": 0.0}))
    for _ in range(30):
        trainer.step()
    J = [row[0] for row in trainer.history]
    assert np.mean(J[-5:]) < 0.8 * np.mean(J[:3])


def test_beta_is_steered_to_the_stylization_and_a_beta_that_is_given_stays():
    """Too near to the photos: beta grows; too far: it shrinks; within bounds, and not at the end."""
    betas = {}
    for stylization in (0.001, 100.0, 0.0):
        trainer = training.Trainer(STYLE, change(SMALL, {"steps": 10, "stylization": stylization}), "cpu")
        found = [trainer.objective.beta, *(trainer.objective.beta for _ in range(10) if trainer.step())]
        assert found[0] == 2.5 and found[7] == found[8] == found[9] == found[10]
        assert trainer.loss.objective.beta == found[-1] == trainer.state()[1]["objective"]["beta"]
        betas[stylization] = found[-1]
    assert 1.25 <= betas[0.001] < 2.3 and 2.7 < betas[100.0] <= 5 and betas[0.0] == 2.5

    assert change(Settings(), {"beta": 4}).stylization == 0 and change(Settings(), {"beta": 4}).beta == 4
    assert change(Settings(), {"beta": 4.0, "stylization": 0.5}).stylization == 0.5
    assert change(Settings(), {"beta": None}).stylization == Settings().stylization > 0


def test_flicker_is_the_part_of_the_noise_that_a_picture_shows():
    """A network that makes its photo three times as bright shows nine times the noise's energy; without noise, nothing."""
    trainer = training.Trainer(STYLE, SMALL, "cpu")
    trainer.network = lambda photos: 3 * photos
    photos, targets = trainer._batch()
    noise = trainer._noise(photos)
    assert noise.shape == photos.shape and 1.95 < 255 * noise.std() < 2.05 and abs(255 * noise.mean()) < 0.05
    costs, flicker, grid = trainer._cost(photos, targets, noise)
    assert flicker.item() == pytest.approx(9 * noise.double().square().mean().item() / (2 / 255) ** 2, rel=1e-3)
    assert grid.item() == pytest.approx(training.grid_energy(2 * photos).item(), rel=1e-3)
    alone, none, _ = trainer._cost(photos, targets, None)
    assert none == 0 and torch.allclose(alone.J, costs.J)

    assert torch.equal(noise, trainer._noise(photos))
    trainer.history.append((1.0, 1.0, 1.0))
    assert not torch.equal(noise, trainer._noise(photos))


@given(
    period=st.sampled_from((2, 4, 8)),
    height=st.integers(16, 40),
    width=st.integers(16, 40),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_grid_energy_is_that_of_what_repeats(period, height, width, seed):
    """A pattern of random numbers all over: its variance in each colour; a flat picture of any colour has none."""
    random = np.random.default_rng(seed)
    pattern = random.uniform(0, 1, (3, period, period))
    rows, columns = np.arange(height) % period, np.arange(width) % period
    pictures = torch.from_numpy(pattern[:, rows][:, :, columns])[None]
    assert training.grid_energy(pictures).item() == pytest.approx(255**2 * pattern.var((1, 2)).mean(), rel=1e-9)
    assert training.grid_energy(torch.full((2, 3, height, width), 0.3, dtype=torch.float64)) < 1e-20
    other = torch.from_numpy(random.uniform(0, 1, (1, 3, 8, 8))).repeat(
        1, 1, 40, 40
    )  # one of another place, upside down
    assert training.grid_energy(torch.cat([other, 1 - other], 3)) < 1e-20


def test_stability_makes_pictures_that_show_less_noise():
    flickers = []
    for stability in (0.0, 1.0):
        trainer = training.Trainer(STYLE, change(SMALL, {"steps": 30, "stability": stability, "evenness": 0.0}), "cpu")
        for _ in range(30):
            trainer.step()
        random = torch.Generator().manual_seed(0)
        photo = trainer.photos.held_out[0].float()
        noisy = photo + 2 * torch.randn(photo.shape, generator=random)
        flickers.append((trainer.stylize(photo) - trainer.stylize(noisy)).square().mean().item())
    assert flickers[1] < 0.7 * flickers[0]


def test_johnson_is_trained_as_it_was_published_unless_told_otherwise():
    johnson = change(Settings(), {"architecture": "johnson"})
    assert (johnson.optimizer, johnson.learning_rate, johnson.stability, johnson.evenness) == ("adam", 1e-3, 0, 0)
    assert change(Settings(), {"architecture": "johnson", "learning_rate": 0.01}).learning_rate == 0.01
    assert change(Settings(), {"architecture": "best"}).optimizer == "soap"


def test_ever_more_steps_are_made_with_settled_norms():
    trainer = training.Trainer(STYLE, change(SMALL, {"steps": 1000}), "cpu")
    settled = []
    for step in range(1000):
        trainer.history = [(1.0, 1.0, 1.0)] * step
        settled.append(trainer._settled())
    assert not any(settled[:100]) and all(settled[700:])
    parts = [np.mean(settled[start : start + 200]) for start in (100, 300, 500)]
    assert np.allclose(parts, (1 / 6, 3 / 6, 5 / 6), atol=0.1)


def test_a_training_begins_with_the_pretrained_weights_unless_told_otherwise(tmp_path, monkeypatch, capsys):
    begun = {start: training.Trainer(STYLE, replace(SMALL, start=start), "cpu") for start in ("pretrained", "scratch")}
    bundled = load_file(start_of("live"))
    for name, value in begun["pretrained"].network.state_dict().items():
        assert torch.equal(value, bundled[name].to(value.dtype))
    mean = {
        start: np.mean([costs["J"] for costs in trainer.held_out_costs().values()]) for start, trainer in begun.items()
    }
    assert mean["pretrained"] < 0.75 * mean["scratch"]

    arguments = [
        "train",
        STYLE,
        "-o",
        tmp_path / "s.onnx",
        "--steps",
        1,
        "--size",
        64,
        "--style-size",
        64,
        "--no-report",
    ]
    for options, words in ([], "from its pretrained start"), (["--from", "scratch"], "from random weights"):
        code, told = run_cli(monkeypatch, capsys, *arguments, *options)
        assert code == 0 and words in " ".join(told.split())
    code, error = run_cli(monkeypatch, capsys, *arguments, "--from", "nowhere")
    assert code == 2 and "Choose pretrained or scratch" in error


def test_a_network_without_a_pretrained_start_begins_at_random():
    assert start_of("johnson") is None
    torch.manual_seed(0)
    ours = transformer("johnson", "pretrained").state_dict()
    torch.manual_seed(0)
    assert all(torch.equal(value, ours[name]) for name, value in transformer("johnson").state_dict().items())


def test_a_start_is_learned_from_many_styles(tmp_path, monkeypatch):
    """A step moves what is common and what the style of the step has for itself; the start has the mean of the latter."""
    small = replace(SMALL, **pretraining.SETTINGS | {"steps": 4, "warmup": 1})
    trainer = pretraining.ManyStyles([STYLE], small, "cpu")
    assert len(trainer.styles) == 4
    before = [copy.deepcopy(style.parameters) for style in trainer.styles]
    common = {name: p.detach().clone() for name, p in trainer.network.named_parameters() if name not in before[0]}
    trainer.step()  # the first of SOAP only measures
    trainer.step()
    changed = [
        any(not torch.equal(was[name], p) for name, p in style.parameters.items())
        for was, style in zip(before, trainer.styles)
    ]
    assert 1 <= sum(changed) <= 2
    assert {"stem.norm.weight", "to_pixels.conv.weight"} < before[0].keys() and "stem.conv.weight" in common
    assert all(not torch.equal(p, common[name]) for name, p in trainer.network.named_parameters() if name in common)

    pretraining.pretrain([STYLE], tmp_path / "start.safetensors", small, "cpu")
    trainer.step(), trainer.step()
    start = load_file(tmp_path / "start.safetensors")
    for name in before[0]:
        mean = np.mean([style.parameters[name].detach().double().numpy() for style in trainer.styles], 0)
        assert np.allclose(start[name].double(), mean, rtol=1e-3, atol=1e-6)
    assert np.allclose(start["eighth.conv.weight"], trainer.network.eighth.conv.weight.detach(), rtol=1e-3, atol=1e-6)
    monkeypatch.setattr(transformers, "start_of", lambda architecture: tmp_path / "start.safetensors")
    network = transformer("live", "pretrained")
    assert all(torch.equal(value, start[name].to(value.dtype)) for name, value in network.state_dict().items())


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_variants_of_a_painting_are_itself_a_cut_and_recolourings(seed):
    painting = read_rgb(STYLE).resize((96, 64))
    same, cut, recoloured, both = pretraining.variants(painting, np.random.default_rng(seed))
    assert same is painting and recoloured.size == painting.size and recoloured.mode == both.mode == "RGB"
    for part in cut, both:
        assert 0.45 * 96 < part.width < 0.75 * 96 and part.width / part.height == pytest.approx(1.5, abs=0.1)
    windows = np.lib.stride_tricks.sliding_window_view(np.array(painting), (*cut.size[::-1], 3))
    assert (windows == np.array(cut)).all((-3, -2, -1)).any()
    light = [np.array(picture.convert("HSV"), float)[..., 2] for picture in (painting, recoloured)]
    assert np.abs(light[0] - light[1]).max() <= 1  # the hue alone has changed
    assert np.abs(np.array(painting, float) - np.array(recoloured)).mean() > 5


def test_resume_gives_what_an_uninterrupted_training_gives(trained, tmp_path, monkeypatch):
    step = training.Trainer.step

    def interrupted(self):
        values = step(self)
        if self.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return values

    monkeypatch.setattr(training.Trainer, "step", interrupted)
    output = tmp_path / "small.onnx"
    with pytest.raises(KeyboardInterrupt):
        training.train_style(STYLE, output, SMALL, report=False)
    assert not output.exists()
    monkeypatch.setattr(training.Trainer, "step", step)
    training.train_style(STYLE, output, resume=True, report=False)
    whole, resumed = weights(training.checkpoint_of(trained)), weights(training.checkpoint_of(output))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_batches_come_back_and_a_new_trainer_has_the_same():
    """Content targets are computed once for about REUSE steps, and follow from the number of the step alone."""
    trainer = training.Trainer(STYLE, replace(SMALL, batch=4), "cpu")
    computed = []
    targets = trainer.loss.content_targets
    trainer.loss.content_targets = lambda photos: computed.append(1) or targets(photos)
    seen = []
    for _ in range(80):
        seen.append(trainer._batch()[0].sum().item())
        trainer.history.append((1.0, 1.0, 1.0))
    assert len(computed) == len(set(seen)) < 40 and len(trainer._batches) <= training.WAITING // 4
    other = training.Trainer(STYLE, replace(SMALL, batch=4), "cpu")
    other.history = trainer.history[:77]
    assert other._batch()[0].sum().item() == seen[77]


def test_the_first_crops_are_smaller_and_a_continued_training_has_the_same():
    trainer = training.Trainer(STYLE, replace(SMALL, steps=400, early_size=0.75), "cpu")
    trainer.loss.content_targets = lambda photos: None
    sides = []
    for _ in range(400):
        batch = trainer._batch()[0]
        sides.append(batch.shape[-1])
        trainer.history.append((1.0, 1.0, 1.0))
    early = SMALL.size * 3 // 4
    assert (
        set(sides[:150]) == {early} and set(sides[280:]) == {SMALL.size} and set(sides[150:280]) == {early, SMALL.size}
    )
    for step in (200, 230, 260):  # where both sizes lie ready
        other = training.Trainer(STYLE, trainer.settings, "cpu")
        other.history = trainer.history[:step]
        assert other._batch()[0].shape[-1] == sides[step]


def test_resume_with_other_settings_or_another_painting_is_refused(trained):
    with pytest.raises(AllaprimaError, match="--steps alone"):
        training.train_style(STYLE, trained, change(SMALL, {"beta": 1.0}), resume=True)
    with pytest.raises(AllaprimaError, match="another painting"):
        training.train_style(BUNDLED / "fig.jpg", trained, resume=True)


def test_a_finished_training_goes_on_with_more_steps(trained, tmp_path):
    output = tmp_path / "more.onnx"
    training.checkpoint_of(output).parent.mkdir()
    training.checkpoint_of(output).write_bytes(training.checkpoint_of(trained).read_bytes())
    training.train_style(STYLE, output, change(SMALL, {"steps": 8}), resume=True, report=False)
    assert len(weights(training.checkpoint_of(output))["history"]) == 8


def test_divergence_goes_back_and_halves_the_rate(tmp_path, monkeypatch):
    step, rates = training.Trainer.step, []

    def poisoned(self):
        if self.done == 4 and not rates:
            rates.append(self.learning_rate())
            with torch.no_grad():
                next(self.network.parameters()).fill_(float("nan"))
        elif self.done == 4:
            rates.append(self.learning_rate())
        return step(self)

    monkeypatch.setattr(training.Trainer, "step", poisoned)
    monkeypatch.setattr(training, "KEEP_EVERY", 2)
    output = tmp_path / "nan.onnx"
    training.train_style(STYLE, output, SMALL, report=False)
    assert rates[1] == rates[0] / 2
    assert all(torch.isfinite(value).all() for value in weights(training.checkpoint_of(output)).values())


def test_divergence_without_end_is_one_sentence(tmp_path, monkeypatch):
    def hopeless(self):
        raise training.Diverged

    monkeypatch.setattr(training.Trainer, "step", hopeless)
    with pytest.raises(AllaprimaError, match="--learning-rate"):
        training.train_style(STYLE, tmp_path / "x.onnx", SMALL, report=False)
    assert not (tmp_path / "x.onnx").exists()


def test_ctrl_c_saves_and_resume_finishes(tmp_path):
    output = tmp_path / "stopped.onnx"
    command = [
        sys.executable,
        "-m",
        "allaprima",
        "train",
        str(STYLE),
        "-o",
        str(output),
        "--batch",
        "2",
        "--size",
        "64",
        "--style-size",
        "96",
        "--no-report",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen([*command, "--steps", "100000"], stderr=subprocess.PIPE, text=True)
    previews = output.with_suffix(".run")
    deadline = time.time() + 120
    while time.time() < deadline and not list(previews.glob("preview-*.jpg")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in said and not output.exists()
    done = len(weights(training.checkpoint_of(output))["history"])
    assert done > 0
    subprocess.run([*command[:7], "--resume", "--steps", str(done + 1), "--no-report"], check=True, timeout=120)
    assert output.exists()


# -- photos ----------------------------------------------------------------------------------------------------------


def test_photos_come_from_nested_folders_and_broken_ones_are_counted(tmp_path):
    nested = tmp_path / "a" / "b"
    nested.mkdir(parents=True)
    for number, name in enumerate(["astronaut.jpg", "coffee.jpg", "fig.jpg"]):
        Image.open(BUNDLED / name).save(nested / f"{number}.png")
    (tmp_path / "broken.jpg").write_bytes((BUNDLED / "life.jpg").read_bytes()[:500])
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("no photo")
    photos = Photos(tmp_path, size=64)
    assert (len(photos.train), len(photos.held_out), photos.skipped) == (2, 1, 2)
    assert all(min(p.shape[1:]) == 96 and p.dtype == torch.uint8 for p in photos.train)


def test_16_bit_and_turned_pictures_are_read_as_they_look(tmp_path):
    ramp = np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (80, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert np.abs(np.asarray(read_rgb(tmp_path / "deep.png"))[..., 0].astype(int) - ramp // 257).max() <= 1
    exif = Image.Exif()
    exif[274] = 6  # shown a quarter turn clockwise
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg").size == (20, 40)


def test_crops_are_a_function_of_the_seed():
    photos = Photos(size=64)
    assert len(photos.train) == 12 and sorted(photos.names) == sorted(BUNDLED_HELD_OUT)
    first, again, other = photos.batch(3, 1), photos.batch(3, 1), photos.batch(3, 2)
    assert first.shape == (3, 3, 64, 64) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert photos.batch(3, 1, part=0.75).shape == (3, 3, 48, 48)


def test_photos_from_a_video(tmp_path):
    clip = tmp_path / "clip.mp4"
    write_clip(clip, panned(12, 160, 120))
    photos = Photos(clip, size=64)
    assert len(photos.train) + len(photos.held_out) == 12 and photos.train[0].shape == (3, 96, 128)


def test_style_size_is_the_long_side():
    assert max(read_style(STYLE, 200).shape[2:]) == 200


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: folder / "missing", "not a folder"),
        (lambda folder: folder, "no photos"),
    ],
)
def test_nothing_to_train_on(tmp_path, make, words):
    with pytest.raises(AllaprimaError, match=words):
        Photos(make(tmp_path))


# -- settings ---------------------------------------------------------------------------------------------------------


def test_config_file_and_options_change_a_preset(tmp_path):
    config = tmp_path / "my.toml"
    config.write_text("steps = 11\nbeta = 3\n[style_layers]\nrelu1_1 = 0.5\n")
    settings = make_settings("quick", config, steps=12, alpha=None)
    assert (settings.steps, settings.beta, settings.style_layers) == (12, 3.0, {"relu1_1": 0.5})
    assert parse_layers("relu3_3, relu4_3=0.5") == {"relu3_3": 1.0, "relu4_3": 0.5}


@pytest.mark.parametrize(
    "text, words",
    [
        ("step = 3", "no setting 'step'"),
        ("steps = 'many'", "like 2200"),
        ("steps = ", "TOML"),
        ("steps = 0", "above 0"),
        ("[style_layers]\nrelu9_9 = 1", None),
    ],
)
def test_bad_config_is_one_sentence(tmp_path, monkeypatch, capsys, text, words):
    config = tmp_path / "bad.toml"
    config.write_text(text)
    code, said = run_cli(
        monkeypatch,
        capsys,
        "train",
        STYLE,
        "-o",
        tmp_path / "x.onnx",
        "--config",
        config,
        "--device",
        "cpu",
        "--size",
        64,
    )
    assert code == 2 and (words or "relu5_3") in said.replace("\n", " ")
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.jpg", "-o", "x.onnx"], "does not exist"),
        (["empty.jpg", "-o", "x.onnx"], "empty.jpg is empty"),
        ([STYLE, "-o", "x.pt"], "does not end in .onnx"),
        ([STYLE, "-o", "empty.jpg/x.onnx"], "folder"),
        ([STYLE, "-o", "x.onnx", "--resume"], "no training to continue"),
        ([STYLE, "-o", "x.onnx", "--preset", "fast"], "quick, balanced, best"),
        ([STYLE, "-o", "x.onnx", "--device", "cuda:7"], "no device"),
        ([STYLE, "-o", "x.onnx", "--architecture", "unet"], "live, best, johnson"),
        ([STYLE, "-o", "x.onnx", "--photos", "missing"], "not a folder"),
        ([STYLE, "-o", "x.onnx", "--style-layers", "relu1_2=much"], "relu3_3=0.5"),
        ([STYLE, "-o", "x.onnx", "--loss-network", "vgg11"], "vgg16_oxford"),
        ([STYLE, "-o", "x.onnx", "--loss-weights", "empty.jpg"], "can't be read as vgg16_oxford"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jpg").touch()
    code, said = run_cli(monkeypatch, capsys, "train", *arguments)
    assert code == 2 and words in said.replace("\n", " ") and "Traceback" not in said
    assert {p.name for p in tmp_path.iterdir()} <= {"empty.jpg"}


def test_a_broken_checkpoint_is_one_sentence(tmp_path, monkeypatch, capsys):
    checkpoint = training.checkpoint_of(tmp_path / "x.onnx")
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"nonsense")
    code, said = run_cli(monkeypatch, capsys, "train", STYLE, "-o", tmp_path / "x.onnx", "--resume")
    assert code == 2 and "delete it" in said
