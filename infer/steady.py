"""Strokes that stay on what they paint: a step after the network, for frames in their order.

A network paints each frame anew, so its strokes boil when anything moves. Here the last painted frame is moved along by
the photos' optical flow, calculated at a quarter of the size, and kept wherever it still holds:

- the photo, moved along by the same flow, still looks the same, so nothing is covered, uncovered or lit otherwise;
- its tone is about that of the new painting, so that nothing outdated stays;
- its texture has not become weak, as it does by being moved along again and again: a blur is steady too, and no painting.

Elsewhere the new painting shows. Hardly anything is averaged over time: strokes of many frames would blur each other away.
Where so little holds that the scene must have been cut, nothing of the old one is kept.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from allaprima.infer.canvas import Camera
from allaprima.infer.stylizer import Stylizer
from allaprima.media import motion
from allaprima.media.luminance import luminance

SCALE, NARROWEST = 4, 160  # the flow is calculated at a quarter of the size, and not below so many px of width
KEPT = 0.85  # of the last painting, where it holds: what changes too slowly to be seen is not kept for ever
UNLIKE = 14  # grey levels that the photo may differ by; at twice as many nothing is kept
OTHER_TONE = 32  # the same for the tone of the painting
# Where less than WORN of the new painting's texture is left, what is kept makes place, and FADE below that, all of it. A small
# thing that moves may lose some; if all moves, the picture would be a blur: so WORN hangs on what is left in all of it, LEFT.
LEFT, WORN, FADE = (0.68, 0.98), (0.8, 0.3), 0.25
AROUND = 15, 15  # small px: what looks the same wherever it goes, moves as that does which is around it
# Things move by themselves where flow explains the photo so many times, and by so many grey levels, better than the camera.
MORE, NOISY = 1.2, 0.25
CUT = 0.3  # share of the picture that holds, below which the scene was cut
# What moves is sharpened up to so much of the new texture, by at most so much. Lines along the way that it goes are not
# blurred by it; so that they do not grow, KEPT (1 + 4/3 SHARPEST) < 1, as the blur of 3 px leaves -1/3 of the finest ones.
TEXTURE, SHARPEST = 1.1, 0.13
NOISE = 0.3  # grey levels: texture that is none


@dataclass
class _Frame:
    photo: Any  # small, uint8 [h, w, 3]
    grey: Any  # its luminance
    shown: Any  # the painting, uint8 [H, W, 3]
    by: object


class Steady:
    """Called with each frame in its order, `steady(photo, painted)` is the painted frame with the strokes of the last one.

    photo, painted: uint8 [H, W, 3]. step: how far the camera has gone since the last frame, (x, y), px, as a `canvas.Camera`
    says; what looks the same wherever it goes, goes with it. by: who painted it and how; when that or the size changes,
    nothing of before is kept.
    """

    _last: _Frame | None = None

    def __call__(self, photo, painted, step=(0, 0), by=None):
        height, width = photo.shape[:2]
        scale = min(SCALE, max(1, width / NARROWEST))
        small = motion.shrink(photo, (round(width / scale), max(1, round(height / scale))))
        now = _Frame(small, luminance(small), painted, by)
        last = self._last
        if last and last.by == by and last.shown.shape == painted.shape and min(small.shape[:2]) >= motion.SMALLEST:
            now.shown = _kept(last, now, step)
        self._last = now
        return now.shown


class Painter:
    """Called with each frame in its order, `painter(stylizer, photo, controls)` is the frame painted: steadily where the controls
    say so, on a canvas that goes along with the camera.

    stylizer: a Stylizer, or anything called as stylizer(rgb, controls), which paints on a canvas that stands still.
    """

    def __init__(self):
        self._steady, self._camera = Steady(), Camera()

    def __call__(self, stylizer, photo, controls):
        if not controls.steady:
            return stylizer(photo, controls)
        if isinstance(stylizer, Stylizer):
            painted = stylizer(photo, controls, place=self._camera(photo))
        else:
            painted = stylizer(photo, controls)
        return self._steady(photo, painted, self._camera.step, by=(stylizer, controls))


def _kept(last, now, step):
    """The new painting, `now.shown`, with what holds of the last one. step: of the camera, (x, y), px."""
    painted = now.shown
    height, width = painted.shape[:2]
    scale = np.array([width, height], np.float32) / np.array(now.photo.shape[1::-1], np.float32)
    flow, moves, unlike = _flow(last, now, np.array(step, np.float32) / scale)
    pixels = flow * scale
    moved = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    kept = motion.warp(last.shown, moved, spare=True)

    def trust(distance, tolerance):
        return np.clip(2 - distance / tolerance, 0, 1)

    (old_tone, old_texture), (tone, texture) = (_look(picture, flow.shape) for picture in (kept, painted))
    trusted = trust(unlike, UNLIKE) * trust(_distance(old_tone, tone), OTHER_TONE) * motion.inside(flow)
    holds = cv2.blur(cv2.erode(trusted, np.ones((3, 3), np.uint8)), (3, 3))
    if trusted.mean() < CUT or not holds.any():
        return painted
    left = np.sqrt(np.divide(*((holds * each**2).sum() for each in (old_texture, texture))))
    sharpening = np.clip(1.1 * (TEXTURE / left - 1), 0, SHARPEST)
    if sharpening > 0.05:
        sharpened = cv2.addWeighted(kept, 1 + sharpening, cv2.blur(kept, (3, 3)), -sharpening, 0)
        if moves.all():
            kept = sharpened
        else:
            cv2.copyTo(sharpened, cv2.resize(moves, (width, height), interpolation=cv2.INTER_NEAREST), kept)
    holds = holds * np.clip(1 - (np.interp(left, LEFT, WORN) - old_texture / texture) / FADE, 0, 1)
    weight = cv2.resize((255 * KEPT * holds).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    weight = cv2.merge([weight] * 3)  # in whole numbers it takes half the time
    return cv2.add(cv2.multiply(kept, weight, scale=1 / 255), cv2.multiply(painted, 255 - weight, scale=1 / 255))


def _flow(last, now, step):
    """The flow back to the last photo; where things move, uint8; and how unlike that photo, moved along, is to this one.

    step: of the camera, (x, y), px of the photo. All goes with the camera that this explains as well as flow: so still strokes
    stay, whatever moves beside them, and noise moves nothing.
    """
    flow, goes = motion.flow_to(last.grey, now.grey, quick=True), step.any()
    still = motion.warp(last.photo, np.tile(step, (*flow.shape[:2], 1))) if goes else last.photo
    moving, still = (_distance(photo, now.photo) for photo in (motion.warp(last.photo, flow), still))
    moves = (cv2.blur(still, AROUND) > MORE * cv2.blur(moving, AROUND) + NOISY).astype(np.uint8)
    part = cv2.blur(moves.astype(np.float32), (3, 3))
    # plane by plane, which takes NumPy a tenth of the time
    flow = cv2.merge([way + (along - way) * part for along, way in zip(cv2.split(flow), step)])
    return flow, moves | np.uint8(goes), still + (moving - still) * part


def _distance(one, other):
    """The largest difference of R, G and B: float32 [h, w]."""
    red, green, blue = cv2.split(cv2.absdiff(one, other))
    return cv2.max(cv2.max(red, green), blue).astype(np.float32)


def _look(picture, shape):
    """Tone and texture of a picture, at a quarter of the size: its colours blurred, and the mean of what a blur takes away.

    Every fourth row is enough for both, and every fourth pixel of it for the tone.
    """
    size, rows = (shape[1], shape[0]), picture[::4]
    grey = luminance(rows)
    texture = cv2.resize(
        cv2.absdiff(grey, cv2.blur(grey, (3, 1))).astype(np.float32), size, interpolation=cv2.INTER_AREA
    )
    tone = cv2.blur(cv2.resize(rows, size, interpolation=cv2.INTER_NEAREST), (5, 5))
    return tone, cv2.blur(texture, (7, 7)) + NOISE
