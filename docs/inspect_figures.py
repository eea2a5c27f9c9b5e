"""The figures of inspect.md, by the commands that stand there.

uv run --extra train allaprima train examples/styles/starry_night.jpg -o starry.onnx --snapshots
uv run --extra train python docs/inspect_figures.py starry.onnx
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from allaprima.core.files import atomic

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PHOTOS = "train/photos"
WIDTH = 1100  # pixels of a figure at most
COMMANDS = {
    **{
        f"features-{layer}": f"features --layer {layer} --count 4"
        for layer in ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
    },
    "evolution": "evolution MODEL",
    "invariance": "invariance",
    "occlusion": f"occlusion {PHOTOS}/astronaut.jpg {PHOTOS}/chelsea.jpg {PHOTOS}/flower.jpg",
    "correspondence": "correspondence",
    "reconstruct": f"reconstruct {PHOTOS}/china.jpg examples/styles/starry_night.jpg",
    "loss": f"loss {PHOTOS}/astronaut.jpg -m starry_night",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="A model file with its .run folder beside it, trained with --snapshots.")
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS), metavar="FIGURE")
    parser.add_argument("--pages", help="A folder to keep the pages in.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.pages or scratch).resolve()
        for name in arguments.only:
            words = [str(Path(arguments.model).resolve()) if w == "MODEL" else w for w in COMMANDS[name].split()]
            page = folder / f"{name}.html"
            subprocess.run([sys.executable, "-m", "allaprima", "inspect", *words, "-o", page], cwd=ROOT, check=True)
            image = Image.open(page.with_suffix(".png")).convert("RGB")
            if image.width > WIDTH:
                height = round(image.height * WIDTH / image.width)
                image = image.resize((WIDTH, height), Image.Resampling.LANCZOS)
            with atomic(DOCS / "inspect" / f"{name}.jpg") as part:
                image.save(part, quality=75, optimize=True)


if __name__ == "__main__":
    main()
