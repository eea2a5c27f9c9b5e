"""Do the layers know that an eye is an eye? The same part hidden in several pictures, against random places.

Zeiler and Fergus 2013, section 4.3, "Correspondence Analysis", and table 1.
"""

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from allaprima.core.checks import check_kind, check_path, check_seed, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Task, ignore
from allaprima.insight.deconvnet import check_layers, check_picture
from allaprima.insight.occlusion import occluded
from allaprima.insight.page import Row, Table
from allaprima.insight.sheet import check_page, drawn, enlarge, figure, grid, write, writing
from allaprima.media.pictures import read_photo
from allaprima.models.loss_network import LossNetwork
from allaprima.models.tensors import to_image, to_tensor
from allaprima.train.settings import BUNDLED

# The four faces of the bundled photos; left and right as one sees them, (x, y) in pixels of the file.
FACES = [
    {"photo": BUNDLED / name, "parts": {"left eye": left, "right eye": right, "nose": nose}}
    for name, left, right, nose in (
        ("astronaut.jpg", (203, 101), (246, 103), (222, 128)),
        ("chelsea.jpg", (171, 112), (315, 135), (265, 240)),
        ("friends.jpg", (201, 215), (237, 217), (229, 250)),
        ("friends.jpg", (275, 381), (308, 384), (292, 421)),
    )
]
LAYERS = ("relu3_3", "relu4_3", "relu5_3")
SIDE = 3.4  # of a window, in root mean square distances of the parts from their middle
REACH = 0.35  # of the window's side: how far from its middle a random place lies at most
ELSEWHERE, ANYWHERE = "elsewhere in each", "the same place in all"


@dataclass
class Face:
    """A window of a photo, float [1, 3, window, window], 0..1, and the parts in it, (y, x) in its pixels."""

    name: str
    window: torch.Tensor
    parts: dict[str, tuple[float, float]]


def load_parts(file) -> list[dict]:
    """Part positions from a JSON file: [{"photo": path, "parts": {name: [x, y], ...}}, ...].

    Paths are relative to the file; x, y are pixels of the photo. Raises AllaprimaError for anything else.
    """
    example = 'write it as [{"photo": "a.jpg", "parts": {"left eye": [203, 101], "nose": [222, 128]}}, ...]'
    file = check_path("parts", file)
    try:
        entries = [
            {
                "photo": file.parent / entry["photo"],
                "parts": {name: (float(x), float(y)) for name, (x, y) in entry["parts"].items()},
            }
            for entry in json.loads(file.read_text())
        ]
    except FileNotFoundError as error:
        raise AllaprimaError(f"{file} does not exist: check the spelling of --parts.") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AllaprimaError(f"{file} is not a list of parts: {example}.") from error
    names = [set(entry["parts"]) for entry in entries]
    if len(entries) < 2 or len(names[0]) < 2 or any(others != names[0] for others in names):
        raise AllaprimaError(
            f"{file} must have at least two photos, with at least two parts, the same in each: {example}."
        )
    for entry in entries:  # in one order: parts are compared by their places in it
        entry["parts"] = {name: entry["parts"][name] for name in entries[0]["parts"]}
    return entries


def align(entry, window: int) -> Face:
    """The square around the parts of one photo, SIDE times as large as they are spread, scaled to `window` pixels.

    So the parts of all photos lie at about the same places, as in the paper's frontal faces. It is shifted into the
    photo where it would reach beyond. Raises AllaprimaError when the photo is too small for it.
    """
    image = Image.fromarray(read_photo(entry["photo"], 10**6))
    places = np.array(list(entry["parts"].values()), float)
    middle = places.mean(0)
    side = SIDE * np.sqrt(((places - middle) ** 2).sum(1).mean())
    if not 0 < side <= min(image.size) or (places < 0).any() or (places >= image.size).any():
        raise AllaprimaError(
            f"The parts in {entry['photo']} ({image.width}x{image.height}) lie outside the photo, too far apart, or all in "
            "one place: give a photo with more around them, and write x before y."
        )
    corner = np.clip(middle - side / 2, 0, np.array(image.size) - side)
    cut = image.resize((window, window), Image.Resampling.BICUBIC, box=(*corner, *(corner + side)))
    parts = {name: tuple((np.array(place) - corner)[::-1] * window / side) for name, place in entry["parts"].items()}
    return Face(Path(entry["photo"]).name, to_tensor(cut), parts)


@torch.no_grad()
def changes(network: LossNetwork, layers, face: Face, places, square: int) -> dict[str, list[torch.Tensor]]:
    """The sign of the change of each feature, a - a with a square at (y, x), int8 [C, h, w], for each of `places`."""
    whole = network(face.window, layers)
    hidden = [network(occluded(face.window, y, x, square), layers) for y, x in places]
    return {layer: [(whole[layer] - one[layer])[0].sign().to(torch.int8) for one in hidden] for layer in layers}


def disagreement(signs) -> float:
    """Delta of table 1 of sign vectors, one of each picture: the mean over pairs of the part of features that differ.

    The paper sums Hamming distances over pairs; a mean of parts, 0..1, can be compared between layers.
    """
    return float(np.mean([(a != b).float().mean().item() for a, b in combinations(signs, 2)]))


def scores(network, layers, faces, *, square, draws, seed=0, each=lambda: None) -> dict[str, dict[str, list[float]]]:
    """Delta for each layer and each part (one value), and for `draws` random places of two kinds.

    ELSEWHERE: another random place in each picture, the paper's control. ANYWHERE: one random place in all of them,
    which alone tells whether it is the part that corresponds, and not the place in the window.
    """
    window = faces[0].window.shape[-1]
    random = np.random.default_rng(seed)

    def place():
        return tuple(window * (0.5 + random.uniform(-REACH, REACH, 2)))

    shared = [place() for _ in range(draws)]
    signs = []
    for face in faces:
        own = [place() for _ in range(draws)]
        signs.append(changes(network, layers, face, [*face.parts.values(), *shared, *own], square))
        each()
    names = [*faces[0].parts, *[ANYWHERE] * draws, *[ELSEWHERE] * draws]
    result = {layer: {} for layer in layers}
    for layer in layers:
        for number, name in enumerate(names):
            value = disagreement([one[layer][number] for one in signs])
            result[layer].setdefault(name, []).append(value)
    return result


def correspondence(
    parts=None,
    layers=LAYERS,
    output="correspondence.html",
    *,
    window=224,
    square=48,
    draws=20,
    seed=0,
    network: LossNetwork | None = None,
    overwrite=False,
    listener: Listener = ignore,
) -> dict[str, dict[str, list[float]]]:
    """Write a page of the correspondence measure: the same part hidden in several pictures, against random places.

    parts: a file as for `load_parts`; None for the four faces in the bundled photos. window: pixels to which each face
    is scaled. square: pixels of the grey square in it. draws: random places of each kind. output: as for `features`.
    Returns what `scores` does. Raises AllaprimaError for an unknown layer and for parts that can't be used.
    """
    check_whole(1, window=window, square=square)
    check_whole(2, draws=draws)
    check_seed(seed)
    check_kind(LossNetwork, network=network)
    network, layers = network or LossNetwork(), check_layers("layers", layers)
    for layer in layers:
        check_picture(network, layer, (window, window), "The window")
    entries = FACES if parts is None else load_parts(parts)
    faces = [align(entry, window) for entry in entries]
    names = list(faces[0].parts)
    files = [entry["photo"] for entry in entries]
    output = check_page(output, files if parts is None else [*files, parts], overwrite, listener)
    many = f"{', '.join(names)} hidden in {len(faces)} pictures, against {draws} random places"
    task = Task(listener, "pictures", len(faces), "pictures", writing(output, many))
    found = scores(network, layers, faces, square=square, draws=draws, seed=seed, each=task.advance)
    head = ["layer", *names, f"random, {ANYWHERE}", f"random, {ELSEWHERE}"]
    rows = [
        [layer, *(by_name[name][0] for name in names), *(_spread(by_name[name]) for name in (ANYWHERE, ELSEWHERE))]
        for layer, by_name in found.items()
    ]
    write(
        output,
        "Does a layer know the parts of a face?",
        [
            f"A grey square of {square} pixels hides the same part in {len(faces)} pictures of {window}x{window}. Delta is "
            "the part of a layer's features, place by place, whose change has another sign in one picture than in another; "
            "the lower it is, the more alike the pictures change. Random places: mean and standard deviation of "
            f"{draws} draws.",
            Row([(_faces(faces, square), "the windows, and the hidden parts")]),
            Table(head, rows),
            Row([(_plot(found, names), "Delta by layer; the bars of the random places show a standard deviation.")]),
        ],
        listener,
    )
    return found


def _spread(values):
    return f"{np.mean(values):.4f} ± {np.std(values):.4f}"


def _faces(faces, square):
    rows = []
    for face in faces:
        pictures = [face.window, *(occluded(face.window, y, x, square) for y, x in face.parts.values())]
        rows.append(
            [(enlarge(to_image(p), 160), name) for p, name in zip(pictures, [face.name, *face.parts], strict=True)]
        )
    return grid(rows)


def _plot(found, names):
    drawing = figure(900, 420)
    ax = drawing.subplots()
    bars = [*names, ANYWHERE, ELSEWHERE]
    width = 0.8 / len(bars)
    for number, name in enumerate(bars):
        values = [by_name[name] for by_name in found.values()]
        places = np.arange(len(found)) + (number - len(bars) / 2 + 0.5) * width
        if name in names:
            look = {"label": name, "color": f"C{number}"}
        else:
            grey = "0.75" if name == ANYWHERE else "0.5"
            look = {"label": f"random, {name}", "color": grey, "yerr": [np.std(v) for v in values], "capsize": 3}
        ax.bar(places, [np.mean(v) for v in values], width, **look)
    ax.set_xticks(range(len(found)), found)
    ax.set_ylabel("Delta: features that change differently")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return drawn(drawing)
