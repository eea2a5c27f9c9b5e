"""Make the bundled start of a network, as train/pretrain.py describes it; it takes a GPU, or a night.

uv run --extra train python benchmarks/make_start.py PAINTING... --photos FOLDER -o models/weights/live.safetensors
"""

import argparse
from pathlib import Path

from allaprima.commands.terminal import Terminal
from allaprima.train.pretrain import SETTINGS, pretrain
from allaprima.train.settings import Settings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", type=Path, nargs="+")
    parser.add_argument("--photos", help="folder of photos (default: the bundled ones)")
    parser.add_argument("--architecture", default="live")
    parser.add_argument("--steps", type=int, default=SETTINGS["steps"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    chosen = SETTINGS | {"architecture": given.architecture, "photos": given.photos, "steps": given.steps}
    with Terminal() as listener:
        pretrain(given.paintings, given.output, Settings(**chosen), listener=listener)


if __name__ == "__main__":
    main()
