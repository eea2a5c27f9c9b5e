"""What users complained of for ten years, as numbers: grids, borders, dots and restless flat areas in a picture."""

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


def calm(stylize) -> float:
    """The largest standard deviation, in grey levels, of the pictures of three evenly grey photos: 0 is flat."""
    return max(float(stylize(np.full((240, 320, 3), grey, np.uint8)).std((0, 1)).max()) for grey in (40, 128, 220))
