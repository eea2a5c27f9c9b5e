"""Values that callers give: the wrong type or range of one is a sentence that names it."""

import math
import os
from numbers import Integral, Real
from pathlib import Path

from allaprima.core.errors import AllaprimaError


def check_whole(least: int, **values) -> None:
    """Raise AllaprimaError for the first value that is not a whole number of at least `least`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise AllaprimaError(f"{name} must be a whole number of at least {least}, not {value!r}.")


def check_positive(**values) -> None:
    """Raise AllaprimaError for the first value that is not a finite number above 0."""
    for name, value in values.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not (value > 0 and math.isfinite(value)):
            raise AllaprimaError(f"{name} must be a number above 0, not {value!r}.")


def check_kind(kind: type, **values) -> None:
    """Raise AllaprimaError for the first value that is neither None, for a default, nor of the class `kind`."""
    for name, value in values.items():
        if value is not None and not isinstance(value, kind):
            raise AllaprimaError(f"{name} must be of the type {kind.__name__}, not {type(value).__name__}.")


def check_path(name: str, value) -> Path:
    """The value as a path; AllaprimaError when it can't be one."""
    if not isinstance(value, str | os.PathLike):
        raise AllaprimaError(f"{name} must be a path, not {type(value).__name__}.")
    return Path(value)


def check_paths(name: str, values) -> list[Path]:
    """One path, or a list of at least one, as a list; AllaprimaError for anything else."""
    values = values if isinstance(values, list | tuple) else [values]
    for value in values:
        if not isinstance(value, str | os.PathLike):
            raise AllaprimaError(f"{name} must be paths, not {type(value).__name__}.")
    if not values:
        raise AllaprimaError(f"{name} is empty: give at least one path.")
    return [Path(value) for value in values]
