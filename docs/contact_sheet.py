"""The picture at the top of the README: bundled photos beside what a style makes of them.

uv run python docs/contact_sheet.py starry.onnx -o docs/starry.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from allaprima import Stylizer
from allaprima.files import atomic

PHOTOS = Path(__file__).parent.parent / "train" / "photos"
HEIGHT = 300


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--photos", nargs="+", default=["astronaut.jpg", "china.jpg", "sunset.jpg"])
    arguments = parser.parse_args()
    stylizer = Stylizer(arguments.model)
    rows = [[], []]
    for name in arguments.photos:
        image = Image.open(PHOTOS / name).convert("RGB")
        photo = np.asarray(image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS))
        rows[0].append(photo)
        rows[1].append(stylizer(photo))
    sheet = np.concatenate([np.concatenate(row, 1) for row in rows])
    with atomic(arguments.output) as part:
        Image.fromarray(sheet).save(part, quality=92)


if __name__ == "__main__":
    main()
