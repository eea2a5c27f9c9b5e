"""The one exception a user ever sees: a sentence that says what is wrong and how to mend it."""

import errno
from importlib import import_module

# What each extra of the package brings that the base install does not have.
EXTRAS = {
    "train": ("torch", "torchvision", "onnx", "safetensors", "matplotlib", "jinja2"),
    "web": ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"),
    "virtual-camera": ("pyvirtualcam",),
    "ray": ("ray", "fsspec"),
}


class AllaprimaError(Exception):
    """Bad input or a bad environment, said in one clear sentence with the fix in it.

    The command line prints the sentence and exits with code 2; from Python it is an ordinary exception.
    """


def explain_os_error(error: OSError, path: object) -> AllaprimaError:
    """Turn the operating system's refusal to read or write `path` into a sentence with a fix in it."""
    reasons = {
        errno.ENOSPC: f"The disk is full: {path} was not written. Free some space or choose another folder.",
        errno.EDQUOT: f"The disk quota is used up: {path} was not written. Free some space or choose another folder.",
        errno.EACCES: f"No permission for {path}. Choose another path or change its permissions.",
        errno.EPERM: f"No permission for {path}. Choose another path or change its permissions.",
        errno.EROFS: f"{path} is on a read-only disk. Choose another folder.",
        errno.ENOENT: f"{path} does not exist. Check the spelling of the path.",
        errno.ENOTDIR: f"A part of {path} is a file and not a folder. Choose another path.",
        errno.EEXIST: f"A part of {path} is a file and not a folder. Choose another path.",
        errno.ENAMETOOLONG: f"The name of {path} is longer than its disk allows. Give a shorter one.",
        errno.EISDIR: f"{path} is a folder. Give a file name inside it.",
    }
    return AllaprimaError(reasons.get(error.errno or 0, f"{path} can't be used: {error.strerror or error}."))


def import_with_extra(module: str):
    """Import a module that may need the packages of an extra. Raises AllaprimaError, with the extra that has them."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if missing in packages), None)
        if extra is None:
            raise
        raise AllaprimaError(f"This needs the extra {extra!r}. In the checkout: pip install '.[{extra}]'.") from error
