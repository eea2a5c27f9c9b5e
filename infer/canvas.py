"""A canvas that goes along with the camera.

What a network paints hangs on the photo, and on two things that stand still while it moves: the grain, from which strokes of
flat places grow, and the network's own steps of PERIOD pixels, since it halves a picture three times. So a photo that
moves by 5 px is painted anew. One that moves by 8 px, and its grain with it, is painted as it was, 8 px further. Here each
frame is put onto the canvas where the camera has gone, so that both move with what they paint.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from allaprima.core.contract import GRID, PERIOD, SMALLEST
from allaprima.infer.modelfile import grain_of, open_grain, show_value
from allaprima.media import motion
from allaprima.media.luminance import luminance

Place = tuple[int, int]  # (y, x) of a frame's first pixel on the canvas, px
LARGEST_MARGIN = 128  # px: more than what any of our networks pads a picture with
WIDTH = 320  # px: a frame is made so narrow before its corners are followed
CELLS, CORNERS, APART = 4, 2, 8  # so many rows and columns of cells; corners in each at the most, and so many px apart
AGREE = 1.0  # px in the narrow frame, by which corners that move with the camera differ
MOST = 0.5  # share of the corners that have to
# Cells at the left and at the right, in which some corners have to, until the camera goes, and one from then on: who moves before
# a camera that stands is seldom in so many.
EDGE = 2
TURN = 0.5  # px in the narrow frame, by which its edge may move otherwise than its middle: not in a zoom or a turn
DIM = 0.05  # part by which the light may change before it is reckoned with
FURTHEST = 0.25  # part of a side that the camera goes before corners are chosen anew
LEAST = 0.3  # px of the frame: a shorter step of the camera waits for more, or noise would move what stands still
RELUCTANCE = 0.75  # px between a frame's place and the whole number that it keeps: above a half, or noise would show


class Canvas:
    """A style whose frames may lie anywhere on its canvas.

    model: the model file's bytes. open_session(bytes) -> session. forward(session, batch, controls, outputs, feed) ->
    (stylized batch, values of the outputs), `feed` being further inputs. A network without grain has the steps alone.
    """

    def __init__(self, model: bytes, open_session: Callable, forward: Callable):
        self._forward, self._noise, self._name = forward, None, ""
        self._wide = np.zeros((0, 0), np.float32)  # the noise, repeated as far as a piece of the last size may reach
        self._last: tuple[Any, dict] = None, {}  # where the last grain began, with its size, and it
        if names := grain_of(model):
            self._name, noise = names
            session, least = open_session(show_value(model, noise)), np.zeros((1, SMALLEST, SMALLEST, 3), np.uint8)
            found = forward(session, least, outputs=[noise])[1][0]
            if found.shape == (1, 1, GRID, GRID):
                self._noise = found[0, 0]
        self._session = open_session(model if self._noise is None else open_grain(model, self._name))

    def paint(self, batch, controls, place: Place):
        """The painted pictures, uint8 [N, H, W, 3], of frames that lie at `place`."""
        height, width = batch.shape[1:3]
        top, left = (along % PERIOD for along in place)
        sides = top, PERIOD - top, left, PERIOD - left  # as much for every place, so that the size is one
        frames = np.stack([cv2.copyMakeBorder(frame, *sides, cv2.BORDER_REFLECT) for frame in batch])
        feed = self._grain(place[0] - top, place[1] - left, *frames.shape[:3])
        painted = self._forward(self._session, frames, controls, feed=feed)[0]
        return painted[:, top : top + height, left : left + width]

    def _grain(self, *piece) -> dict[str, Any]:
        """The grain of a piece of the canvas, (top, left, count, height, width), as an input."""
        if self._noise is None:
            return {}
        known, grain = self._last
        if known != piece:
            top, left, count, height, width = piece
            height, width = height + LARGEST_MARGIN, width + LARGEST_MARGIN
            if self._wide.shape != (GRID + height, GRID + width):
                self._wide = np.pad(self._noise, ((0, height), (0, width)), "wrap")
            cut = self._wide[top % GRID :, left % GRID :][:height, :width]
            grain = {self._name: np.stack([cut[None]] * count)}
            self._last = piece, grain
        return grain


class Camera:
    """Called with each frame in its order, `camera(photo)` is the frame's place: where the camera has gone; None until it goes.

    Corners of a frame are followed from then on (Lucas and Kanade 1981; Shi and Tomasi, *Good Features to Track*, CVPR 1994),
    and not those of each frame to the next, whose errors would add up. Their median is the way of the camera if most agree
    with it, at both sides too; otherwise it is taken to stand still, whoever moves before it. photo: uint8 [H, W, 3].
    `step` is how far it has gone since the last frame, (x, y), px of the frame, not rounded as the place is.
    """

    def __init__(self):
        self.place: Place | None = None
        self.step = self._told = self._gone = np.zeros(2, np.float32)  # gone: (x, y) of this frame on the canvas, px
        self._shape, self._scale = (), 1.0
        self._before: Any = None  # the last frame, narrow and grey
        self._key: Any = None  # the one whose corners are followed
        self._corners: Any = None
        self._goes = False  # whether it could be told where the last frame lies

    def __call__(self, photo) -> Place | None:
        scale = max(1.0, photo.shape[1] / WIDTH)
        size = round(photo.shape[1] / scale), max(1, round(photo.shape[0] / scale))
        now = luminance(motion.shrink(photo, size))
        if self._shape != photo.shape:
            self._shape, self._scale, self._before = photo.shape, scale, now
            self._follow(now)
        way = self._way(now)
        if way is None and self._before is not self._key:
            self._follow(self._before)
            way = self._way(now)
        self._goes = way is not None
        if way is not None:
            self._gone = self._start - scale * way
        if way is None or (abs(way) > FURTHEST * np.array(size)).any():
            self._follow(now)
        self._before, self.step = now, self._gone - self._told
        self.step = self.step * (abs(self.step).max() > LEAST)
        self._told = self._told + self.step
        exact, last = self._gone[::-1].tolist(), self.place or (0, 0)
        y, x = (old if abs(new - old) < RELUCTANCE else round(new) for old, new in zip(last, exact))
        if (y, x) != last:
            self.place = y, x
        return self.place

    def _follow(self, frame):
        """The corners of this frame from now on, some in each cell; it lies where the canvas has gone until now."""
        self._key, self._start = frame, self._gone
        found = cv2.goodFeaturesToTrack(frame, 200, 0.01, APART)  # the best first, and more than are followed
        corners = np.zeros((0, 2), np.float32) if found is None else found[:, 0]
        cells = _cells(corners, frame.shape)
        rank = (np.tril(cells[:, None] == cells, -1)).sum(1)  # so many better ones in its cell
        self._corners = corners[rank < CORNERS]

    def _way(self, now):
        """How the scene has moved since the corners were chosen, (x, y) in narrow frames; None where it can't be told."""
        corners, height, width = self._corners, *now.shape
        if not len(corners):
            return None
        guess = corners + (self._start - self._gone) / self._scale
        found, seen, _ = cv2.calcOpticalFlowPyrLK(
            self._key,
            _lit_as(self._key, now),
            corners,
            guess,
            winSize=(15, 15),
            maxLevel=2,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        seen = seen[:, 0].astype(bool)
        if seen.sum() < MOST * len(corners):
            return None
        ways = found - corners
        way = np.median(ways[seen], axis=0)
        agreed = seen & (abs(ways - way) < AGREE).all(1)
        cells = np.unique(_cells(np.concatenate([corners[agreed], found[agreed]]), now.shape))
        sides = [(cells % CELLS == side).sum() for side in (0, CELLS - 1)]
        if agreed.sum() < MOST * len(corners) or min(sides) < (1 if self._goes else EDGE):
            return None
        from_middle = corners[agreed] - corners[agreed].mean(0)
        grown, turned = (  # by how much for each px from the middle
            ((ways[agreed] - way) * to).sum() / (from_middle**2).sum()
            for to in (from_middle, from_middle[:, ::-1] * (-1, 1))
        )
        return way if np.hypot(grown, turned) * max(height, width) / 2 < TURN else None


def _cells(corners, shape):
    """The number of each corner's cell, row by row."""
    x, y = (corners * CELLS / shape[::-1]).astype(int).clip(0, CELLS - 1).T
    return CELLS * y + x


def _lit_as(key, now):
    """A frame, uint8 [h, w], in the light of another one."""
    gain = cv2.mean(key)[0] / max(cv2.mean(now)[0], 1.0)  # NumPy's takes ten times as long
    return cv2.convertScaleAbs(now, alpha=gain) if abs(gain - 1) > DIM else now
