"""The bundled styles: trains them, measures them on photos that they did not see, and puts them into infer/styles.

    uv run --extra train python benchmarks/gallery.py PAINTINGS --photos FOLDER --write

PAINTINGS is a folder with `wave.jpg`, `udnie.jpg` ... (`benchmarks/gallery.py` lists them; those that are missing are
left out). A style that is in infer/styles is taken as it is: delete its file to train it anew; a training that was stopped
continues. The table is that of benchmarks/quality.py: J and its costs, the equivalent iteration, artifacts.
"""

import argparse
from pathlib import Path

from quality import SIDE, measured, show, trained

from allaprima.core.files import atomic, write_atomically
from allaprima.infer.library import BUNDLED as STYLES
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import read_photo, read_rgb
from allaprima.train.photos import Photos
from allaprima.train.settings import Settings

# name: (who and what, the part of the picture file that is the painting: left, top, right, bottom)
PAINTINGS = {
    "starry_night": ("Vincent van Gogh, The Starry Night, 1889", (0, 0, 1, 1)),
    "wave": ("Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831", (0.008, 0.012, 0.992, 0.985)),
    "the_scream": ("Edvard Munch, The Scream, 1893", (0, 0, 0.93, 1)),
    "udnie": ("Francis Picabia, Udnie, 1913", (0.02, 0.02, 0.97, 0.99)),
    "shipwreck": ("J. M. W. Turner, The Shipwreck of the Minotaur, c. 1810", (0, 0, 1, 1)),
    "contrast_of_forms": ("Fernand Léger, Contrast of Forms, 1913", (0, 0, 1, 1)),
    "mondrian": ("Piet Mondrian, a composition, c. 1913", (0.01, 0.01, 0.99, 0.99)),
    "delaunay_portrait": ("Robert Delaunay, a portrait, 1906", (0.01, 0.01, 0.99, 0.99)),
}
EXAMPLES = Path(__file__).parent.parent / "examples" / "styles"  # paintings that come with the project


def painting(name, folder: Path, runs: Path) -> Path | None:
    """The painting alone, as a file in `runs`: frames and margins are style too, as far as a Gram matrix can tell."""
    file = next((file for place in (EXAMPLES, folder) for file in sorted(place.glob(f"{name}.*"))), None)
    if file is None:
        return None
    target = runs / f"{name}.png"
    if not target.exists():
        image = read_rgb(file)
        left, top, right, bottom = PAINTINGS[name][1]
        cut = left * image.width, top * image.height, right * image.width, bottom * image.height
        with atomic(target) as part:
            image.crop(cut).save(part, format="png")
    return target


def bundle(style: Path, architecture, runs, settings, output: Path):
    """Train a style and put it into the package, with its painting where that comes with the project."""
    about = {"name": output.stem, "credit": f"{PAINTINGS[style.stem][0]} (public domain)", "licence": "MIT"}
    model = trained(style, architecture, runs, settings, painting=any(EXAMPLES.glob(f"{style.stem}.*")), **about)
    write_atomically(output, model.read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", type=Path)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trainings are kept")
    parser.add_argument("--styles", nargs="+", default=list(PAINTINGS))
    parser.add_argument("--architecture", default="live")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--measured", type=int, default=6, help="held-out photos to measure on")
    parser.add_argument("--iterations", type=int, default=20, help="of L-BFGS")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    arguments = parser.parse_args()
    settings = Settings(steps=arguments.steps, photos=str(arguments.photos), held_out=20)
    arguments.runs.mkdir(exist_ok=True)
    suffix = "" if arguments.architecture == "live" else f"_{arguments.architecture}"
    paintings = {
        name: file for name in arguments.styles if (file := painting(name, arguments.paintings, arguments.runs))
    }
    models = {name: STYLES / f"{name}{suffix}.onnx" for name in paintings}
    for name, model in models.items():
        if not model.exists():
            bundle(paintings[name], arguments.architecture, arguments.runs, settings, model)
    if arguments.train_only:
        return
    names = Photos(settings.photos, settings.size, settings.held_out).names[: arguments.measured]
    photos = [read_photo(arguments.photos / name, SIDE) for name in names]
    costs, marks = [], []
    for name, model in models.items():
        stylizer = Stylizer(model)
        cost, mark = measured({name: stylizer}, paintings[name], photos, arguments.iterations)
        card, made = stylizer.card, stylizer.card.settings
        beta, seconds = card.objective["beta"], card.losses["trained_seconds"]
        costs.append([name, made["start"], made["steps"], f"{beta:.1f}", f"{seconds:.0f}", *cost[0][1::2]])
        marks += mark
    head = ["style", "start", "steps", "beta", "trained, s", "J", "content", "style cost", "worth"]
    early = f"{settings.early_size * settings.size:.0f} px at first"
    note = f"`{arguments.architecture}`, one photo of {settings.size} px a step, of {early}."
    show(f"The gallery: {arguments.architecture}", note, head, costs, marks, len(photos), arguments)


if __name__ == "__main__":
    main()
