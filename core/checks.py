"""Values that callers give: the wrong type or range of one is a sentence that names it."""

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard, cast

from allaprima.core.errors import AllaprimaError

StrPath = str | os.PathLike[str]
LONGEST = 999_999  # px: a side of a size that is asked for


def check_whole(least: int, most: float = math.inf, **values: object) -> None:
    """Raise AllaprimaError for the first value that is not a whole number of at least `least` and at most `most`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= most:
            limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
            raise AllaprimaError(f"{name} must be a whole number {limits}, not {value!r}.")


def check_positive(**values: object) -> None:
    """Raise AllaprimaError for the first value that is not a finite number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise AllaprimaError(f"{name} must be a number above 0, not {value!r}.")


def check_switch(**values: object) -> None:
    """Raise AllaprimaError for the first value that is not True or False: the text "no" would be taken for True."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise AllaprimaError(f"{name} must be True or False, not {value!r}.")


def check_kind(kind: type, **values: object) -> None:
    """Raise AllaprimaError for the first value that is neither None nor of the class `kind`."""
    for name, value in values.items():
        if value is not None and not isinstance(value, kind):
            raise AllaprimaError(f"{name} must be of the type {kind.__name__}, not {type(value).__name__}.")


def check_size(size: object) -> None:
    """Raise AllaprimaError unless `size` is (width, height), whole numbers from 1 to LONGEST."""
    pair = cast("Sequence[object]", size) if isinstance(size, list | tuple) else ()
    if len(pair) != 2:
        raise AllaprimaError(f"size must be (width, height), not {size!r}.")
    check_whole(1, LONGEST, **dict(zip(("width", "height"), pair, strict=True)))


def check_path(name: str, value: object) -> Path:
    """The value as a path; AllaprimaError when it can't be one."""
    if not _is_path(value):
        raise AllaprimaError(f"{name} must be a path, not {type(value).__name__}.")
    if not os.fspath(value):
        raise AllaprimaError(f"{name} is empty: give a path.")
    if "\0" in os.fspath(value):
        raise AllaprimaError(f"{name} must be a path, and a null character can't be in one.")
    return Path(value)


def check_model_name(path: Path) -> None:
    """Raise AllaprimaError where a model file would be written without the ending that it is known by."""
    if path.suffix.lower() != ".onnx":
        raise AllaprimaError(f"{path} does not end in .onnx: give the model file a name such as {path.stem}.onnx.")


def names_folder(path: StrPath) -> bool:
    """Does a path say that it is a folder's, by a slash at its end?"""
    return str(path).endswith(("/", os.sep))


def check_paths(name: str, values: object) -> list[Path]:
    """One path, or a list of at least one, as a list; AllaprimaError for anything else."""
    several = cast("Sequence[object]", values) if isinstance(values, list | tuple) else [values]
    if not several:
        raise AllaprimaError(f"{name} is empty: give at least one path.")
    paths: list[Path] = []
    for value in several:
        if not _is_path(value):
            raise AllaprimaError(f"{name} must be paths, not {type(value).__name__}.")
        paths.append(check_path(name, value))
    return paths


def _is_path(value: object) -> TypeGuard[StrPath]:
    return isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)
