"""How the features of a style network come to be: the strongest activation of a map, projected, as training goes on.

Zeiler and Fergus 2013, figure 4 and section 4, "Feature Evolution during Training".

The projection is not by a deconvnet: a style network has no max pooling, so there are no switches, and without them a
deconvnet's projection hardly depends on the picture. It is guided backpropagation, which needs none (Springenberg et
al., *Striving for Simplicity: The All Convolutional Net*, 2014, section 3.4): the gradient of the activation with
respect to the photo, where each ReLU passes it back only where its input and the gradient are positive. It goes through
what a deconvnet has no counterpart for, normalization, skips, resizes and padding, as their plain gradient.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from allaprima.core.checks import check_path, check_seed, check_whole
from allaprima.core.contract import SMALLEST
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Task, ignore
from allaprima.insight.deconvnet import as_picture, check_layers, pixels
from allaprima.insight.features import check_usable, find_photos
from allaprima.insight.page import Row, Table
from allaprima.insight.sheet import check_page, drawn, enlarge, figure, grid, write, writing
from allaprima.media.pictures import read_photo
from allaprima.models.blocks import Conv, Merge, Residual, SeparableResidual
from allaprima.models.tensors import to_image, to_tensor
from allaprima.models.transformer import Transformer, transformer
from allaprima.train.checkpoint import read_checkpoint
from allaprima.train.settings import BUNDLED

FEATURES = (Conv, Residual, SeparableResidual, Merge)
CELL = 96  # pixels of a projection on the sheet
CROPS = (16, 32, 64, 128)  # sides of the part of a photo that is shown, pixels
HELD = 0.9  # part of a projection's energy that the shown part holds, where one of the sides is enough
SHOWN = 6  # layers at most, unless they are named


@dataclass
class Snapshot:
    """A style network, in evaluation mode, after `step` steps of a training."""

    step: int
    network: Transformer


@dataclass
class Strongest:
    """The strongest activation of a map: its value, the photo's number, its place (y, x) in the map."""

    value: float = -np.inf
    photo: int = 0
    y: int = 0
    x: int = 0


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.clamp_min(0) * (x > 0)


class GuidedGradients(TorchFunctionMode):
    """Within it, the backward of every ReLU is that of guided backpropagation."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (F.relu, torch.relu):
            return _Guided.apply(args[0])
        return function(*args, **(kwargs or {}))


def run_folder(run) -> Path:
    """The folder of a training: itself, or that beside its model file. Raises AllaprimaError when it is not there."""
    run = check_path("run", run)
    folder = run.with_suffix(".run") if run.suffix.lower() == ".onnx" else run
    if not os.path.isdir(folder):
        raise AllaprimaError(f"{folder} does not exist: give the .run folder or the model file of a training.")
    return folder


def read_snapshots(run) -> list[Snapshot]:
    """The snapshots of a training, first to last; `run` is its .run folder or its model file.

    What an earlier training with other settings or another painting left in the folder is passed over: only those that
    go with the last snapshot's. Raises AllaprimaError when there are none, or one can't be read.
    """
    folder = run_folder(run)
    files = sorted(folder.glob("snapshot-*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        raise AllaprimaError(f"{folder} has no snapshots: train with --snapshots.")
    read = [read_checkpoint(file) for file in files]
    try:
        kinds = [(replace(values["settings"], steps=1), values["style"]) for _, values in read]
        found = [
            _snapshot(tensors, values) for (tensors, values), kind in zip(read, kinds, strict=True) if kind == kinds[-1]
        ]
    except (KeyError, TypeError, RuntimeError) as error:
        raise AllaprimaError(f"The snapshots in {folder} are broken: delete them and train anew.") from error
    return sorted(found, key=lambda snapshot: snapshot.step)


def _snapshot(tensors, values):
    network = transformer(values["settings"].architecture)
    network.load_state_dict(tensors)
    return Snapshot(values["step"], network.eval().requires_grad_(False))


def feature_layers(network: Transformer) -> dict[str, nn.Module]:
    """The layers of a style network that have features, by name, in the order in which they run."""
    children = [
        (f"{name}.{number}", part) if isinstance(child, nn.Sequential) else (name, part)
        for name, child in network.named_children()
        for number, part in enumerate(child if isinstance(child, nn.Sequential) else [child])
    ]
    # the last convolution of some networks is the picture itself and not a feature
    return {
        name: part
        for name, part in children
        if isinstance(part, FEATURES) and not (isinstance(part, Conv) and not part.act)
    }


def activations(network: Transformer, picture: torch.Tensor, layers) -> dict[str, torch.Tensor]:
    """Features [1, C, h, w] of each of `layers` for a photo [1, 3, H, W], 0..1, and its picture as "stylized"."""
    taps, parts = {}, feature_layers(network)
    hooks = [
        parts[layer].register_forward_hook(lambda module, inputs, output, layer=layer: taps.update({layer: output}))
        for layer in layers
    ]
    try:
        taps["stylized"] = network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return taps


def guided_projection(network: Transformer, picture: torch.Tensor, layer: str, channel: int, y: int, x: int):
    """One activation down to the pixels of the photo [1, 3, H, W], 0..1, by guided backpropagation: float [3, H, W]."""
    leaf = picture.clone().requires_grad_()
    with GuidedGradients():
        activation = activations(network, leaf, [layer])[layer][0, channel, y, x]
    return torch.autograd.grad(activation, leaf)[0][0].numpy()


@torch.no_grad()
def follow(snapshots: list[Snapshot], layers, files, size, each=lambda count: None):
    """Look at every photo with every snapshot, one photo in memory at a time.

    Returns the Strongest of each snapshot, layer and map, [{layer: [C]}, ...]; the likeness of each snapshot's features to
    the last one's, {layer: [snapshots]}: their correlation over places and maps, each map around its mean, averaged over
    the photos; and {file: sentence} of the photos that are skipped, as they can't be read or are too small.
    """
    best, likeness = [{} for _ in snapshots], {layer: np.zeros(len(snapshots)) for layer in layers}
    skipped = {}
    for number, file in enumerate(files):
        try:
            picture = _picture(file, size)
        except AllaprimaError as error:
            skipped[file] = str(error)
            each(len(snapshots))
            continue
        last = activations(snapshots[-1].network, picture, layers)
        for index, snapshot in enumerate(snapshots):
            taps = activations(snapshot.network, picture, layers)
            for layer in layers:
                maps = taps[layer][0]
                values, places = maps.flatten(1).max(1)
                known = best[index].setdefault(layer, [Strongest() for _ in values])
                for channel, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                    if value > known[channel].value:
                        known[channel] = Strongest(value, number, *divmod(place, maps.shape[2]))
                # in float64: of the many numbers of a large map, float32 leaves a likeness to itself of 0.99998
                a, b = (t - t.mean((1, 2), keepdim=True) for t in (maps.double(), last[layer][0].double()))
                likeness[layer][index] += F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()
            each(1)
    seen = max(1, len(files) - len(skipped))
    return best, {layer: values / seen for layer, values in likeness.items()}, skipped


def _picture(file, size) -> torch.Tensor:
    """A photo for a style network. Raises AllaprimaError when it can't be read or is too small."""
    photo = read_photo(file, size)
    height, width = photo.shape[:2]
    if min(height, width) < SMALLEST:
        raise AllaprimaError(
            f"{file} of {width}x{height} is too small for a style network: give one of at least {SMALLEST}x{SMALLEST} pixels, "
            "or a larger --size."
        )
    return to_tensor(photo)


def evolution(
    run,
    photos=None,
    output="evolution.html",
    *,
    layers=None,
    count=2,
    size=256,
    seed=0,
    overwrite=False,
    listener: Listener = ignore,
) -> dict[str, np.ndarray]:
    """Write a page of how the features of a style network evolved: one row for a feature, one column for a snapshot.

    run: the .run folder, or the model file, of a training with snapshots. photos: a folder to search the strongest
    activations in; None for 15 of the bundled ones. layers: names; None for six at most, evenly from the first to the last.
    count: features of each layer, drawn with `seed`. size: long side in pixels that photos are scaled down to. output:
    as for `features`. Returns the likeness of `follow`.

    Photos that can't be read, or are too small, are skipped, and the listener is told. Raises AllaprimaError when there are
    no snapshots, no photos or no such layer.
    """
    check_whole(1, count=count)
    check_whole(SMALLEST, size=size)
    check_seed(seed)
    layers = check_layers("layers", layers or [], 0)
    files = find_photos(photos, least=1)
    output = check_page(output, files, overwrite, listener)
    snapshots = read_snapshots(run)
    known = list(feature_layers(snapshots[-1].network))
    for layer in layers:
        if layer not in known:
            raise AllaprimaError(f"The network has no layer {layer!r}. It has: {', '.join(known)}.")
    shown = layers or [known[n] for n in sorted(set(np.linspace(0, len(known) - 1, SHOWN).round().astype(int)))]
    many = f"{count} features of {len(shown)} layers in {len(snapshots)} snapshots over {len(files)} photos"
    task = Task(listener, "photos", len(files) * len(snapshots), "photos", writing(output, many))
    best, likeness, skipped = follow(snapshots, known, files, size, task.advance)
    check_usable(files, [*skipped.values()], 1, listener)
    seen = [file for file in files if file not in skipped]
    task = Task(listener, "features", count * len(shown))
    rows, random = [_stylized(snapshots, seen, size)], np.random.default_rng(seed)
    for layer in shown:
        alive = [n for n, hit in enumerate(best[-1][layer]) if hit.value > 0]
        for channel in sorted(random.permutation(alive)[:count].tolist()):
            rows.append(_row(snapshots, [of[layer][channel] for of in best], layer, channel, files, size))
            task.advance()
    steps = ", ".join(str(snapshot.step) for snapshot in snapshots)
    write(
        output,
        f"{Path(run).stem}: how its features came to be",
        [
            f"Snapshots after {steps} steps. Each row is one feature: each column shows its strongest activation at that "
            f"time over {len(seen)} photos, projected to pixels by guided backpropagation and scaled by itself; a jump "
            "means another photo. The last column shows the pixels that the last activation answers to.",
            Row([(grid(rows), "features, by layer")]),
            "Below, for each layer, how like its features are to those at the end: the correlation over places and maps.",
            Row([(_plot([snapshot.step for snapshot in snapshots], likeness), "likeness to the last snapshot")]),
            Table(["layer", *(f"{s.step} steps" for s in snapshots)], [[k, *v.tolist()] for k, v in likeness.items()]),
        ],
        listener,
    )
    return likeness


@torch.no_grad()
def _stylized(snapshots, files, size):
    """The first row: a photo as each snapshot paints it."""
    file = BUNDLED / "astronaut.jpg" if files[0].parent == BUNDLED else files[0]
    picture = _picture(file, size)
    cells = [(enlarge(to_image(s.network(picture)), CELL), f"{s.step} steps") for s in snapshots]
    return [(None, "stylized"), *cells, (enlarge(to_image(picture), CELL), "photo")]


def _row(snapshots, hits, layer, channel, files, size):
    projections = []
    for snapshot, hit in zip(snapshots, hits, strict=True):
        picture = _picture(files[hit.photo], size)
        projections.append(guided_projection(snapshot.network, picture, layer, channel, hit.y, hit.x))
    side = _side(projections[-1])
    cells = [(enlarge(as_picture(_crop(p, p, side)), CELL), "") for p in projections]
    patch = _crop(picture[0].numpy(), projections[-1], side)
    return [(None, f"{layer}\nmap {channel}\n{side} px"), *cells, (enlarge(pixels(patch), CELL), "")]


def _centre(projection):
    """The place (y, x) of a projection's strongest 5x5 pixels."""
    energy = torch.from_numpy(np.square(projection).sum(0))[None, None]
    place = F.avg_pool2d(energy, 5, 1, 2)[0, 0].argmax().item()
    return divmod(place, projection.shape[2])


def _crop(picture, projection, side):
    """The square of `side` pixels of a picture [3, H, W] around the centre of a projection; NaN outside of it."""
    (y, x), half = _centre(projection), side // 2
    padded = np.pad(picture, ((0, 0), (half, half), (half, half)), constant_values=np.nan)
    return padded[:, y : y + side, x : x + side]


def _side(projection):
    whole = np.square(projection).sum()
    return next((s for s in CROPS if np.nansum(np.square(_crop(projection, projection, s))) >= HELD * whole), CROPS[-1])


def _plot(steps, likeness):
    drawing = figure(1000, 420)
    ax = drawing.subplots()
    colours = np.linspace(0, 0.95, len(likeness))  # from the first layer, dark, to the last, light
    for (layer, values), colour in zip(likeness.items(), colours, strict=True):
        ax.plot(steps, values, marker=".", label=layer, color=colormaps["viridis"](colour))
    ax.set_xlabel("steps")
    ax.set_ylabel("correlation with the last snapshot")
    ax.grid(alpha=0.3)
    drawing.legend(loc="outside right center")
    return drawn(drawing)
