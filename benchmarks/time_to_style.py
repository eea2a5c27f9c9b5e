"""How good a `live` style is after how long, from the pretrained start and from random weights, side by side.

    uv run --extra train python benchmarks/time_to_style.py wave.jpg --photos FOLDER --write

Trainings of several lengths, each with its own schedule. J is the mean over held-out photos of 384 px. The seconds are
those of the training steps, as the model files have them; what is there already, in the folder of --runs, is taken.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from page import PAGE, publish, table
from quality import SIDE, costs_of, trained

from allaprima.baseline.compare import training_loss
from allaprima.core.files import atomic
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import read_photo
from allaprima.train.photos import Photos
from allaprima.train.settings import BUNDLED, Settings, change

BETA = 2.5  # fixed, so that all have one J
HEAD = ["start", "steps", "seconds of training", "J", "of the longest's", "content", "style cost"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("style", type=Path, help="a painting that the pretrained start has not seen")
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the bundled ones)")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[100, 300, 1000, 2000, 3000], help="from the pretrained start"
    )
    parser.add_argument("--scratch", type=int, nargs="*", default=[300, 1000, 3000], help="steps from random weights")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trainings are kept, by their steps")
    parser.add_argument("--held-out", type=int, default=20, help="photos to measure on (at most a tenth of all)")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too, with a plot beside it")
    arguments = parser.parse_args()
    folder = str(arguments.photos) if arguments.photos else None
    names = Photos(folder, held_out=arguments.held_out).names
    photos = [read_photo((arguments.photos or BUNDLED) / name, SIDE) for name in names]
    wanted = [("scratch", steps) for steps in sorted(arguments.scratch)]
    wanted += [("pretrained", steps) for steps in sorted(arguments.steps)]
    found = []
    for start, steps in wanted:
        runs = arguments.runs / f"{start}-{steps}"
        runs.mkdir(parents=True, exist_ok=True)
        lengths = {"start": start, "steps": steps, "beta": BETA}
        settings = change(Settings(photos=folder, held_out=arguments.held_out), lengths)
        stylizer = Stylizer(trained(arguments.style, "live", runs, settings))
        loss, targets = training_loss(stylizer.card, arguments.style)
        seconds = stylizer.card.losses["trained_seconds"]
        found.append((start, steps, seconds, *costs_of(stylizer, loss, targets, photos).mean(0)))
    longest = max(found, key=lambda row: row[1])[3]
    rows = [
        [start, steps, f"{seconds:.0f}", f"{J:.3f}", f"{J / longest:.2f}", f"{content:.3f}", f"{style:.3f}"]
        for start, steps, seconds, J, content, style in found
    ]
    note = f"`live`, means over {len(photos)} photos that were not trained on."
    picture = PAGE.parent / f"time_to_{arguments.style.stem}.png"
    if arguments.write:
        plot(found, arguments.style.stem, picture)
        note += f"\n\n![J over seconds]({picture.name})"
    publish(f"From a painting to a style: {arguments.style.stem}", f"{note}\n\n{table(HEAD, rows)}", arguments.write)


def plot(found, name, output):
    """J over the seconds of training, a line for each start."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for start, label in (("scratch", "from random weights"), ("pretrained", "from the pretrained start")):
        points = [(row[2], row[3]) for row in found if row[0] == start]
        if points:
            axes.plot(*zip(*points), "o-", label=label)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="J on photos not trained on", title=name)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic(output) as part:
        figure.savefig(part, format="png", dpi=100)


if __name__ == "__main__":
    main()
