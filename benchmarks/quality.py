"""The pictures: networks trained alike, measured on photos that none of them saw, against each other and the optimizer.

    uv run --extra train python benchmarks/quality.py wave.jpg examples/styles/starry_night.jpg --photos FOLDER --write

For every painting it trains `johnson`, `live` and `best` on the same photos, with the same weights (beta 5), for the same
number of steps (what is there already, in the folder of --runs, is taken; a training that was stopped continues), and
then measures on held-out photos of 384 px: J and its two costs, the equivalent iteration of L-BFGS (strong Wolfe,
history 20, from the photo), and the artifacts of tests/artifacts.py.
"""

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from page import publish, table  # noqa: E402

import artifacts  # noqa: E402
from allaprima.baseline.compare import training_loss  # noqa: E402
from allaprima.baseline.optimizer import Descent, descend  # noqa: E402
from allaprima.commands.terminal import Terminal  # noqa: E402
from allaprima.infer.stylizer import Stylizer  # noqa: E402
from allaprima.media.pictures import read_photo  # noqa: E402
from allaprima.models.tensors import to_tensor  # noqa: E402
from allaprima.train.checkpoint import checkpoint_of, saved_settings  # noqa: E402
from allaprima.train.photos import Photos  # noqa: E402
from allaprima.train.run import train_style  # noqa: E402
from allaprima.train.settings import (  # noqa: E402
    BUNDLED,
    Settings,
    change,
)

NETWORKS = ("johnson", "live", "best")
BETA = 5.0  # fixed, so that all have one J; with more style to make, networks differ more
SIDE = 384
ARTIFACTS = """Artifacts, medians over the same photos. Grid: the power at a period, divided by that of its neighbourhood (1: no grid).
Border: the outer 16 px against the 32 px further in, as a difference in grey levels and a ratio of standard deviations.
Dots: pixels in a million that stand out from all their neighbours. Boil: the change of a flat place with camera noise
from frame to frame, divided by that of the noise itself."""


def trained(style, architecture, runs, settings, **about) -> Path:
    """The model file of a painting and a network, trained if it is not there. about: as of `train_style`."""
    output = runs / f"{style.stem}-{architecture}.onnx"
    settings = change(settings, {"architecture": architecture})
    if not output.exists() or saved_settings(output) != settings:
        with Terminal() as listener:
            train_style(
                style,
                output,
                settings,
                resume=checkpoint_of(output).exists(),
                overwrite=True,
                listener=listener,
                **about,
            )
    return output


def optimizer_curves(loss, targets, photos, iterations) -> list[list[float]]:
    """J of L-BFGS after each iteration, for every photo."""
    descent = Descent(iterations=iterations)
    curves = []
    for photo in photos:
        start = to_tensor(photo).to(loss.network.mean.device)
        curves.append([step.J for step, _ in descend(loss, start, loss.content_targets(start), targets, descent)])
    return curves


@torch.no_grad()
def costs_of(stylizer, loss, targets, photos) -> np.ndarray:
    """[photos, 3]: J, content and style cost of the network's pictures."""
    rows = []
    for photo in photos:
        pair = [to_tensor(picture).to(loss.network.mean.device) for picture in (photo, stylizer(photo))]
        costs = loss(pair[1], loss.content_targets(pair[0]), targets)
        rows.append([costs.J.item(), costs.content.item(), costs.style.item()])
    return np.array(rows)


def equivalent(curve, J) -> int:
    """The first iteration whose J is at or below J; the number of iterations when none is."""
    return next((k for k, value in enumerate(curve) if value <= J), len(curve))


def artifact_cells(stylizer, photos) -> list[str]:
    pictures = [stylizer(photo) for photo in photos]
    grids = [artifacts.grid(picture) for picture in pictures]
    levels, deviations = zip(*(artifacts.border(picture) for picture in pictures))
    return [
        *(f"{statistics.median(grid[period] for grid in grids):.2f}" for period in (2, 4, 8)),
        f"{statistics.median(levels):+.1f}",
        f"{statistics.median(deviations):.2f}",
        f"{statistics.mean(map(artifacts.dots, pictures)):.1f}",
        f"{statistics.median(artifacts.boil(stylizer, photo) for photo in photos):.1f}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("styles", nargs="+", type=Path, help="pictures of paintings")
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the bundled ones)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trainings are kept")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--held-out", type=int, default=20, help="photos to measure on (at most a tenth of all)")
    parser.add_argument("--iterations", type=int, default=40, help="of L-BFGS")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    arguments = parser.parse_args()
    folder = str(arguments.photos) if arguments.photos else None
    settings = Settings(
        start="scratch",
        steps=arguments.steps,
        early_size=1.0,
        beta=BETA,
        stylization=0.0,
        photos=folder,
        held_out=arguments.held_out,
    )
    arguments.runs.mkdir(exist_ok=True)
    models = {
        (style, name): trained(style, name, arguments.runs, settings)
        for style in arguments.styles
        for name in arguments.networks
    }
    if arguments.train_only:
        return
    names = Photos(folder, settings.size, settings.held_out).names
    photos = [read_photo((arguments.photos or BUNDLED) / name, SIDE) for name in names]
    for style in arguments.styles:
        stylizers = {name: Stylizer(models[style, name]) for name in arguments.networks}
        costs, marks = measured(stylizers, style, photos, arguments.iterations)
        first = arguments.networks[0]
        head = ["network", "J", f"of {first}", "content", f"of {first}", "style cost", f"of {first}", "worth"]
        note = f"{settings.steps} steps, each of one photo of {settings.size} px."
        show(f"Trained alike: {style.stem}", note, head, costs, marks, len(photos), arguments)


def show(title, note, head, costs, marks, photos, arguments):
    """Publish the two tables of `measured`; the first column of both is named by `head[0]`."""
    note += (
        f" Means over {photos} photos that were not trained on, {SIDE} px. Worth: the median equivalent iteration "
        f"of L-BFGS (at most {arguments.iterations})."
    )
    marked = [head[0], "grid 2 px", "4 px", "8 px", "border", "deviation", "dots", "boil"]
    publish(title, f"{note}\n\n{table(head, costs)}\n\n{ARTIFACTS}\n\n{table(marked, marks)}", arguments.write)


def measured(stylizers, style, photos, iterations):
    """The rows of the two tables, a row for each of `stylizers`, by name; the first is what the others are compared to."""
    loss, targets = training_loss(next(iter(stylizers.values())).card, style)
    curves = optimizer_curves(loss, targets, photos, iterations)
    costs, marks, first = [], [], None
    for name, stylizer in stylizers.items():
        found = costs_of(stylizer, loss, targets, photos)
        mean = found.mean(0)
        first = mean if first is None else first
        worth = statistics.median(map(equivalent, curves, found[:, 0]))
        cells = [cell for value, ratio in zip(mean, mean / first) for cell in (f"{value:.3f}", f"{ratio:.2f}")]
        costs.append([name, *cells, f"{worth:g}"])
        marks.append([name, *artifact_cells(stylizer, photos)])
    return costs, marks


if __name__ == "__main__":
    main()
