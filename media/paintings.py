"""What a picture lacks as a painting to learn from: seen before a training, which would take minutes to show it."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageStat

BLANK = 8  # grey levels: a painting whose colours all stay within so many is a single colour
LOOKED_AT = 256  # px, long side at which borders are looked for
OUTER = 0.2  # part of a side in which a frame's inner edge lies
STEP = 12  # grey levels between frame and canvas, along the whole edge
ONE_WAY = 0.9  # part of an edge's contrast that has one sign: a brush stroke's edge is neither so straight nor so long
FLAT = 3  # grey levels, standard deviation along a row of a margin


def faults(painting: Image.Image, style_size: int) -> Iterator[str]:
    """A sentence for each thing about a painting that makes a worse style of it. style_size: the training's, in pixels."""
    width, height = painting.size
    if all(high - low < BLANK for low, high in ImageStat.Stat(painting).extrema):
        yield "The painting is a single colour: pictures will take on that colour, and there are no strokes to learn."
        return
    if max(width, height) < style_size / 2:
        yield (
            f"The painting is only {width}x{height} pixels and is enlarged to {style_size}: its strokes are blurred. "
            "Give a larger picture of it, or a smaller style_size."
        )
    if is_framed(painting):
        yield "The painting has a frame or a margin, which becomes part of the style: crop it off."


def is_framed(painting: Image.Image) -> bool:
    """Whether three of a picture's sides have a straight edge near and along the whole of them."""
    small = painting.convert("RGB")
    small.thumbnail((LOOKED_AT, LOOKED_AT))
    pixels = np.asarray(small, np.float32)
    if min(pixels.shape[:2]) < 16:
        return False
    return sum(_has_edge(np.rot90(pixels, quarter)) for quarter in range(4)) >= 3


def _has_edge(pixels: np.ndarray) -> bool:
    """Whether an edge runs along the top of `pixels`, float [H, W, C].

    It is a step between rows that has one sign throughout, as that from a dark frame to a light canvas, or one of any
    sign below rows that are of one colour.
    """
    inset = max(1, round(0.1 * pixels.shape[1]))  # the frame's own corners
    outer = pixels[: max(4, round(OUTER * len(pixels))), inset:-inset]
    steps = outer[2:] - outer[:-2]  # two rows apart: a resized edge is blurred
    mean, size = np.abs(steps.mean(1)), np.abs(steps).mean(1)
    one_way = (mean > STEP) & (mean > ONE_WAY * size)
    flat = np.logical_and.accumulate(outer[:-2].std(1).max(1) < FLAT)[:, None]
    return bool((one_way | flat & (size > STEP)).any())
