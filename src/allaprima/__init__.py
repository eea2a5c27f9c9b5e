"""allaprima: one painting in, one fast network out, running live on any webcam.

    from allaprima import Stylizer
    stylizer = Stylizer("starry.onnx")
    stylized = stylizer(photo)          # uint8 [H, W, 3] RGB in and out

The names below are the public API. They load on first use, so `import allaprima` is quick and never brings torch in.
`train_style`, `optimize` and `compare` need the extra for training: `pip install '.[train]'` in the folder of the source.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from allaprima.core import __version__
from allaprima.core.errors import EXTRAS, AllaprimaError, import_with_extra

# ONNX Runtime looks once, when it is first imported: else it keeps an identifier and a store of events in the home folder,
# and sends them. Every module of ours comes after this line. Who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from allaprima.baseline.compare import compare
    from allaprima.baseline.optimizer import optimize
    from allaprima.core.contract import Controls
    from allaprima.infer.jobs import stylize
    from allaprima.infer.stylizer import Stylizer
    from allaprima.train.run import train_style
    from allaprima.train.settings import Settings

__all__ = [
    "AllaprimaError",
    "Controls",
    "Settings",
    "Stylizer",
    "__version__",
    "compare",
    "optimize",
    "stylize",
    "train_style",
]

_MODULES = {
    "Controls": "allaprima.core.contract",
    "Settings": "allaprima.train.settings",
    "Stylizer": "allaprima.infer.stylizer",
    "stylize": "allaprima.infer.jobs",
    "train_style": "allaprima.train.run",
    "optimize": "allaprima.baseline.optimizer",
    "compare": "allaprima.baseline.compare",
}
_NEED_EXTRA = {"train_style", "optimize", "compare"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'allaprima' has no attribute {name!r}")
    return getattr(import_with_extra(_MODULES[name]), name)


def __dir__() -> list[str]:
    missing: set[str] = (
        set() if all(map(find_spec, EXTRAS["train"])) else _NEED_EXTRA
    )  # so that help(allaprima) shows what there is
    return sorted({*globals(), *__all__} - missing)
