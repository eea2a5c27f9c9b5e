"""The contract of the model file, said once: names, sizes, and what can be turned at run time."""

from dataclasses import dataclass

from allaprima.core.errors import AllaprimaError

SMALLEST = 16  # px: the least height and width of a picture
GRID = 1024  # px: after so many the grain of a canvas repeats; tiles of a picture begin at multiples of it


@dataclass(frozen=True)
class Controls:
    """What can be turned while a style runs. strength: 0 returns the photo, 1 the full style.

    Raises AllaprimaError for a value out of range.
    """

    strength: float = 1.0

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise AllaprimaError(f"strength must be from 0 to 1, not {self.strength}.")


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from "640x480"; AllaprimaError when it is anything else."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) >= 16 and int(height) >= 16):
        raise AllaprimaError(f"{text} is no size. Give width and height of at least 16 pixels, as in 640x480.")
    return int(width), int(height)
