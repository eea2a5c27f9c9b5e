"""What every `inspect` command writes: a page (HTML, pictures inside) and a sheet of its pictures (PNG)."""

import io
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from allaprima.core.checks import check_file
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Wrote
from allaprima.core.files import check_outputs, write_atomically
from allaprima.insight.page import Part, Row, page
from allaprima.media.pictures import write_rgb

GAP, LINE = 8, 18  # pixels between pictures; of a line of text
DPI = 100


def check_page(output, inputs, overwrite: bool, listener: Listener) -> Path:
    """`check_outputs` for the page `output` and the sheet beside it, before any work is done."""
    output = check_file("output", output)
    if output.suffix.lower() != ".html":
        raise AllaprimaError(f"output must be an .html file, for example {output.stem}.html, not {output}.")
    return check_outputs([output, output.with_suffix(".png")], inputs, overwrite=overwrite, listener=listener)[0]


def writing(output: Path, what: str) -> str:
    """The sentence that says what will be written, before the work begins."""
    return f"Writing {output} and {output.with_suffix('.png')}: {what}."


def write(output: Path, title: str, parts: list[Part], listener: Listener) -> None:
    """Write the page, and the sheet of all pictures in it, each whole or not at all."""
    pictures = [picture for part in parts if isinstance(part, Row) for picture, _ in part.pictures]
    write_rgb(output.with_suffix(".png"), stack(pictures))
    write_atomically(output, page(title, parts))
    listener(Wrote(output))
    listener(Wrote(output.with_suffix(".png"), "the pictures of the page"))


def stack(pictures) -> np.ndarray:
    """Pictures, uint8 [H, W, 3], one below the other on white."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate(
        [np.pad(p, ((0, GAP), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    )


def grid(rows, pad=GAP) -> np.ndarray:
    """Rows of cells as one picture, uint8 [H, W, 3], on white.

    A cell is (picture, caption), the caption above it; without a picture, None, its text stands beside the others'
    pictures. Columns are as wide as their widest cell, text included; rows as high as their highest.
    """
    font = ImageFont.load_default(13)
    columns = range(max(map(len, rows)))
    widths = [max(_size(cells[c], font)[1] for cells in rows if c < len(cells)) for c in columns]
    lines = [max((_text_height(text) for picture, text in cells if picture is not None), default=0) for cells in rows]
    heights = [max(_size(cell, font)[0] for cell in cells) for cells in rows]
    width = sum(widths) + pad * (len(widths) + 1)
    sheet = Image.new("RGB", (width, sum(heights) + sum(lines) + pad * (len(rows) + 1)), "white")
    draw, top = ImageDraw.Draw(sheet), pad
    for cells, height, line in zip(rows, heights, lines, strict=True):
        left = pad
        for (picture, text), width in zip(cells, widths, strict=False):
            beside = line if picture is None else 0
            if picture is not None:
                sheet.paste(Image.fromarray(picture), (left, top + line))
            draw.multiline_text((left, top + beside), text, fill="black", font=font, spacing=3)
            left += width + pad
        top += height + line + pad
    return np.asarray(sheet)


def _text_height(text):
    return LINE * (text.count("\n") + bool(text))


def _size(cell, font):
    """Height and width of a cell, without the height of a caption above a picture."""
    picture, text = cell
    wide = int(max(map(font.getlength, text.split("\n")))) + 1
    return (_text_height(text), wide) if picture is None else (picture.shape[0], max(picture.shape[1], wide))


def enlarge(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture, uint8 [H, W, 3], scaled to a long side of `side` pixels; small ones keep their pixels as squares."""
    ratio = side / max(picture.shape[:2])
    size = [max(1, round(n * ratio)) for n in picture.shape[1::-1]]
    method = Image.Resampling.NEAREST if ratio >= 1 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize(size, method))


def figure(width: int, height: int) -> Figure:
    """An empty figure of that many pixels, apart from pyplot and whatever it is set to."""
    drawing = Figure((width / DPI, height / DPI), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def drawn(drawing: Figure) -> np.ndarray:
    """A figure as a picture, uint8 [H, W, 3]."""
    canvas = cast(FigureCanvasAgg, drawing.canvas)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_svg(drawing: Figure) -> bytes:
    """A figure as an SVG file on a transparent ground, so that it stands on light and dark pages."""
    file = io.BytesIO()
    drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()
