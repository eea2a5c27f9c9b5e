"""The Paint page as files: what any web host can serve, and what the studio serves on this machine."""

import base64
import json
import os
import shutil
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from allaprima.core.checks import check_path
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Warned, Wrote, ignore, passing
from allaprima.core.files import atomic_folder
from allaprima.infer.library import changed, find_style, live_styles
from allaprima.infer.modelcheck import read_model
from allaprima.infer.modelfile import for_browsers, read_card

WEB = Path(__file__).parent / "web"
EXAMPLE = Path(str(files("allaprima.train") / "photos" / "astronaut.jpg"))  # what the page shows first
MARK = "allaprima-site.json"  # tells a folder of ours from a stranger's, and in it our files from others


def export_web(models, output, *, listener: Listener = ignore) -> Path:
    """Write the Paint page with these styles into the folder `output`, whole or not at all, for any web host to serve.

    models: names of styles or paths of model files; all styles for a camera when None. A page that an earlier export
    wrote is replaced, and the listener told; what else is in its folder stays. Raises AllaprimaError when a style can't
    be read, or the folder can't be written or is another's.
    """
    output = check_path("output", output)
    folder = Path(os.path.realpath(output))  # where a link leads to
    if os.path.lexists(folder):
        if not os.path.isfile(folder / MARK):
            raise AllaprimaError(f"{output} already exists. Give a folder that does not exist yet.")
        listener(Warned(f"The page in {output} will be replaced, an earlier one of allaprima; other files there stay."))
    chosen = [find_style(model) for model in models] if models else [style.path for style in live_styles()]
    twice = next((path for path in chosen if sum(path.name == other.name for other in chosen) > 1), None)
    if twice:
        raise AllaprimaError(f"Two styles have the file name {twice.name}: rename one of the files.")
    listener(Started("styles", len(chosen), "styles", f"Writing the page with {len(chosen)} styles into {output}."))
    with passing(listener) as told, atomic_folder(folder, MARK) as site:
        _write_site(site, chosen, told)
    listener(Wrote(output, f"{len(chosen)} styles; serve the folder over https:// or on localhost"))
    return output


def _write_site(site, paths, listener):
    for file in filter(Path.is_file, WEB.rglob("*")):  # copytree would tell of all that fails at once
        target = site / file.relative_to(WEB)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    shutil.copyfile(EXAMPLE, site / "example.jpg")
    (site / "styles").mkdir()
    entries = []
    for number, path in enumerate(paths, 1):
        entries.append(entry(path))
        (site / "styles" / path.name).write_bytes(for_browsers(read_model(path)))
        listener(Advanced("styles", number, note=entries[-1]["name"]))
    (site / "styles.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")


def entry(path) -> dict:
    """What the page shows of a style: its name, the URL of its file, its thumbnail as a data URL, credit and licence.

    Raises AllaprimaError for a file that can't be read, and for one of format 1, whose `strength` browsers don't know.
    """
    return _entry(path, changed(path))


@lru_cache(maxsize=256)
def _entry(path, changed):  # a page load must not open every model anew
    card = read_card(read_model(path), path)
    if card.format < 2:
        raise AllaprimaError(f"{path} is a model file of format 1, which browsers can't run: train the style again.")
    return {
        "name": card.name or path.stem,
        "file": f"styles/{quote(path.name)}",
        "thumbnail": f"data:image/jpeg;base64,{base64.b64encode(card.thumbnail).decode()}",
        "credit": card.credit,
        "licence": card.licence,
    }
