"""Everything that can be set about a training, and the presets."""

import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from allaprima.core.errors import AllaprimaError


@dataclass
class Settings:
    """A training's settings; they are written into the model file.

    size: side of the training crops in pixels. early_size: that of the first crops, as a part of `size`, at the same scale:
    smaller ones teach nearly as much in less time. style_size: the painting's long side in pixels, which sets the brush:
    larger means larger strokes. alpha, beta: weights of content and style after balancing (see models/perceptual.py,
    `balance`). stylization: the content cost (1: as far from the photo as another photo) to which beta is steered while
    training goes on, because one beta is a tint for one painting and the loss of every face for another; less where
    the style is there before. 0 leaves beta as it is, and so does a beta that is given. stability: weight of the part of
    a camera's noise that the picture shows, which flickers in a video. evenness: weight of the grid that the network leaves
    in it (both: `Trainer._cost`).
    photos: folder, video, or None for the bundled photos. start: `pretrained`, for the weights that come with the package,
    where the network has any, or `scratch`, for random ones.
    optimizer: `soap` (train/soap.py), or `adam`, as Johnson et al., who used a learning rate of 1e-3.
    snapshots: keep the weights of some steps for `inspect evolution`; changes nothing else.
    """

    architecture: str = "live"
    start: str = "pretrained"
    steps: int = 2200
    batch: int = 1
    size: int = 256
    early_size: float = 0.75
    style_size: int = 512
    optimizer: str = "soap"
    learning_rate: float = 5e-3
    warmup: int = 30
    alpha: float = 1.0
    beta: float = 2.5
    stylization: float = 0.6
    stability: float = 0.1
    evenness: float = 0.01
    tv: float = 0.0
    content_layers: dict = field(default_factory=lambda: {"relu3_3": 1.0})
    style_layers: dict = field(default_factory=lambda: {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0})
    loss_network: str = "vgg16_oxford"
    loss_weights: str | None = None
    pooling: str = "max"
    photos: str | None = None
    held_out: int = 3
    seed: int = 0
    snapshots: bool = False

    to_dict = asdict

    def check(self):
        """Raise AllaprimaError for the first setting that makes no sense."""
        for name in ("steps", "batch", "size", "style_size", "learning_rate", "held_out"):
            if not getattr(self, name) > 0:
                raise AllaprimaError(f"{name} is {getattr(self, name)}: give a number above 0.")
        for name in ("alpha", "beta", "stylization", "stability", "evenness", "tv", "warmup"):
            if not getattr(self, name) >= 0:
                raise AllaprimaError(f"{name} is {getattr(self, name)}: give 0 or more.")
        if self.start not in ("pretrained", "scratch"):
            raise AllaprimaError(f"There is no start {self.start!r}. Choose pretrained or scratch.")
        if not 0.5 <= self.early_size <= 1:
            raise AllaprimaError(f"early_size is {self.early_size}: give a part of size from 0.5 to 1.")
        if self.optimizer not in ("soap", "adam"):
            raise AllaprimaError(f"There is no optimizer {self.optimizer!r}. Choose soap or adam.")
        if self.size < 64 or self.style_size < 64:
            raise AllaprimaError("size and style_size must be at least 64 pixels, for the loss network to see a style.")
        return self


# How long each takes on the machine at hand is printed a few steps into the training.
PRESETS = {
    "quick": {},
    "balanced": {"steps": 4000, "batch": 4, "early_size": 1.0},  # a second size would be compiled anew
    "best": {"architecture": "best", "steps": 20000, "batch": 4},
}


# What a network was published with, and is trained with unless told otherwise: johnson diverges with our optimizer.
AS_PUBLISHED = {"johnson": {"optimizer": "adam", "learning_rate": 1e-3, "stability": 0.0, "evenness": 0.0}}


def preset_for(device_type: str) -> str:
    """`quick` for a CPU: done in the time of a coffee; `balanced` for a GPU: done in a few minutes."""
    return "balanced" if device_type == "cuda" else "quick"


def make_settings(preset: str, config=None, **overrides) -> Settings:
    """A preset, changed by a TOML file `config`, changed by `overrides` that are not None.

    Raises AllaprimaError for an unknown preset or setting, a wrong type, or a file that can't be read.
    """
    if preset not in PRESETS:
        raise AllaprimaError(f"There is no preset {preset!r}. Choose one of: {', '.join(PRESETS)}.")
    values = PRESETS[preset] | (_read_config(config) if config else {})
    return change(change(Settings(), values), overrides)


def change(settings: Settings, values: dict) -> Settings:
    """Settings with those of `values` that are not None; checks names, types and ranges."""
    values = {name: value for name, value in values.items() if value is not None}
    if "beta" in values:
        values = {"stylization": 0.0} | values
    values = AS_PUBLISHED.get(values.get("architecture"), {}) | values
    known = [f.name for f in fields(Settings)]
    for name, value in values.items():
        if name not in known:
            raise AllaprimaError(f"There is no setting {name!r}. The settings are: {', '.join(known)}.")
        default = getattr(Settings(), name)
        if isinstance(default, float) and type(value) is int:
            values[name] = float(value)
        elif type(value) is not (str if default is None else type(default)):
            raise AllaprimaError(f"{name} is {value!r}: give a value like {default!r}.")
    return replace(settings, **values).check()


def _read_config(file):
    try:
        return tomllib.loads(Path(file).read_text())
    except FileNotFoundError as error:
        raise AllaprimaError(f"{file} does not exist: check the spelling of --config.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AllaprimaError(f"{file} can't be read as TOML ({error}): write lines like `steps = 1000`.") from error


def parse_layers(text: str | None) -> dict | None:
    """`relu3_3,relu4_3=0.5` as {"relu3_3": 1.0, "relu4_3": 0.5}."""
    if text is None:
        return None
    layers = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, weight = part.partition("=")
        try:
            layers[name.strip()] = float(weight or 1)
        except ValueError as error:
            raise AllaprimaError(f"{part!r} is no layer and weight: write them as relu3_3=0.5,relu4_3=1.") from error
    return layers
