"""What users complained of for ten years, as numbers: grids, borders, dots, and flat areas that boil."""

import cv2
import numpy as np

RIM = 16  # px


def grid(painted) -> dict[int, float]:
    """For each period of 2, 4 and 8 px, the power there over the median of its neighbourhood: 1 is none, 3 can be seen.

    The larger of rows and columns, in the mean of the three colours. painted: uint8 [H, W, 3], H and W of 128 at least.
    """
    height, width = (side // 32 * 32 for side in painted.shape[:2])
    grey = painted[:height, :width].mean(2)
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    peaks = {}
    for period in (2, 4, 8):
        ratios = []
        for axis in (0, 1):
            line = power.mean(1 - axis)
            at = len(line) // period
            around = np.r_[line[at - 7 : at - 1], line[at + 2 : at + 8]]
            ratios.append(line[at] / np.median(around))
        peaks[period] = float(max(ratios))
    return peaks


def border(painted) -> tuple[float, float]:
    """The outer 16 px against the 32 px further in: difference of the mean grey level, ratio of standard deviations."""
    level = painted.mean(2)
    rim, near = (np.zeros(level.shape, bool) for _ in range(2))
    rim[:] = True
    rim[RIM:-RIM, RIM:-RIM] = False
    near[RIM:-RIM, RIM:-RIM] = True
    near[3 * RIM : -3 * RIM, 3 * RIM : -3 * RIM] = False
    return float(level[rim].mean() - level[near].mean()), float(level[rim].std() / level[near].std())


def dots(painted) -> float:
    """Pixels of a million that are over 60 grey levels lighter, or darker, than each of their eight neighbours."""
    grey = painted.mean(2).astype(np.float32)
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    out = (grey - cv2.dilate(grey, ring) > 60) | (cv2.erode(grey, ring) - grey > 60)
    return float(out.mean() * 1e6)


def boil(stylize, photo) -> float:
    """How much of a camera's noise a flat place shows: its change from frame to frame, over that of the frames.

    The frames are the photo with its right half painted over evenly in its mean colour, and noise with a standard
    deviation of 2 grey levels, another in each; measured is the right half without 16 px. 1 is the noise as it is.
    """
    random = np.random.default_rng(0)
    scene = photo.astype(float)
    middle = photo.shape[1] // 2
    scene[:, middle:] = scene.mean((0, 1))
    frames = [(scene + random.normal(0, 2, scene.shape)).round().clip(0, 255).astype(np.uint8) for _ in range(2)]
    flat = (slice(None), slice(middle + RIM, -RIM))
    before, after = (np.abs(a[flat].astype(int) - b[flat]).mean() for a, b in (frames, [stylize(f) for f in frames]))
    return float(after / before)
