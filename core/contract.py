"""The contract of the model file, said once: names, sizes, what can be turned at run time, and what the file says of itself."""

import base64
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from allaprima.core import __version__
from allaprima.core.checks import LONGEST, check_switch, is_finite
from allaprima.core.errors import AllaprimaError

FORMAT = 2  # of model files; 1 had an optional `strength`, a scalar, and said where its trainer kept the painting
IMAGE, STYLIZED = "image", "stylized"  # input and output, uint8 [N, H, W, 3] RGB; `strength` is an input too
STROKES = (0.5, 2)  # the least and the largest stroke
SMALLEST = 16  # px: the least height and width of a picture
GRID = 1024  # px: after so many the grain of a canvas repeats; tiles of a picture begin at multiples of it
PERIOD = 8  # px: the networks halve a picture three times, so their own pattern can have no longer period

_CHANNELS = 4096  # of a layer, more than those of any loss network

Matrix = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Controls:
    """What can be turned while a style runs.

    strength: 0 returns the photo, 1 the full style; an input of the model file, float32 [1]. The others work beside the
    network, so every model has them:
    stroke: the size of strokes in proportion to the picture, 0.5 to 2, where 1 is what the network paints at 640x480,
    whatever the picture's size (infer/strokes.py); None leaves the network's strokes, of so many pixels, as they are.
    keep_colors: the photo's colours, the painting's strokes (media/luminance.py).
    steady: in a video or live, strokes stay on what they paint (infer/steady.py), and are not painted anew in each frame; a
    single picture is not changed by it.
    Raises AllaprimaError for a value out of range.
    """

    strength: float = 1.0
    stroke: float | None = None
    keep_colors: bool = False
    steady: bool = True

    def __post_init__(self):
        if not _within(self.strength, 0, 1):
            raise AllaprimaError(f"strength must be a number from 0 to 1, not {self.strength!r}.")
        least, most = STROKES
        if self.stroke is not None and not _within(self.stroke, least, most):
            raise AllaprimaError(f"stroke must be a number from {least} to {most}, or None, not {self.stroke!r}.")
        check_switch(keep_colors=self.keep_colors, steady=self.steady)


@dataclass(frozen=True)
class Card:
    """What a model file says of itself: its metadata, typed.

    name, architecture, credit, licence, version: of the style, its network, the painter, the model, this package.
    thumbnail: a JPEG of at most 160 px a side: the painting, or a photo in its style where that may not be included.
    settings: every setting of the training; of paths the last part alone. objective: the weights of J, as balanced for
    this painting (models/perceptual.py). losses: `held_out`, the costs on photos not trained on, and `trained_seconds`.
    painting: a JPEG of the painting, of the size that the training saw. grams: where it may not be included, its Gram
    matrices, float32 [C, C], by layer (models/perceptual.py, `gram_matrix`). precision: "float16" or "int8" of a copy in
    fewer bits (train/precision.py). format: of the model file.
    """

    name: str = ""
    architecture: str = ""
    credit: str = ""
    licence: str = ""
    thumbnail: bytes = b""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    objective: dict[str, Any] = field(default_factory=dict[str, Any])
    losses: dict[str, Any] = field(default_factory=dict[str, Any])
    painting: bytes = b""
    grams: dict[str, Matrix] = field(default_factory=dict[str, Matrix])
    precision: str = ""
    version: str = __version__
    format: int = FORMAT

    def to_metadata(self) -> dict[str, str]:
        """The metadata of the ONNX file, texts all: bytes in base64, the rest as JSON. What is empty is left out."""
        return {key: _to_text(value) for key, value in vars(self).items() if value}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str], path: str | Path = "The model file") -> "Card":
        """The reverse of `to_metadata`; what it does not know is left out. path: for the messages.

        Raises AllaprimaError when a value can't be read, or the format is newer than this package.
        """

        def read(key: str, decode: Callable[[str], T], default: T) -> T:
            try:
                return decode(metadata[key]) if key in metadata else default
            except (ValueError, TypeError, AttributeError, RecursionError, zlib.error) as error:
                damaged = f"{path} is damaged: its {key} can't be read. Copy or export the model file again."
                raise AllaprimaError(damaged) from error

        number = read("format", int, 1)
        if number > FORMAT:
            raise AllaprimaError(
                f"{path} has format {number}, and allaprima {__version__} reads up to {FORMAT}: update allaprima."
            )
        settings, objective = read("settings", _dict, {}), read("objective", _dict, {})
        if number == 1:  # the objective was among the settings, and so was the trainer's own path of the painting
            settings.pop("style_path", None)
            objective = settings.pop("objective", objective)
        return cls(
            name=metadata.get("name", ""),
            architecture=metadata.get("architecture", ""),
            credit=metadata.get("credit", ""),
            licence=metadata.get("licence", ""),
            thumbnail=read("thumbnail", _bytes, b""),
            settings=settings,
            objective=objective,
            losses=read("losses", _dict, {}),
            painting=read("painting", _bytes, b""),
            grams=read("grams", lambda text: {layer: _unpack(*gram) for layer, gram in _dict(text).items()}, {}),
            precision=metadata.get("precision", ""),
            version=metadata.get("version", ""),
            format=number,
        )


def _within(value: object, least: float, most: float) -> bool:
    """Is it a number, True and False not being any, of that range?"""
    return is_finite(value) and least <= value <= most


def _to_text(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, str) else json.dumps(value, default=_pack)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _dict(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError
    return value  # pyright: ignore[reportUnknownVariableType]


def _pack(gram: Matrix) -> list[str | float]:
    """A Gram matrix as [its diagonal's square root, the least of its cosines, the upper triangle of them in 8 bits].

    Cosine: of the angle between two channels, gram_kk' / sqrt(gram_kk gram_k'k'). Deflated and as text, the four matrices of
    a painting take 0.18 MB, where float16 would take 0.47 MB, and J changes by less than 0.02 %.
    """
    length = np.sqrt(np.diag(gram))
    cosine = (gram / np.maximum(np.outer(length, length), 1e-30))[np.triu_indices(len(gram))]
    least = min(float(cosine.min()), 0.999)
    levels = np.round((cosine - least) * (255 / (1 - least))).clip(0, 255).astype(np.uint8)
    return [_to_text(length.astype("<f4").tobytes()), least, _to_text(zlib.compress(levels.tobytes(), 9))]


def _unpack(length_text: str, least: float, levels_text: str) -> Matrix:
    length = np.frombuffer(_bytes(length_text), "<f4")
    if len(length) > _CHANNELS:
        raise ValueError
    count = len(length) * (len(length) + 1) // 2
    levels = np.frombuffer(zlib.decompressobj().decompress(_bytes(levels_text), count), np.uint8)  # and not a bomb
    cosine = np.zeros((len(length), len(length)), np.float32)
    cosine[np.triu_indices(len(length))] = least + levels * ((1 - least) / 255)
    return np.outer(length, length) * (cosine + np.triu(cosine, 1).T)


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from "640x480"; AllaprimaError when it is anything else."""
    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(text).lower())
    if sides is None or min(map(int, sides.groups())) < SMALLEST:
        raise AllaprimaError(
            f"{text} is not a size. Give width and height of {SMALLEST} to {LONGEST} pixels, as in 640x480."
        )
    return int(sides[1]), int(sides[2])
