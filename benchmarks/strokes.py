"""How large brush strokes are, in proportion to the picture, as pictures grow.

    python benchmarks/strokes.py wave starry_night

Measured on a bundled photo enlarged to each height, where it is flat, so that the texture is the painting's: the
autocorrelation length, the distance at which the autocorrelation of the painted luminance, averaged over directions,
falls to 1/e, in thousandths of the picture's width. What is larger than a tenth of the width is left out.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from page import publish, table
from PIL import Image

from allaprima.core.contract import Controls
from allaprima.infer.stylizer import Stylizer
from allaprima.media.luminance import luminance

PHOTOS = Path(__file__).resolve().parent.parent / "train" / "photos"
HEIGHTS = (480, 720, 1080, 1440, 2160)
FLAT = 4  # grey levels: the standard deviation within a hundredth of the width, below which a place is flat


def autocorrelation_length(texture, mask, longest):
    """Pixels until the autocorrelation of `texture`, float [H, W], within `mask` falls to 1/e; `longest` at the most."""
    shape = [cv2.getOptimalDFTSize(side + longest) for side in texture.shape]
    correlated = [np.fft.irfft2(np.abs(np.fft.rfft2(part, shape)) ** 2, shape) for part in (texture * mask, mask)]
    y, x = np.mgrid[-longest : longest + 1, -longest : longest + 1]
    distance = np.hypot(x, y).round().astype(int).ravel()
    products, pairs = (np.bincount(distance, part[y, x].ravel())[: longest + 1] for part in correlated)
    curve = products / pairs / (products[0] / pairs[0])
    below = int(np.argmax(curve < np.exp(-1))) or longest
    return below - 1 + (curve[below - 1] - np.exp(-1)) / max(curve[below - 1] - curve[below], 1e-9)


def stroke_size(photo, painted):
    """Thousandths of the picture's width."""
    width = photo.shape[1]
    near, far = width // 100 | 1, width // 10 | 1
    grey = luminance(photo).astype(np.float32)
    spread = cv2.blur(grey**2, (near, near)) - cv2.blur(grey, (near, near)) ** 2
    mask = cv2.erode((spread < FLAT**2).astype(np.float32), np.ones((near, near)))
    texture = luminance(painted).astype(np.float32)
    weight = np.maximum(cv2.blur(mask, (far, far)), 1e-6)
    return 1000 * autocorrelation_length(texture - cv2.blur(texture * mask, (far, far)) / weight, mask, far) / width


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names of bundled styles, or model files")
    parser.add_argument("--photo", type=Path, default=PHOTOS / "china.jpg")
    parser.add_argument("--strokes", type=float, nargs="*", default=[0.5, 1, 2])
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    options = parser.parse_args()

    whole = Image.open(options.photo).convert("RGB")
    photos = [
        np.asarray(whole.resize((round(whole.width * h / whole.height), h), Image.Resampling.LANCZOS)) for h in HEIGHTS
    ]
    rows = []
    for model in options.models:
        stylizer = Stylizer(model)
        for stroke in (None, *options.strokes):
            sizes = [stroke_size(photo, stylizer(photo, Controls(stroke=stroke))) for photo in photos]
            way = "as it is" if stroke is None else f"--stroke {stroke:g}"
            rows.append([model, way, *(f"{size:.2f}" for size in sizes), f"{max(sizes) / min(sizes) - 1:.0%}"])
    head = ["style", "", *(f"{height} lines" for height in HEIGHTS), "largest over smallest"]
    note = (
        "In thousandths of the picture's width. Strokes of 0.5 are painted on 1280x960 pixels: smaller pictures than that "
        "can't show the finest of them."
    )
    publish("Stroke size", f"{note}\n\n{table(head, rows)}", options.write)


if __name__ == "__main__":
    main()
