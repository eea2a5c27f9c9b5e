"""The top nine activations of feature maps, projected to pixels, beside the patches that caused them.

Zeiler and Fergus 2013, figure 2 and section 4.
"""

import heapq
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from allaprima.core.checks import check_kind, check_path, check_seed, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Task, Warned, ignore
from allaprima.insight.deconvnet import Deconvnet, Field, as_picture, check_picture, only, pixels, receptive_field
from allaprima.insight.page import Row
from allaprima.insight.sheet import check_page, enlarge, grid, write, writing
from allaprima.media.pictures import picture_files, read_photo
from allaprima.models.loss_network import LossNetwork
from allaprima.models.tensors import to_tensor
from allaprima.train.settings import BUNDLED

TOP = 9
CELL = 120  # pixels of a patch on the sheet


class Hit(NamedTuple):
    """A photo's strongest activation of a feature map: its value, and its place in the map."""

    value: float
    photo: Path
    y: int
    x: int


def find_photos(folder, least=TOP) -> list[Path]:
    """The picture files of a folder, nested too; for None the bundled photos but those that are there to train on alone.

    Raises AllaprimaError when it is not a folder or has fewer than `least`.
    """
    if folder is None:
        return sorted(BUNDLED.glob("*.jpg"))
    folder = check_path("photos", folder)
    if not os.path.isdir(folder):
        raise AllaprimaError(f"{folder} is not a folder: give a folder with at least {least} photos.")
    files = picture_files(folder)
    if len(files) < least:
        raise AllaprimaError(f"{folder} has {len(files)} photos: give a folder with at least {least}.")
    return files


def check_usable(files, skipped: list[str], least: int, listener: Listener) -> None:
    """Tell that some of the photos `files` are skipped, for the reasons given.

    Raises AllaprimaError when fewer than `least` are left.
    """
    left = len(files) - len(skipped)
    if left < least:
        raise AllaprimaError(f"{left} of {len(files)} photos can be used, and it takes at least {least}: {skipped[0]}")
    if skipped:
        listener(Warned(f"{len(skipped)} files are skipped; the first: {skipped[0]}"))


@torch.no_grad()
def top_activations(network: LossNetwork, layer: str, files, size=512, each=lambda: None) -> tuple[list, list]:
    """The nine strongest activations of every map of a layer, each in another photo: [C] lists of Hit, best first.

    files: paths of photos, read one after another and scaled down to a long side of `size` pixels, so that a folder of
    any size needs the memory of one photo. Activations of 0 or less are left out, so a list can be shorter. Photos that
    can't be read, or are smaller than the layer's receptive field, are skipped; their error sentences are returned
    second. each: called after every photo.
    """
    heaps, skipped = None, []
    for number, file in enumerate(files):
        try:
            photo = read_photo(file, size)
            check_picture(network, layer, photo.shape[:2], file)
        except AllaprimaError as error:
            skipped.append(str(error))
            each()
            continue
        maps = network(to_tensor(photo), [layer])[layer][0]
        values, places = maps.flatten(1).max(1)
        heaps = heaps or [[] for _ in values]
        for heap, value, place in zip(heaps, values.tolist(), places.tolist(), strict=True):
            if value > 0:
                # the photo's number decides between equal values, for the earlier photo
                entry = value, -number, Hit(value, file, *divmod(place, maps.shape[2]))
                heapq.heappush(heap, entry) if len(heap) < TOP else heapq.heappushpop(heap, entry)
        each()
    return [[hit for _, _, hit in sorted(heap, reverse=True)] for heap in heaps or []], skipped


def explain(deconvnet: Deconvnet, layer: str, channel: int, hit: Hit, size=512) -> tuple[np.ndarray, np.ndarray]:
    """What a Hit answers to: its projection, and the patch of the photo in its receptive field; the same pixels.

    Both are float [3, s, s] with s the receptive field's size, NaN outside of the photo; the projection is as
    `Deconvnet.project` gives it, the patch RGB 0..1. size: as for `top_activations`.

    Only the receptive field is computed again: cut where poolings begin a window, it has the same activation there.
    """
    field = receptive_field(deconvnet.network, layer)
    photo = to_tensor(read_photo(hit.photo, size))
    (top, bottom, y), (left, right, x) = (
        _cut(field, place, side) for place, side in zip((hit.y, hit.x), photo.shape[-2:], strict=True)
    )
    crop = photo[..., top:bottom, left:right]
    activations, switches = deconvnet.forward(crop, layer)
    projection = deconvnet.project(only(activations, channel, y, x), layer, switches)
    first = field.start + hit.y * field.stride - top, field.start + hit.x * field.stride - left
    return _window(projection[0], *first, field.size), _window(crop[0], *first, field.size)


def _cut(field: Field, place, side):
    """First and last pixel of a piece that holds the receptive field of `place`, and that place in the piece."""
    first = field.start + place * field.stride
    begin = max(0, first // field.stride * field.stride)
    # to the next window of the poolings, so that even the smallest field is deep enough to be pooled
    end = -(-(first + field.size) // field.stride) * field.stride
    return begin, min(side, end), place - begin // field.stride


def _window(picture, top, left, size):
    """The square of `size` pixels from (top, left), which may lie outside; there it is NaN."""
    window = np.full((3, size, size), np.nan, np.float32)
    piece = picture[:, max(top, 0) : top + size, max(left, 0) : left + size].float().cpu().numpy()
    y, x = max(-top, 0), max(-left, 0)
    window[:, y : y + piece.shape[1], x : x + piece.shape[2]] = piece
    return window


def features(
    photos=None,
    layer="relu3_3",
    output="features.html",
    *,
    maps=None,
    count=8,
    size=512,
    seed=0,
    network: LossNetwork | None = None,
    overwrite=False,
    listener: Listener = ignore,
) -> dict[int, list[Hit]]:
    """Write a page of feature maps of `layer`: top nine activations over a folder, projected, beside their patches.

    photos: a folder of nine photos or more, None for 15 of the bundled ones. maps: numbers of feature maps; None draws
    `count` of those that at least nine photos excite, with `seed`. size: long side in pixels that photos are scaled
    down to. output: the page, .html; the sheet (.png) lies beside it. overwrite: replace files that allaprima did not
    make. Returns the hits of each map, best first.

    Raises AllaprimaError for an unknown layer or map, and for fewer than nine photos that can be used.
    """
    check_whole(1, count=count, size=size)
    check_seed(seed)
    check_kind(LossNetwork, network=network)
    network = network or LossNetwork()
    deconvnet = Deconvnet(network)
    field = receptive_field(network, layer)
    files = find_photos(photos)
    output = check_page(output, files, overwrite, listener)
    channels = network.channels(layer)
    maps = maps if isinstance(maps, list | tuple | None) else [maps]
    wrong = [number for number in maps or [] if not (isinstance(number, int) and 0 <= number < channels)]
    if wrong:
        raise AllaprimaError(f"maps must be numbers from 0 to {channels - 1} for {layer}, not {wrong[0]!r}.")
    many = f"the top nine activations of {len(maps or []) or count} maps of {layer} over {len(files)} photos"
    task = Task(listener, "photos", len(files), "photos", writing(output, many))
    hits, skipped = top_activations(network, layer, files, size, task.advance)
    check_usable(files, skipped, TOP, listener)
    excited = [number for number, found in enumerate(hits) if len(found) == TOP]
    if not maps:
        maps = sorted(np.random.default_rng(seed).permutation(excited)[:count].tolist())
    if not maps:
        raise AllaprimaError(f"Not one map of {layer} is excited by nine of the photos: give other photos, or maps.")
    chosen = {number: hits[number] for number in maps}
    task = Task(listener, "projections", sum(map(len, chosen.values())))
    blocks = [_block(deconvnet, layer, number, found, size, task.advance) for number, found in chosen.items()]
    sheet = grid([blocks[n : n + 2] for n in range(0, len(blocks), 2)], pad=16)
    write(
        output,
        f"{layer}: what its feature maps answer to",
        [
            f"For each feature map of {layer} ({network.name}): the nine photos, of {len(files)}, with its strongest "
            "activations. Left: each activation alone, projected down to pixels by the deconvnet and scaled by itself; grey "
            "is zero. Right: the pixels that it sees. The strongest comes first, row by row.",
            f"The receptive field is {field.size}x{field.size} pixels, in steps of {field.stride}; white lies outside the "
            f"photo. Photos have a long side of at most {size} pixels. {len(excited)} of the {channels} maps are excited "
            "by nine photos or more.",
            Row([(sheet, f"{len(chosen)} maps of {layer}")]),
        ],
        listener,
    )
    return chosen


def _block(deconvnet, layer, number, hits, size, each):
    """A cell for `grid`: three rows of three projections, and of three patches."""
    pairs = []
    for hit in hits:
        projection, patch = explain(deconvnet, layer, number, hit, size)
        pairs.append([enlarge(picture, CELL) for picture in (as_picture(projection), pixels(patch))])
        each()
    while len(pairs) < TOP:
        pairs.append([np.full((CELL, CELL, 3), 255, np.uint8)] * 2)
    halves = [
        grid([[(pair[half], "") for pair in pairs[row : row + 3]] for row in (0, 3, 6)], pad=2) for half in (0, 1)
    ]
    strength = f"{hits[0].value:.3g} to {hits[-1].value:.3g}" if hits else "never active"
    return grid([[(half, "") for half in halves]], pad=2), f"map {number}: activations {strength}"
