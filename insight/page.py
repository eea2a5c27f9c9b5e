"""Self-contained pages: text, headings, tables and pictures, laid out by templates/page.html."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from allaprima.core import __version__
from allaprima.core.files import MARK

WIDE = 760  # px: a picture from this width on scrolls inside its own box on a phone, where others are scaled down


@dataclass
class Heading:
    """A heading between the parts of a page."""

    text: str
    kind = "heading"


@dataclass
class Terms:
    """Terms that the page uses, with what each means."""

    meanings: dict[str, str]
    kind = "terms"


@dataclass
class Table:
    """A table; cells are text or floats, which get four digits and stand at the right."""

    head: list[str]
    rows: list[list]
    kind = "table"


@dataclass
class Row:
    """Pictures side by side, where there is room for it.

    pictures: (uint8 [H, W, 3], or bytes of an SVG file; caption) of each. small: at most 320 pixels high.
    """

    pictures: list[tuple[np.ndarray | bytes, str]]
    small: bool = False
    kind = "row"

    @property
    def wide(self) -> bool:
        """Whether it is one picture that is too wide for a phone."""
        first = self.pictures[0][0]
        return len(self.pictures) == 1 and (isinstance(first, bytes) or first.shape[1] >= WIDE)

    @property
    def images(self) -> list[tuple[str, str]]:
        """(data URL, caption) of each picture."""
        return [(_data_url(picture), caption) for picture, caption in self.pictures]


Part = str | Heading | Terms | Table | Row  # a string is a paragraph


def page(title: str, parts: list[Part]) -> str:
    """The HTML of a whole page, everything inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["number"] = lambda value: f"{value:.4g}"
    return environment.get_template("page.html").render(title=title, parts=parts, version=__version__, mark=MARK)


def _data_url(picture):
    """The picture inside a URL: SVG as it is, pixels in the smaller of two formats: JPEG for a photo, PNG for a plot."""
    if isinstance(picture, bytes):
        kind, data = "svg+xml", picture
    else:
        files = {}
        for kind, options in (("jpeg", {"quality": 90}), ("png", {"optimize": True})):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, kind, **options)
            files[kind] = buffer.getvalue()
        kind, data = min(files.items(), key=lambda item: len(item[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
