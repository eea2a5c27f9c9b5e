"""Everything that can be set about a training, said once.

Type, default, range and help of a setting are in its field of `Settings`. The options of `allaprima train`, the reading of
TOML files, the checks and `help(Settings)` follow from there. What shapes a training too but is fixed, the same for all, are
the upper-case numbers of schedule.py, loss.py and soap.py; the model file has both.
"""

import tomllib
from dataclasses import Field, asdict, dataclass, field, fields, replace
from numbers import Integral
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from allaprima.core.checks import LARGEST_SEED, check_J, check_layer_weights, is_finite
from allaprima.core.errors import AllaprimaError

BUNDLED = Path(__file__).parent / "photos"
BUNDLED_HELD_OUT = ("astronaut.jpg", "china.jpg", "sunset.jpg")  # kept for measuring: a face, a building, a landscape
MODEL, OBJECTIVE, DATA = "The network", "The objective", "The photos"  # groups in the help


def _setting(default, panel, help, *, above=None, least=None, most=None, choices=None, options=None) -> Any:
    """A field of Settings. above, least, most: its range. options: names on the command line, where not the field's own."""
    meta = {"panel": panel, "help": help, "above": above, "least": least, "most": most}
    meta |= {"choices": choices, "options": options}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Settings:
    """All settings of a training; they are written into the model file.

    Taken as they are: what belongs together, as a beta that is given and no steering, is up to `change` and `make_settings`.
    Raises AllaprimaError when the type or the range of a setting is wrong.
    """

    architecture: str = _setting("live", MODEL, "The network to train.", choices=("live", "best", "johnson"))
    start: str = _setting(
        "pretrained",
        MODEL,
        "Weights to start from, those that come with the package, where the network has any, or random ones.",
        choices=("pretrained", "scratch"),
        options=("--start", "--from"),
    )
    minutes: float = _setting(
        5.0, MODEL, "How long to train: 5 is a sketch, 20 a style, 120 about as good as it gets.", above=0
    )
    steps: int = _setting(
        0,
        MODEL,
        "Steps of the optimizer. 0 is as many as the minutes allow, by the rate of the first seconds.",
        least=0,
    )
    batch: int = _setting(1, MODEL, "Photos in a step.", least=1)
    size: int = _setting(256, MODEL, "Side of the training crops in pixels.", least=64)
    early_size: float = _setting(
        0.75,
        MODEL,
        "Side of the first crops as a part of size: they teach nearly as much in less time.",
        least=0.5,
        most=1,
    )
    optimizer: str = _setting("soap", MODEL, "The optimizer.", choices=("soap", "adam"))
    learning_rate: float = _setting(5e-3, MODEL, "Highest learning rate.", above=0)
    warmup: int = _setting(30, MODEL, "Steps until the highest learning rate.", least=0)
    seed: int = _setting(0, MODEL, "Random seed.", least=0, most=LARGEST_SEED)
    style_size: int = _setting(
        512, OBJECTIVE, "Long side of the painting in pixels: larger means larger strokes.", least=64, most=4096
    )
    alpha: float = _setting(1.0, OBJECTIVE, "Weight of the content cost.", least=0)
    beta: float = _setting(
        5.0, OBJECTIVE, "Weight of the style cost; when given, it is fixed and stylization is not used.", least=0
    )
    stylization: float = _setting(
        0.95,
        OBJECTIVE,
        "How far from the photo a style may go: beta is raised until the content cost is three times the style cost that is "
        "left, but not beyond this content cost, where 1 is that of another photo; 0 leaves beta as it is.",
        least=0,
    )
    stability: float = _setting(
        0.04,
        OBJECTIVE,
        "Weight, times beta, of how much camera noise changes a picture, which flickers in a video.",
        least=0,
    )
    motion: float = _setting(
        0.0004,
        OBJECTIVE,
        "Weight, times beta, of strokes that do not move with what they paint, which boil in a video.",
        least=0,
    )
    evenness: float = _setting(
        0.004,
        OBJECTIVE,
        "Weight, times beta, of the pattern of 8 px that a network repeats all over its pictures.",
        least=0,
    )
    tv: float = _setting(0.0, OBJECTIVE, "Weight of the total variation.", least=0)
    content_layers: dict[str, float] = _setting(
        {"relu3_3": 1.0}, OBJECTIVE, "Layers of the content cost and their weights."
    )
    style_layers: dict[str, float] = _setting(
        {"relu1_2": 0.5, "relu2_2": 1.0, "relu3_3": 1.5, "relu4_3": 1.0},
        OBJECTIVE,
        "Layers of the style cost and their weights.",
    )
    loss_network: str = _setting(
        "vgg16_oxford", OBJECTIVE, "The loss network.", choices=("vgg16_oxford", "vgg16", "vgg19")
    )
    loss_weights: str | None = _setting(None, OBJECTIVE, "Local file with the weights of the loss network.")
    pooling: str = _setting("max", OBJECTIVE, "Pooling in the loss network.", choices=("max", "avg"))
    photos: str | None = _setting(
        None, DATA, "Folder of photos, or a video, to learn on. Without it, the bundled photos."
    )
    held_out: int = _setting(3, DATA, "Photos kept out of the training to measure on: at most a tenth of all.", least=1)
    snapshots: bool = _setting(
        False, DATA, "Keep the weights of eight steps, for allaprima inspect evolution; changes nothing else."
    )

    to_dict = asdict

    def __post_init__(self):
        for each in fields(self):
            object.__setattr__(self, each.name, _checked(each, getattr(self, each.name)))
        if not (self.content_layers or self.style_layers):
            raise AllaprimaError("content_layers and style_layers are both empty: name at least one layer.")
        check_J(self.content_layers, self.style_layers, self.alpha, self.beta, self.tv)


def described(setting: Field) -> str:
    """The help of a setting, with its choices and its default: "The optimizer: soap or adam. Default: soap."."""
    text, choices, default = setting.metadata["help"], setting.metadata["choices"], getattr(_DEFAULTS, setting.name)
    if choices:
        text = f"{text[:-1]}: {_listed(choices)}."
    if default is None or default is False:
        return text
    return f"{text} Default: {_as_text(default) if isinstance(default, dict) else default}."


def _listed(words):
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _as_text(layers):
    return ",".join(f"{name}={weight:g}" for name, weight in layers.items())


def _checked(setting: Field, value):
    """The value of a setting, in the setting's own type."""
    kind, meta, known = setting.type, setting.metadata, False
    if kind == dict[str, float]:
        value = parse_layers(value) if isinstance(value, str) else value
        check_layer_weights(**{setting.name: value})
        return {layer: float(weight) for layer, weight in value.items()}
    if kind in (int, float):
        if not is_finite(value) or (kind is int and not isinstance(value, Integral)):
            _refuse(setting, value)
        value, (above, least, most) = kind(value), (meta[name] for name in ("above", "least", "most"))
        known = not (
            (above is not None and value <= above)
            or (least is not None and value < least)
            or (most is not None and value > most)
        )
    elif kind is bool:
        known = isinstance(value, bool)
    elif kind is str:
        known = value in meta["choices"]
    else:  # a path, or None
        value = fspath(value) if isinstance(value, PathLike) else value
        known = value is None or (isinstance(value, str) and value)
    return value if known else _refuse(setting, value)


def _refuse(setting: Field, value):
    raise AllaprimaError(f"{setting.name} must be {_allowed(setting)}, not {value!r}.")


def _allowed(setting: Field) -> str:
    """What a setting may be, for a sentence."""
    kind, meta = setting.type, setting.metadata
    if meta["choices"]:
        return _listed(meta["choices"])
    if kind is bool:
        return "true or false"
    if kind not in (int, float):
        return "a path"
    number = "a whole number" if kind is int else "a number"
    if meta["most"] is not None:
        return f"{number} from {meta['least']} to {meta['most']}"
    return f"{number} above {meta['above']}" if meta["above"] is not None else f"{number} of at least {meta['least']}"


_DEFAULTS = Settings()
Settings.__doc__ = (
    (Settings.__doc__ or "") + "\n" + "\n".join(f"    {each.name}: {described(each)}" for each in fields(Settings))
)

# What else suits a device: a GPU is idle with one photo, and a second size of crops would be compiled anew.
SUITED = {"cuda": {"batch": 4, "early_size": 1.0}}

ALTERNATIVES = {"minutes": "steps", "beta": "stylization"}

# What a network is trained with unless told otherwise: johnson as it was published, since it diverges with our optimizer.
TRAINED_WITH = {
    "best": {"learning_rate": 3e-3},
    "johnson": {"optimizer": "adam", "learning_rate": 1e-3, "stability": 0.0, "motion": 0.0, "evenness": 0.0},
}


def make_settings(device_type="cpu", config=None, processes=1, **overrides) -> Settings:
    """The settings of a training: the defaults, changed by what suits a device of that type ("cpu", "cuda" or "mps"), by a
    TOML file `config`, and by `overrides` that are not None. processes: how many share a batch; unless told otherwise, each
    has the photos that one alone would have.

    Raises AllaprimaError for an unknown setting, a wrong type or range, or a file that can't be read.
    """
    suited = SUITED.get(device_type, {})
    suited = suited | {"batch": processes * suited.get("batch", _DEFAULTS.batch)}
    return change(_DEFAULTS, suited, _read_config(config) if config else {}, overrides)


def change(settings: Settings, *layers: dict) -> Settings:
    """`settings`, changed by what suits a newly named architecture, then by each of `layers` in turn.

    layers: values by name; None leaves a setting as it is. One that is given turns the alternative to it in earlier layers
    off: minutes the steps, beta the stylization that steers it. Raises AllaprimaError for an unknown name, a wrong type or range.
    """
    given = {}
    for layer in layers:
        layer = {name: value for name, value in layer.items() if value is not None}
        for name, other in ALTERNATIVES.items():
            layer = {other: 0} | layer if name in layer else layer
        given |= layer
    known = [each.name for each in fields(Settings)]
    for name in given:
        if name not in known:
            raise AllaprimaError(f"There is no setting {name!r}. The settings are: {', '.join(known)}.")
    architecture = given.get("architecture")
    suits = TRAINED_WITH.get(architecture, {}) if isinstance(architecture, str) else {}
    return replace(settings, **suits | given)


def _read_config(file) -> dict:
    options = [(option, each.name) for each in fields(Settings) for option in each.metadata["options"] or ()]
    names = {option.removeprefix("--").replace("-", "_"): name for option, name in options}
    try:
        given = tomllib.loads(Path(file).read_bytes().decode("utf-8-sig"))
        return {names.get(key, key): value for key, value in given.items()}
    except FileNotFoundError as error:
        raise AllaprimaError(f"{file} does not exist: check the spelling of --config.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AllaprimaError(f"{file} can't be read as TOML ({error}): write lines such as `steps = 1000`.") from error


def parse_layers(text: str | None) -> dict[str, float] | None:
    """`relu3_3,relu4_3=0.5` as {"relu3_3": 1.0, "relu4_3": 0.5}. Raises AllaprimaError for anything else."""
    if text is None:
        return None
    layers = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, weight = part.partition("=")
        try:
            layers[name.strip()] = float(weight or 1)
        except ValueError as error:
            raise AllaprimaError(
                f"{part!r} is not a layer and its weight: write them as relu3_3=0.5,relu4_3=1."
            ) from error
    return layers
