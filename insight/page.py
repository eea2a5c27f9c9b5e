"""Self-contained pages: headings, tables, and pictures inside the HTML itself."""

import base64
import html
import io

from PIL import Image

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } img { max-width: 100%; height: auto; border-radius: 4px; }
figure { margin: 0; } figcaption { color: #666; font-size: 14px; }
.row { display: grid; grid-auto-columns: 1fr; grid-auto-flow: column; gap: 12px; margin: 12px 0; align-items: start; }
table { border-collapse: collapse; } td, th { padding: 4px 12px; border-bottom: 1px solid #ddd; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } td, th { border-color: #444; } }
"""


def page(title: str, parts) -> str:
    """The HTML of a whole page. title and parts: HTML already."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{STYLE}</style>{''.join(parts)}</html>"
    )


def row(pictures, height=None) -> str:
    """Pictures side by side. pictures: (uint8 [H, W, 3], caption) of each; height: pixels that they have at most."""
    limit = f" style='max-height:{height}px'" if height else ""
    figures = (
        f"<figure><img{limit} src='{_inline(picture)}' alt='{html.escape(caption)}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for picture, caption in pictures
    )
    return f"<div class=row>{''.join(figures)}</div>"


def _inline(picture):
    """The picture as a data URL, in the smaller of two formats: JPEG for a photo, PNG for a plot."""
    files = {}
    for kind, options in (("jpeg", {"quality": 90}), ("png", {"optimize": True})):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, kind, **options)
        files[kind] = base64.b64encode(buffer.getvalue()).decode()
    kind = min(files, key=lambda kind: len(files[kind]))
    return f"data:image/{kind};base64,{files[kind]}"


def table(head, rows) -> str:
    """A table; cells are text, or floats, which get four digits and stand at the right."""

    def cell(value):
        number = isinstance(value, float)
        return f"<td{' class=n' if number else ''}>{f'{value:.4g}' if number else html.escape(str(value))}</td>"

    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{html.escape(h)}</th>' for h in head)}</tr>{lines}</table>"
