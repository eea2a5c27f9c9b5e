"""How good a `live` style is after how long: trainings of several lengths, each with its own schedule, side by side.

    uv run --extra train python benchmarks/time_to_style.py painting.jpg --photos FOLDER --steps 1500 5000 --write

J is the mean over held-out photos of 384 px. The seconds are those of the training steps, as the model files have them;
what is there already, in the folder of --runs, is taken.
"""

import argparse
import json
from pathlib import Path

from page import publish, table
from quality import SIDE, costs_of, trained

from allaprima.baseline.compare import training_loss
from allaprima.baseline.optimizer import read_photo
from allaprima.infer.stylizer import Stylizer
from allaprima.train.photos import BUNDLED, Photos
from allaprima.train.settings import Settings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("style", type=Path)
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the bundled ones)")
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trainings are kept, by their steps")
    parser.add_argument("--held-out", type=int, default=20, help="photos to measure on (at most a tenth of all)")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    arguments = parser.parse_args()
    folder = str(arguments.photos) if arguments.photos else None
    names = Photos(folder, held_out=arguments.held_out).names
    photos = [read_photo((arguments.photos or BUNDLED) / name, SIDE) for name in names]
    found = []
    for steps in sorted(arguments.steps):
        runs = arguments.runs / str(steps)
        runs.mkdir(parents=True, exist_ok=True)
        settings = Settings(steps=steps, photos=folder, held_out=arguments.held_out)
        stylizer = Stylizer(trained(arguments.style, "live", runs, settings))
        loss, targets = training_loss(stylizer.metadata, arguments.style, None)
        seconds = json.loads(stylizer.metadata["losses"])["trained_seconds"]
        found.append((steps, seconds, *costs_of(stylizer, loss, targets, photos).mean(0)))
    longest = found[-1][2]
    rows = [[steps, f"{seconds:.0f}", f"{J:.3f}", f"{J / longest:.3f}", f"{content:.3f}", f"{style:.3f}"]
            for steps, seconds, J, content, style in found]
    head = ["steps", "seconds of training", "J", "of the longest's", "content", "style cost"]
    note = f"`live`, {arguments.style.stem}, means over {len(photos)} photos that were not trained on."
    publish("From a painting to a style", f"{note}\n\n{table(head, rows)}", arguments.write)


if __name__ == "__main__":
    main()
