"""How pictures of a clip move: dense optical flow, and pictures warped by it.

Flow is DIS (Kroeger, Timofte, Dai and Van Gool, *Fast Optical Flow using Dense Inverse Search*, ECCV 2016), as OpenCV
has it: float32 [H, W, 2], in px, for each pixel of a picture the way (x, y) to where it was in an earlier one.
"""

from functools import lru_cache

import cv2
import numpy as np

SMALLEST = 16  # px: a side below which DIS finds no flow


def shrink(picture, size):
    """A picture, uint8 [H, W, 3], at a smaller size, (width, height); by halves where they fit, in a quarter of the time."""
    while all(side % 2 == 0 and side >= 2 * goal for side, goal in zip(picture.shape[1::-1], size)):
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def flow_to(before, now, quick=False):
    """The flow from `now` back to `before`, both luminance, uint8 [H, W].

    quick: for small pictures of large ones: at the picture's own size, and neither refined nor made smooth.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if quick:
        dis.setFinestScale(0)  # the picture's own size; else half of it
        dis.setPatchStride(6)
        dis.setGradientDescentIterations(6)
        dis.setVariationalRefinementIterations(0)
    return dis.calc(now, before, None)  # pyright: ignore


@lru_cache(4)
def _grid(height, width):
    """Each pixel's own place, (x, y): float32 [H, W, 2]."""
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


def warp(picture, flow, spare=False):
    """What was in an earlier picture, [H, W] or [H, W, C], put where it is now.

    spare: the array of the flow is not needed any more, and is used for what comes between.
    """
    places = cv2.add(flow, _grid(*flow.shape[:2]), dst=flow if spare else None)
    # OpenCV moves four channels in half the time of three
    color = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    source = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA) if color else picture
    moved = cv2.remap(source, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # pyright: ignore
    return cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB) if color else moved


def inside(flow):
    """Where what is seen now was in the earlier picture, up to half a pixel: bool [H, W]."""
    height, width = flow.shape[:2]
    x, y = cv2.split(cv2.add(flow, _grid(height, width)))
    return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)


def agree(flow, forward):
    """Where the flow back and the flow `forward` undo each other, so nothing is covered or uncovered: bool [H, W].

    Sundaram, Brox and Keutzer, *Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow*, ECCV 2010.
    """
    forward = warp(forward, flow)
    length = (flow**2).sum(-1) + (forward**2).sum(-1)
    return ((flow + forward) ** 2).sum(-1) < 0.01 * length + 0.5
