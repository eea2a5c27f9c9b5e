"""allaprima: one painting in, one fast network out, running live on any webcam.

    from allaprima import Stylizer
    stylizer = Stylizer("starry.onnx")
    stylized = stylizer(photo)          # uint8 [H, W, 3] RGB in and out

The names below are the public API. They load on first use, so `import allaprima` is quick and never brings torch in.
"""

from allaprima.errors import AllaprimaError

__version__ = "0.1.0"

# name -> the module it lives in
_API = {
    "Stylizer": "allaprima.infer.stylizer",
    "stylize": "allaprima.infer.convert",
    "train_style": "allaprima.train.trainer",
    "optimize": "allaprima.baseline.optimizer",
    "compare": "allaprima.baseline.compare",
}
__all__ = ["AllaprimaError", *_API]


def __getattr__(name):
    if name not in _API:
        raise AttributeError(f"module 'allaprima' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_API[name]), name)


def __dir__():
    return sorted([*globals(), *__all__])
