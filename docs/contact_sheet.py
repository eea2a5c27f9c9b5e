"""The pictures in the README: bundled photos beside what styles make of them, a row for each style.

    uv run python docs/contact_sheet.py starry_night wave the_scream shipwreck udnie contrast_of_forms \
        delaunay_portrait mondrian --height 240 --photos astronaut.jpg china.jpg picos.jpg rocket.jpg -o docs/gallery.jpg
    uv run python docs/contact_sheet.py starry.onnx -o docs/starry.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from allaprima import Stylizer
from allaprima.core.files import atomic

PHOTOS = Path(__file__).parent.parent / "train" / "photos"
LINE = 18  # px, for the name of a style


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="model files, or names of styles")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--photos", nargs="+", default=["astronaut.jpg", "china.jpg", "sunset.jpg"])
    parser.add_argument("--height", type=int, default=300, help="of a picture, pixels")
    arguments = parser.parse_args()
    photos = [scaled(PHOTOS / name, arguments.height) for name in arguments.photos]
    rows = [np.concatenate(photos, 1)]
    for model in arguments.models:
        stylizer = Stylizer(model)
        row = np.concatenate([stylizer(photo) for photo in photos], 1)
        if len(arguments.models) > 1:
            rows.append(label(stylizer.name, row.shape[1]))
        rows.append(row)
    with atomic(arguments.output) as part:
        Image.fromarray(np.concatenate(rows)).save(part, quality=90)


def scaled(file, height):
    image = Image.open(file).convert("RGB")
    return np.asarray(image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS))


def label(text, width):
    """A line of text on white, uint8 [LINE, width, 3]."""
    image = Image.new("RGB", (width, LINE), "white")
    ImageDraw.Draw(image).text((4, 3), text, fill="black")
    return np.asarray(image)


if __name__ == "__main__":
    main()
