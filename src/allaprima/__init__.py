"""allaprima: one painting in, one fast network out, running live on any webcam.

    from allaprima import Stylizer
    stylizer = Stylizer("starry.onnx")
    stylized = stylizer(photo)          # uint8 [H, W, 3] RGB in and out

The names below are the public API. They load on first use, so `import allaprima` is quick and never brings torch in.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from allaprima.core import __version__
from allaprima.core.errors import AllaprimaError

# ONNX Runtime looks once, when it is first imported: else it keeps an identifier and a store of events in the home folder,
# and sends them. Every module of ours comes after this line. Who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from allaprima.baseline.compare import compare
    from allaprima.baseline.optimizer import optimize
    from allaprima.infer.jobs import stylize
    from allaprima.infer.stylizer import Stylizer
    from allaprima.train.trainer import train_style

__all__ = ["AllaprimaError", "Stylizer", "__version__", "compare", "optimize", "stylize", "train_style"]

_MODULES = {
    "Stylizer": "allaprima.infer.stylizer",
    "stylize": "allaprima.infer.jobs",
    "train_style": "allaprima.train.trainer",
    "optimize": "allaprima.baseline.optimizer",
    "compare": "allaprima.baseline.compare",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'allaprima' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
