"""How pictures of a clip move: dense optical flow, and pictures warped by it.

Flow is DIS (Kroeger, Timofte, Dai and Van Gool, *Fast Optical Flow using Dense Inverse Search*, ECCV 2016), as OpenCV
has it: float32 [H, W, 2], in px, for each pixel of a picture the way (x, y) to where it was in an earlier one.
"""

import cv2
import numpy as np


def flow_to(before, now, preset=cv2.DISOPTICAL_FLOW_PRESET_MEDIUM):
    """The flow from `now` back to `before`, both luminance, uint8 [H, W]."""
    return cv2.DISOpticalFlow.create(preset).calc(now, before, None)  # pyright: ignore


def places(flow):
    """Where each pixel was: x and y, float32 [H, W], in px."""
    height, width = flow.shape[:2]
    across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return flow[..., 0] + across, flow[..., 1] + down


def warp(picture, flow):
    """What was in an earlier picture, [H, W] or [H, W, C], put where it is now."""
    return cv2.remap(picture, *places(flow), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def inside(flow):
    """Where what is seen now was in the earlier picture: bool [H, W]."""
    height, width = flow.shape[:2]
    x, y = places(flow)
    return (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)


def agree(flow, forward):
    """Where the flow back and the flow `forward` undo each other, so nothing is covered or uncovered: bool [H, W].

    Sundaram, Brox and Keutzer, *Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow*, ECCV 2010.
    """
    forward = warp(forward, flow)
    length = (flow**2).sum(-1) + (forward**2).sum(-1)
    return ((flow + forward) ** 2).sum(-1) < 0.01 * length + 0.5
