"""Where styles are found: those that come with the package, and the user's own folder."""

import difflib
import os
from pathlib import Path
from typing import NamedTuple

from allaprima.core.checks import check_path
from allaprima.core.errors import AllaprimaError, explain_os_error

BUNDLED = Path(__file__).parent / "styles"
DEFAULT_STYLE = "starry_night"
# how names of bundled styles end whose networks are larger, for pictures rather than for a camera
FOR_PICTURES = "_best"


class Style(NamedTuple):
    """A model file in one of the two folders; `where` is "bundled" or "yours"."""

    name: str
    path: Path
    where: str


def user_folder() -> Path:
    """The folder of the user's own styles: `~/.allaprima/styles`, or what ALLAPRIMA_STYLES says."""
    return Path(os.environ.get("ALLAPRIMA_STYLES") or Path.home() / ".allaprima" / "styles").expanduser()


def list_styles(own: Path | None = None) -> list[Style]:
    """All styles by name; a style in the user's folder, `own` where given, hides the bundled one of that name."""
    found = {}
    for where, folder in (("bundled", BUNDLED), ("yours", own or user_folder())):
        for path in folder.glob("*.onnx") if os.path.isdir(folder) else ():
            found[path.stem] = Style(path.stem, path, where)
    return [found[name] for name in sorted(found)]


def live_styles() -> list[Style]:
    """Those that are for a camera: the bundled ones without those for pictures, and the user's own."""
    return [style for style in list_styles() if style.where == "yours" or not style.name.endswith(FOR_PICTURES)]


def changed(path: Path) -> int:
    """When a model file was last changed, in ns. Raises AllaprimaError where it is not there, as a link may lead nowhere."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise explain_os_error(error, path) from error


def find_style(name_or_path) -> Path:
    """The model file that `name_or_path` means: a file, or the name of a style that `models` lists.

    Raises AllaprimaError, with the nearest name or all of them, when there is none.
    """
    text, path = str(name_or_path), check_path("model", name_or_path)
    styles = {style.name: style.path for style in list_styles()}
    if text in styles:
        return styles[text]
    if os.path.isfile(path):
        return path
    if os.path.isdir(path):
        raise AllaprimaError(f"{path} is a folder: give a model file inside it.")
    if path.suffix == ".onnx" or path.name != text:
        changed(path)  # says why it can't be had
        raise AllaprimaError(f"{path} is not an ordinary file: give a model file.")
    if os.path.isfile(f"{text}.onnx"):
        raise AllaprimaError(f"There is no style {text!r}. Did you mean the file {text}.onnx?")
    near = difflib.get_close_matches(text.lower(), styles, n=1)
    if near:
        raise AllaprimaError(f"There is no style {text!r}. Did you mean {near[0]!r}?")
    known = f"One of {', '.join(styles)}" if styles else f"No style is installed: put one into {user_folder()}"
    raise AllaprimaError(f"There is no style {text!r}. {known}, or give the path of a model file.")
