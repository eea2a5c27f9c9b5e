"""What minutes buy: `allaprima train PAINTING --minutes N` for several N, side by side, and the bundled style where there is one.

    uv run --extra train python benchmarks/time_to_style.py udnie.jpg --photos FOLDER --write

The trainings are those of a user who sets nothing else; they take the minutes of this machine, so nothing else should run on
it. What is there already, in the folder of --runs, is taken. FOLDER has photos that no training saw; they are measured on at
384 px.
"""

import argparse
from pathlib import Path

import numpy as np
from page import PAGE, publish, table
from PIL import Image, ImageOps
from quality import SIDE, costs_of, trained

from allaprima.baseline.compare import training_loss
from allaprima.core.files import atomic
from allaprima.infer.library import BUNDLED
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import picture_files, read_photo
from allaprima.models.perceptual import PerceptualLoss
from allaprima.train.settings import BUNDLED as PHOTOS
from allaprima.train.settings import BUNDLED_HELD_OUT, Settings

CELL = 256  # px, of the picture that --write makes
HEAD = ["painting", "trained for", "style left", "content"]
NOTE = """`live` with the defaults, and the bundled style where there is one; means over {} photos that were not trained on.
Style left: the style cost as a part of that of the photo. Content: the content cost; 1 is as far as another photo.
A bundled style was trained on some 1,150 photos, in several trainings one after another (infer/styles/CREDITS.md)."""


def measured(stylizers: dict[str, Stylizer], loss: PerceptualLoss, targets, photos) -> list[list[str]]:
    """A row for each stylizer of a painting: what is said of it, style left and content."""
    _, _, untouched = costs_of(lambda photo: photo, loss, targets, photos).mean(0)
    costs = {said: costs_of(stylizer, loss, targets, photos).mean(0) for said, stylizer in stylizers.items()}
    return [[said, f"{style / untouched:.3f}", f"{content:.2f}"] for said, (_, content, style) in costs.items()]


def draw(paintings: list[dict[str, Stylizer]], output: Path):
    """Two photos that no training saw, and right of each, what each of a painting's stylizers makes of it."""
    rows = []
    for stylizers in paintings:
        for name in BUNDLED_HELD_OUT[:2]:
            photo = np.asarray(ImageOps.fit(Image.open(PHOTOS / name).convert("RGB"), (CELL, CELL)))
            rows.append(np.concatenate([photo, *(stylizer(photo) for stylizer in stylizers.values())], 1))
    with atomic(output) as part:
        Image.fromarray(np.concatenate(rows)).save(part, format="jpeg", quality=88)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", type=Path, nargs="+")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos that no training saw")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 20])
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where the trainings are kept, by their minutes"
    )
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too, with a picture beside it")
    arguments = parser.parse_args()
    photos = [read_photo(file, SIDE) for file in picture_files(arguments.photos)]
    rows, painted = [], []
    for painting in arguments.paintings:
        stylizers = {}
        for minutes in sorted(arguments.minutes):
            runs = arguments.runs / f"{minutes:g}"
            runs.mkdir(parents=True, exist_ok=True)
            stylizer = Stylizer(trained(painting, "live", runs, Settings(minutes=minutes)))
            stylizers[f"{minutes:g} minutes, {stylizer.card.settings['steps']} steps"] = stylizer
        loss, targets = training_loss(next(iter(stylizers.values())).card, painting)  # one unit of content for all
        if (bundled := BUNDLED / f"{painting.stem}.onnx").exists():
            stylizers["the bundled one"] = Stylizer(bundled)
        rows += [[painting.stem, *cells] for cells in measured(stylizers, loss, targets, photos)]
        painted.append(stylizers)
    stems = [painting.stem for painting in arguments.paintings]
    note, picture = NOTE.format(len(photos)), PAGE.parent / f"minutes_{'_'.join(stems)}.jpg"
    if arguments.write:
        draw(painted, picture)
        note += f"\n\n![two photos, and what each makes of them]({picture.name})\n\nFrom the left: the photo, then the table's rows."
    publish(f"What minutes buy: {', '.join(stems)}", f"{note}\n\n{table(HEAD, rows)}", arguments.write)


if __name__ == "__main__":
    main()
