"""Settings: said once, merged in one order, checked wherever they come from."""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allaprima.commands.train import train
from allaprima.core.errors import AllaprimaError
from allaprima.models.loss_network import CONVS
from allaprima.models.transformer import ARCHITECTURES
from allaprima.train.settings import SUITED, TRAINED_WITH, Settings, change, make_settings, parse_layers
from allaprima.train.trainer import OPTIMIZERS
from training import STYLE, run_cli

NAMES = [each.name for each in dataclasses.fields(Settings)]
# For each place that says something about a training, in the order in which they count: something to say there.
PLACES = ("architecture", "device", "file", "command")


def test_every_setting_is_an_option_a_line_of_toml_and_a_keyword(tmp_path, monkeypatch, capsys):
    parameters = inspect.signature(train).parameters
    assert [name for name in parameters if name in NAMES] == NAMES
    code, _ = run_cli(monkeypatch, capsys, "train", "--help")
    assert code == 0
    for each in dataclasses.fields(Settings):
        value = getattr(Settings(), each.name)
        text = repr(value).replace("'", '"').replace(":", " =").replace("True", "true").replace("False", "false")
        (tmp_path / "one.toml").write_text(f"{each.name} = {text}" if value is not None else "")
        assert getattr(make_settings("cpu", tmp_path / "one.toml"), each.name) == value
        assert getattr(change(Settings(), {each.name: value}), each.name) == value
        assert each.metadata["help"].endswith(".") and f"{each.name}: " in Settings.__doc__


def test_choices_are_what_there_is():
    choices = {each.name: each.metadata["choices"] for each in dataclasses.fields(Settings)}
    assert set(choices["architecture"]) == ARCHITECTURES.keys() and set(choices["optimizer"]) == OPTIMIZERS.keys()
    assert set(choices["loss_network"]) == CONVS.keys() and TRAINED_WITH.keys() < ARCHITECTURES.keys()


@pytest.mark.parametrize("said", [c for n in range(5) for c in itertools.combinations(PLACES, n)])
@pytest.mark.parametrize("where", ["file", "command"])
def test_what_counts_is_one_order(tmp_path, said, where):
    """Defaults < as published < what suits the device < TOML < command line, wherever the architecture is named."""
    layers = {"file": {}, "command": {}}
    wanted = Settings().learning_rate
    if "architecture" in said:
        layers[where]["architecture"] = "johnson"
        wanted = TRAINED_WITH["johnson"]["learning_rate"]
    suited = {"learning_rate": 0.002} if "device" in said else {}
    wanted = suited.get("learning_rate", wanted)
    for place, rate in ("file", 0.004), ("command", 0.003):
        if place in said:
            layers[place]["learning_rate"] = wanted = rate
    config = tmp_path / "my.toml"
    config.write_text("\n".join(f"{name} = {value!r}" for name, value in layers["file"].items()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITED, "mps", suited)
        settings = make_settings("mps", config, **layers["command"])
    assert settings.learning_rate == wanted
    assert settings.optimizer == ("adam" if "architecture" in said else "soap")


def test_the_architecture_of_the_command_line_replaces_that_of_the_file_with_all_that_goes_with_it(tmp_path):
    (tmp_path / "my.toml").write_text('architecture = "johnson"')
    assert make_settings("cpu", tmp_path / "my.toml", architecture="live") == Settings()


def test_a_beta_that_is_given_is_not_steered():
    assert change(Settings(), {"beta": 4}).stylization == 0 and change(Settings(), {"beta": 4}).beta == 4
    assert change(Settings(), {"beta": 4.0, "stylization": 0.5}).stylization == 0.5
    assert change(Settings(), {"beta": None}).stylization == Settings().stylization > 0
    assert change(Settings(), {"stylization": 0.8}, {"beta": 4}).stylization == 0
    assert change(Settings(), {"beta": 4}, {"stylization": 0.8}).stylization == 0.8


def test_minutes_and_steps_are_alternatives():
    """The later one counts; of both at once, the steps."""
    assert Settings().minutes == 5 and Settings().steps == 0
    assert change(Settings(), {"steps": 7}, {"minutes": 20}).steps == 0
    assert change(Settings(), {"minutes": 20}, {"steps": 7}).steps == 7
    assert change(Settings(), {"minutes": 20, "steps": 7}).steps == 7


def test_an_architecture_is_trained_as_suits_it_unless_told_otherwise():
    johnson = change(Settings(), {"architecture": "johnson"})
    assert (johnson.optimizer, johnson.learning_rate, johnson.stability, johnson.evenness) == ("adam", 1e-3, 0, 0)
    assert change(Settings(), {"architecture": "johnson", "learning_rate": 0.01}).learning_rate == 0.01
    best = change(Settings(), {"architecture": "best"})
    assert (best.optimizer, best.learning_rate, best.stability) == ("soap", 3e-3, Settings().stability)


def test_values_come_in_the_types_that_people_have(tmp_path):
    settings = change(Settings(), {"steps": np.int64(3), "beta": np.float32(2), "photos": tmp_path, "tv": 1})
    assert type(settings.steps) is int and type(settings.beta) is type(settings.tv) is float
    assert settings.photos == str(tmp_path)
    (tmp_path / "windows.toml").write_bytes("\ufeffsteps = 7\r\nstyle_layers = 'relu1_2'\r\n".encode())
    settings = make_settings("cpu", tmp_path / "windows.toml")
    assert settings.steps == 7 and settings.style_layers == {"relu1_2": 1.0}
    (tmp_path / "option.toml").write_text("from = 'scratch'")  # the option's other name, as --from
    assert make_settings("cpu", tmp_path / "option.toml").start == "scratch"
    assert parse_layers("relu3_3, relu4_3=0.5") == {"relu3_3": 1.0, "relu4_3": 0.5}


@given(name=st.sampled_from(NAMES), value=st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary(max_size=3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=5), st.one_of(st.floats(), st.text()), max_size=2),
))  # fmt: skip
def test_any_value_of_any_setting_is_taken_or_refused_in_one_sentence(name, value):
    try:
        settings = Settings(**{name: value})
    except AllaprimaError as error:
        assert name in str(error) or "is not a layer" in str(error)
    else:
        assert Settings(**settings.to_dict()) == settings
        assert isinstance(getattr(settings, name), type(getattr(Settings(), name)) | str | None)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("step = 3", "There is no setting 'step'. The settings are: architecture, start, minutes, steps"),
        ("steps = 'many'", "steps must be a whole number of at least 0, not 'many'."),
        ("steps = 1.5", "steps must be a whole number of at least 0, not 1.5."),
        ("steps = -1", "steps must be a whole number of at least 0, not -1."),
        ("steps = true", "steps must be a whole number"),
        ("learning_rate = inf", "learning_rate must be a number above 0, not inf."),
        ("early_size = 0.4", "early_size must be a number from 0.5 to 1, not 0.4."),
        ("seed = -1", "seed must be a whole number from 0"),
        ("size = 32", "size must be a whole number of at least 64"),
        ("snapshots = 1", "snapshots must be true or false, not 1."),
        ("optimizer = 'sgd'", "optimizer must be soap or adam, not 'sgd'."),
        ("architecture = 'unet'", "architecture must be live, best or johnson, not 'unet'."),
        ("architecture = []", "architecture must be live, best or johnson, not []."),
        ("photos = 3", "photos must be a path, not 3."),
        ("style_layers = {relu1_2 = 'x'}", "style_layers must be names of layers"),
        ("style_layers = {relu1_2 = -1}", "style_layers must be names of layers"),
        ("style_layers = {relu1_2 = {a = 1}}", "style_layers must be names of layers"),
        ("style_layers = {}\ncontent_layers = {}", "both empty"),
        ("alpha = 0\nbeta = 0", "The weights of J are all 0: give alpha and a content layer"),
        ("alpha = 0\nstyle_layers = {relu1_2 = 0}", "The weights of J are all 0"),
        (f"learning_rate = 1{400 * '0'}", "learning_rate must be a number above 0"),
        ("style_layers = {relu9_9 = 1}", "relu5_3"),
        ("steps = ", "can't be read as TOML"),
        ("steps = 3\xff", "can't be read as TOML"),
    ],
)  # fmt: skip
def test_a_bad_config_is_one_sentence(tmp_path, monkeypatch, capsys, text, sentence):
    (tmp_path / "bad.toml").write_bytes(text.encode("latin-1"))
    arguments = ["train", STYLE, "-o", tmp_path / "x.onnx", "--config", tmp_path / "bad.toml", "--device", "cpu"]
    code, said = run_cli(monkeypatch, capsys, *arguments)
    assert code == 2 and sentence in said and "Traceback" not in said
    assert not list(tmp_path.glob("x.*"))
