"""Luminance put into a picture without touching its colours: the meaning of `--keep-colors`, and the return of detail."""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
REC601 = (0.299, 0.587, 0.114)  # luminance Y of R, G and B (ITU-R BT.601), the first coordinate of YIQ
# For the return of detail: the side of the window, px; squared grey levels that are noise; the largest slope
WINDOW, FLAT, STEEPEST = 7, 20.0, 1.5


def luminance(picture: Pixels) -> Pixels:
    """Y of a picture, uint8 [H, W, 3] RGB to [H, W]."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY), np.uint8)  # by REC601


def add_luminance(picture: Pixels, before: Pixels, after: Pixels) -> Pixels:
    """Add the difference after - before, both uint8 [H, W], to R, G and B of a picture, uint8 [H, W, 3].

    That changes Y and leaves I and Q as they are; what leaves 0..255 is clipped.
    """
    brighter, darker = (cv2.merge([part] * 3) for part in (cv2.subtract(after, before), cv2.subtract(before, after)))
    return np.asarray(cv2.subtract(cv2.add(np.ascontiguousarray(picture), brighter), darker), np.uint8)


def keep_colors_of(photo: Pixels, painted: Pixels) -> Pixels:
    """`painted` in the colours of `photo`, uint8 [H, W, 3] RGB: Y of the one, I and Q of the other.

    Gatys, Bethge, Hertzmann and Shechtman, *Preserving Color in Neural Artistic Style Transfer*, 2016, section 4.
    """
    return add_luminance(photo, luminance(photo), luminance(painted))


def return_detail(painted: Pixels, photo: Pixels, small_painted: Pixels, small_photo: Pixels) -> Pixels:
    """Sharpen `painted`, the enlarged `small_painted`, by what the photo has and its small copy lacks.

    All are uint8 RGB: two [H, W, 3], two [h, w, 3]. The photo's detail comes back as far as the painting follows the
    photo: by the slope of the painted luminance over the photo's in a window around each pixel, as of a guided filter
    (He, Sun and Tang 2010). So edges come back, and not the photo's texture where the painting has its own.
    """
    size = (photo.shape[1], photo.shape[0])
    x, y = (luminance(picture).astype(np.float32) for picture in (small_photo, small_painted))
    x_mean, y_mean = _mean(x), _mean(y)
    slope = (_mean(x * y) - x_mean * y_mean) / (_mean(x * x) - x_mean**2 + FLAT)
    slope = cv2.resize(np.clip(slope, -STEEPEST, STEEPEST), size, interpolation=cv2.INTER_LINEAR)
    coarse = cv2.resize(luminance(small_photo), size, interpolation=cv2.INTER_CUBIC)
    detail = cv2.multiply(cv2.subtract(luminance(photo), coarse, dtype=cv2.CV_32F), slope)
    before = luminance(painted)
    return add_luminance(painted, before, np.asarray(cv2.add(before, detail, dtype=cv2.CV_8U), np.uint8))


def _mean(values):
    return cv2.blur(values, (WINDOW, WINDOW))
