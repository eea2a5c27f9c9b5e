"""What every `inspect` command writes: a page (HTML, pictures inside) and a sheet of its pictures (PNG)."""

import html
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from allaprima.core import __version__
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import atomic, check_output, write_atomically
from allaprima.core.progress import console
from allaprima.insight.page import page, row

GAP, LINE = 8, 18  # pixels between pictures; of a line of text
DPI = 100


def announce(output, what: str) -> Path:
    """Check that the page and the sheet can be written, and say so. output: where the page goes, .html."""
    output = Path(output)
    if output.suffix.lower() != ".html":
        raise AllaprimaError(f"{output} does not end in .html: give the page a name like {output.stem}.html.")
    check_output(output.with_suffix(".png"))
    console.print(f"Writing {output} and {output.with_suffix('.png')}: {what}.", highlight=False, soft_wrap=True)
    return check_output(output)


def write(output: Path, title: str, parts):
    """Write the page and the sheet, each whole or not at all.

    parts: in order, text (a paragraph, or HTML where it begins with <) and pictures, (uint8 [H, W, 3], caption).
    """
    body = [f"<h1>{html.escape(title)}</h1>", *map(_html, parts), f"<p>allaprima {__version__}</p>"]
    sheet = Image.fromarray(stack([part[0] for part in parts if not isinstance(part, str)]))
    with atomic(output.with_suffix(".png")) as part:
        sheet.save(part, optimize=True)
    write_atomically(output, page(html.escape(title), body))
    console.print(f"Wrote {output} and {output.with_suffix('.png')}.", highlight=False, soft_wrap=True)


def _html(part):
    if not isinstance(part, str):
        return row([part])
    return part if part.startswith("<") else f"<p>{html.escape(part)}</p>"


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
    drawing.canvas.draw()
    return np.asarray(drawing.canvas.buffer_rgba())[..., :3].copy()
