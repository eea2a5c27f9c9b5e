"""The folder of a user's own styles, in which the studio keeps its trainings and, while it runs, its conversions."""

import os
import re
from pathlib import Path

import psutil

from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.core.files import folded, write_atomically
from allaprima.infer.library import Style, list_styles, user_folder

OWNER = ".studio"  # the file that holds the process of the studio that uses the folder


class Library:
    """folder: of the user's own styles; None for the one that `allaprima models` knows. Made when something is kept."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or user_folder()
        self.trainings, self.conversions = self.folder / "trainings", self.folder / "conversions"

    def styles(self) -> list[Style]:
        """All styles as they are now, the bundled ones too."""
        return list_styles(self.folder)

    def claim(self) -> None:
        """Make the folder this process's: two studios would do each training twice.

        Raises AllaprimaError when another studio uses it, or it can't be written.
        """
        owner = self._owner()
        if owner == os.getpid():
            return
        if owner is not None:
            raise AllaprimaError(
                f"Another studio, process {owner}, uses {self.folder}: close it, or give another folder with --library."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / OWNER, str(os.getpid()))
        except OSError as error:
            raise explain_os_error(error, self.folder) from error

    def release(self) -> None:
        """Give the folder back."""
        if self._owner() == os.getpid():
            (self.folder / OWNER).unlink(missing_ok=True)

    def _owner(self) -> int | None:
        try:
            process = psutil.Process(int((self.folder / OWNER).read_text()))
            return process.pid if "studio" in process.cmdline() or process.pid == os.getpid() else None
        except (OSError, ValueError, psutil.Error):
            return None  # there was none, or it died


def safe_stem(name: str, otherwise: str) -> str:
    """The stem of a file's name as a name that is safe on every file system and in every URL."""
    stem = re.split(r"[/\\]", name)[-1].rpartition(".")[0] or name
    return re.sub(r"\W+", "_", stem).strip("_")[:60] or otherwise


def free_name(stem: str, taken: list[str], ending="") -> str:
    """The stem, or with the number 2 and so on where, with the ending, a taken name is the same on some file system."""
    known, name, number = {folded(each) for each in taken}, stem, 2
    while folded(name + ending) in known:
        name, number = f"{stem}-{number}", number + 1
    return name
