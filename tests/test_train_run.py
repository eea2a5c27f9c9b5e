"""From the painting to the model file: checkpoints, stops, resumption, what is refused, what is written."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from allaprima import Settings, train_style
from allaprima.core.contract import Card
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Started, Warned, Wrote
from allaprima.train import run, schedule, soap
from allaprima.train.card import make_card
from allaprima.train.checkpoint import checkpoint_of, read_checkpoint, saved_settings, write_checkpoint
from allaprima.train.settings import BUNDLED, BUNDLED_HELD_OUT
from allaprima.train.trainer import Diverged, Trainer
from training import SMALL, STYLE, after, weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished training, and the events of it."""
    output, events = tmp_path_factory.mktemp("train") / "small.onnx", []
    about = {"name": "Small", "credit": "Vincent van Gogh", "licence": "CC0-1.0"}
    assert train_style(STYLE, output, SMALL, listener=events.append, **about) == output
    return output, events


def card_of(output):
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    return Card.of_metadata(session.get_modelmeta().custom_metadata_map)


def test_training_leaves_a_model_file_with_all_that_it_was_trained_with(trained):
    output, _ = trained
    card, settings = card_of(output), card_of(output).settings
    assert (card.name, card.credit, card.licence) == ("Small", "Vincent van Gogh", "CC0-1.0")
    assert card.objective["style"].keys() == SMALL.style_layers.keys()
    assert set(card.losses["held_out"]) == {"china.jpg"}
    painting, thumbnail = (Image.open(io.BytesIO(jpeg)) for jpeg in (card.painting, card.thumbnail))
    assert max(painting.size) == SMALL.style_size == max(thumbnail.size) and not card.grams
    named = SMALL.to_dict() | {"photos": Path(SMALL.photos).name}
    assert {name: settings[name] for name in named} == named
    assert settings["fixed"]["schedule"]["settle"] == list(schedule.SETTLE)
    assert settings["fixed"]["loss"] == {
        "noise": 2 / 255,
        "shift": 1 / 8,
        "edge": 1 / 16,
        "exposure": 0.1,
        "period": 8,
    }
    assert settings["fixed"]["soap"]["turn_every"] == soap.TURN_EVERY and settings["rate_factor"] == 1
    assert {p.name for p in output.parent.iterdir()} == {"small.onnx", "small.run"}
    assert {p.name for p in output.with_suffix(".run").iterdir()} == {"checkpoint.safetensors", "preview-000006.jpg"}


def test_the_painting_can_stay_out_of_the_model_file(trained, tmp_path):
    """Then the file holds its Gram matrices, and is shown by a photo in the style; folders are named in neither."""
    shutil.copytree(trained[0].with_suffix(".run"), tmp_path / "small.run")
    train_style(STYLE, tmp_path / "small.onnx", resume=True, painting=False)
    card = card_of(tmp_path / "small.onnx")
    assert not card.painting and card.grams.keys() == SMALL.style_layers.keys()
    wanted = Trainer(STYLE, SMALL, "cpu").style_targets
    for layer, gram in card.grams.items():
        assert (torch.from_numpy(gram) - wanted[layer][0]).norm() < 0.005 * wanted[layer].norm()
    shown = Image.open(io.BytesIO(card.thumbnail))
    shapes = [
        np.asarray(image.convert("L").resize(shown.size)) for image in (shown, Image.open(BUNDLED / "chelsea.jpg"))
    ]
    assert max(shown.size) == 160 and np.corrcoef(*(image.ravel() for image in shapes))[0, 1] > 0.6

    trainer = Trainer(STYLE, SMALL, "cpu")
    trainer.settings = replace(SMALL, photos=str(tmp_path / "photos"), loss_weights=str(tmp_path / "vgg.pth"))
    card = make_card(trainer, STYLE, "small")
    assert (card.settings["photos"], card.settings["loss_weights"]) == ("photos", "vgg.pth")
    assert str(tmp_path) not in str(card.to_metadata()) and str(STYLE.parent) not in str(card.to_metadata())


def test_what_a_model_file_says_is_kept_in_the_checkpoint(trained, tmp_path):
    """What is given again counts, also for the next time; a checkpoint of before has none of it, and is continued."""
    output = tmp_path / "again.onnx"
    shutil.copytree(trained[0].with_suffix(".run"), tmp_path / "again.run")

    def resumed(**about):
        card = card_of(train_style(STYLE, output, resume=True, **about))
        return card.name, card.credit, card.licence, bool(card.painting)

    assert resumed() == ("Small", "Vincent van Gogh", "CC0-1.0", True)
    assert resumed(licence="CC BY 4.0", painting=False) == ("Small", "Vincent van Gogh", "CC BY 4.0", False)
    assert resumed(steps=7) == ("Small", "Vincent van Gogh", "CC BY 4.0", False)
    assert resumed(name="", painting=True) == ("again", "Vincent van Gogh", "CC BY 4.0", True)
    tensors, values = read_checkpoint(checkpoint_of(output))
    del values["about"]
    write_checkpoint(checkpoint_of(output), tensors, values | {"settings": values["settings"].to_dict()})
    assert resumed() == ("again", "", "", True)


def test_a_network_without_a_pretrained_start_says_so_in_the_model_file(tmp_path):
    output = train_style(STYLE, tmp_path / "j.onnx", replace(SMALL, steps=1), architecture="johnson")
    assert card_of(output).settings["start"] == "scratch"


def test_a_training_is_told_in_events_and_nothing_is_printed(tmp_path, capfd):
    events = []
    train_style(STYLE, tmp_path / "x.onnx", SMALL, listener=events.append)
    train_style(STYLE, tmp_path / "y.onnx", SMALL)
    assert capfd.readouterr() == ("", "")
    assert [type(event) for event in events] == [Started, *[Advanced] * 6, Wrote]
    assert events[0].total == 6 and "6 steps of 2 photos at 64 px" in events[0].about and "x.run" in events[0].about
    tensors, values = read_checkpoint(checkpoint_of(tmp_path / "x.onnx"))
    assert values["terms"] == ["J", "content", "style", "grid", "motion", "noise"]
    rows = [dict(zip(values["terms"], row)) for row in tensors["history"].tolist()]
    rows = [{name: cost for name, cost in row.items() if cost != -1} for row in rows]  # those of views
    assert [event.values for event in events[1:-1]] == rows and events[-1].path == tmp_path / "x.onnx"


def test_settings_are_keywords_and_what_is_none_is_refused(tmp_path):
    size = {"size": 64, "style_size": 64, "batch": 1}
    output = train_style(STYLE, tmp_path / "x.onnx", steps=2, **size)
    assert len(weights(checkpoint_of(output))["history"]) == 2
    assert saved_settings(output) == Settings(steps=2, **size)
    assert set(card_of(output).losses["held_out"]) == set(BUNDLED_HELD_OUT)
    for wrong, words in {"step": "no setting 'step'", "report": "no setting 'report'"}.items():
        with pytest.raises(AllaprimaError, match=words):
            train_style(STYLE, tmp_path / "y.onnx", SMALL, **{wrong: 2})
    with pytest.raises(AllaprimaError, match="settings must be Settings, not dict"):
        train_style(STYLE, tmp_path / "y.onnx", {"steps": 2})
    assert not list(tmp_path.glob("y.*"))


def test_resume_gives_what_an_uninterrupted_training_gives(trained, tmp_path):
    output = tmp_path / "small.onnx"
    with pytest.raises(run.Stopped, match="after step 4") as stopped:
        train_style(STYLE, output, SMALL, stop=after(2))  # it is asked where no gradient lies ready
    assert not output.exists() and stopped.value.checkpoint == checkpoint_of(output) and stopped.value.step == 4
    train_style(STYLE, output, resume=True)
    whole, resumed = weights(checkpoint_of(trained[0])), weights(checkpoint_of(output))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_stop_after_the_last_step_changes_nothing(tmp_path):
    assert train_style(STYLE, tmp_path / "x.onnx", SMALL, stop=after(3)).exists()


def test_a_finished_training_is_not_replaced_unasked(trained, tmp_path):
    output = tmp_path / "x.onnx"
    train_style(STYLE, output, SMALL)
    before = [path.read_bytes() for path in (output, checkpoint_of(output))]
    with pytest.raises(AllaprimaError, match="x.onnx exists already: add --resume"):
        train_style(STYLE, output, SMALL, seed=1)
    output.unlink()
    with pytest.raises(AllaprimaError, match="checkpoint.safetensors exists already"):
        train_style(STYLE, output, SMALL, seed=1)
    assert checkpoint_of(output).read_bytes() == before[1]
    train_style(STYLE, output, SMALL, seed=1, overwrite=True)
    assert output.read_bytes() != before[0] and saved_settings(output).seed == 1


def test_resume_with_other_settings_or_another_painting_is_refused(trained):
    output, _ = trained
    with pytest.raises(AllaprimaError, match="only steps may differ"):
        train_style(STYLE, output, SMALL, beta=1.0, resume=True)
    with pytest.raises(AllaprimaError, match="another painting"):
        train_style(BUNDLED / "fig.jpg", output, resume=True)
    with pytest.raises(AllaprimaError, match="6 steps are done already"):
        train_style(STYLE, output, resume=True, steps=5)


def test_a_finished_training_goes_on_with_more_steps(trained, tmp_path):
    output = tmp_path / "more.onnx"
    checkpoint_of(output).parent.mkdir()
    checkpoint_of(output).write_bytes(checkpoint_of(trained[0]).read_bytes())
    events = []
    train_style(STYLE, output, steps=8, resume=True, listener=events.append)
    assert len(weights(checkpoint_of(output))["history"]) == 8
    assert [event.done for event in events if isinstance(event, Advanced)] == [6, 7, 8]


def test_a_training_whose_steps_are_all_done_says_so(trained, tmp_path):
    """Killed before its model was written, say."""
    output, events = tmp_path / "whole.onnx", []
    checkpoint_of(output).parent.mkdir()
    checkpoint_of(output).write_bytes(checkpoint_of(trained[0]).read_bytes())
    train_style(STYLE, output, resume=True, listener=events.append)
    assert [event.done for event in events if isinstance(event, Advanced)] == [6] and output.exists()


def test_divergence_goes_back_and_halves_the_rate(tmp_path, monkeypatch):
    """The network is poisoned once, before its fifth step."""
    step, rates, events = Trainer.step, [], []

    def poisoned(self):
        if self.done == 4:
            rates.append(self.learning_rate())
            if len(rates) == 1:
                next(self.network.parameters()).data.fill_(float("nan"))
        return step(self)

    monkeypatch.setattr(Trainer, "step", poisoned)
    monkeypatch.setattr(run, "KEEP_EVERY", 2)
    output = train_style(STYLE, tmp_path / "nan.onnx", SMALL, listener=events.append)
    assert rates[1] == rates[0] / 2
    assert all(torch.isfinite(value).all() for value in weights(checkpoint_of(output)).values())
    assert [event.text for event in events if isinstance(event, Warned)] == [
        "J diverged: training goes back to step 4, at half the learning rate."
    ]
    assert card_of(output).settings["rate_factor"] == 0.5


def test_a_divergence_in_the_last_step_is_one(tmp_path):
    """No cost has told of it, and the first step of SOAP does not move."""
    with pytest.raises(AllaprimaError, match="keeps diverging: give a lower learning_rate"):
        train_style(STYLE, tmp_path / "x.onnx", SMALL, steps=2, learning_rate=1e30)
    assert not (tmp_path / "x.onnx").exists()
    saved = weights(checkpoint_of(tmp_path / "x.onnx"))
    assert all(torch.isfinite(value).all() for value in saved.values()) and not len(saved["history"])


def test_divergence_without_end_is_one_sentence(tmp_path, monkeypatch):
    def hopeless(self):
        raise Diverged

    monkeypatch.setattr(Trainer, "step", hopeless)
    with pytest.raises(AllaprimaError, match="keeps diverging: give a lower learning_rate"):
        train_style(STYLE, tmp_path / "x.onnx", SMALL)
    assert not (tmp_path / "x.onnx").exists()


# -- what is trained on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Image.new("RGB", (200, 150), "red"), "single colour"),
        (lambda: Image.open(STYLE).resize((8, 8)), "only 8x8 pixels"),
        (lambda: Image.open(STYLE).resize((100, 80)), None),
    ],
)
def test_a_painting_with_little_to_learn_is_a_warning(tmp_path, make, words):
    make().save(tmp_path / "painting.png")
    events = []
    run.begin(tmp_path / "painting.png", tmp_path / "x.onnx", SMALL, listener=events.append)
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert words in warnings[0] if words else not warnings


@pytest.mark.parametrize("colours", [["black"] * 3, ["red"] * 3, ["black", "white", "black", "black", "red"]])
def test_photos_of_a_single_colour_are_one_sentence(tmp_path, colours):
    for number, colour in enumerate(colours):
        Image.new("RGB", (120, 100), colour).save(tmp_path / f"{number}.png")
    with pytest.raises(AllaprimaError, match="Every photo is a single colour"):
        train_style(STYLE, tmp_path / "x.onnx", SMALL, photos=tmp_path)
    assert not list(tmp_path.glob("x.*"))


def test_photos_that_can_not_be_read_are_said(tmp_path):
    for name in ("coffee", "fig", "china"):
        Image.open(BUNDLED / f"{name}.jpg").save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    events = []
    run.begin(STYLE, tmp_path / "x.onnx", SMALL, photos=str(tmp_path), listener=events.append)
    assert [event.text for event in events] == [
        f"1 files of {tmp_path} can't be read or are too small, and are left out."
    ]


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_format_says_so(trained, tmp_path):
    tensors, values = read_checkpoint(checkpoint_of(trained[0]))
    values["settings"] = values["settings"].to_dict()
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save_file(
        tensors, old, {"allaprima": json.dumps({k: v for k, v in values.items() if k not in ("format", "version")})}
    )
    write_checkpoint(new, tensors, values | {"format": 9, "version": "7.0"})
    with pytest.raises(AllaprimaError, match="has format 1, of an earlier version, and this version reads format 5"):
        read_checkpoint(old)
    with pytest.raises(AllaprimaError, match="has format 9, of allaprima 7.0, and this version reads format 5"):
        read_checkpoint(new)


@pytest.mark.parametrize("values", [{"settings": {"steps": "x"}}, {"settings": {"step": 1}}, {"settings": 3}, {}])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path, values):
    write_checkpoint(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, values)
    with pytest.raises(AllaprimaError, match="not a checkpoint of allaprima, or it is damaged: delete it"):
        read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("lacking", ["style", "terms", "objective", "history", "network.stem.conv.weight"])
def test_a_checkpoint_that_lacks_something_is_one_sentence(trained, tmp_path, lacking):
    tensors, values = read_checkpoint(checkpoint_of(trained[0]))
    values["settings"] = values["settings"].to_dict()
    assert (tensors | values).pop(lacking) is not None
    tensors, values = ({key: value for key, value in both.items() if key != lacking} for both in (tensors, values))
    write_checkpoint(checkpoint_of(tmp_path / "x.onnx"), tensors, values)
    with pytest.raises(AllaprimaError, match="not a checkpoint of allaprima, or it is damaged: delete it"):
        train_style(STYLE, tmp_path / "x.onnx", resume=True)


def test_a_checkpoint_has_the_permissions_of_any_output(trained):
    assert checkpoint_of(trained[0]).stat().st_mode == trained[0].stat().st_mode


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    tensors = {"network.a": torch.randn(2, 3).T, "history": torch.zeros(0, dtype=torch.float64)}
    write_checkpoint(tmp_path / "x.safetensors", tensors, {"settings": SMALL.to_dict(), "odd": [1.5, "ß"]})
    found, values = read_checkpoint(tmp_path / "x.safetensors")
    assert values["settings"] == SMALL and values["odd"] == [1.5, "ß"] and values["format"] == 5
    assert all(np.array_equal(found[key], value) and found[key].dtype == value.dtype for key, value in tensors.items())


def test_minutes_are_planned_by_what_steps_and_new_batches_take(monkeypatch):
    """On a machine where both take as long as their pixels are many: 2 s and 1 s for a whole crop."""
    trainer, made = Trainer(STYLE, SMALL, "cpu"), []

    def probe(_, batches, steps):
        pixels = batches.settings.early_size**2
        new = not any(batches is one for one in made)
        made.append(batches)
        return (2.0 + new) * pixels

    def seconds(steps):
        plan, sides = schedule.planned(replace(SMALL, steps=steps)), (SMALL.early_size, 1.0)
        return sum(side**2 * (2 * used + new) for side, (used, new) in zip(sides, plan, strict=True))

    monkeypatch.setattr(run, "_probe", probe)
    steps = run._steps_in(10, trainer)
    assert seconds(steps) < 600 < seconds(steps + 1)
