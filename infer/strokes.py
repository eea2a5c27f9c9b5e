"""Brush strokes that keep their proportion to the picture, whatever its size in pixels.

A network paints strokes of so many pixels, so they shrink as pictures grow. Here it paints the picture at the size at
which its strokes have the proportion that is asked for; the result is scaled to the picture's own size, and gets the
photo's fine edges back.
"""

import cv2
import numpy as np

from allaprima.media.luminance import return_detail

AREA = 640 * 480  # px: in a picture of this area a stroke of 1 is the network's own


def paint_strokes(paint, batch, stroke):
    """`paint(batch)`, uint8 [N, H, W, 3], with strokes `stroke` times as large as in a picture of AREA, in proportion."""
    height, width = batch.shape[1:3]
    ratio = (AREA / (height * width)) ** 0.5 / stroke
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    if size == (width, height):
        return paint(batch)
    resize = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    photos = np.stack([cv2.resize(photo, size, interpolation=resize) for photo in batch])
    whole = np.empty_like(batch)
    for k, (photo, painted) in enumerate(zip(photos, paint(photos))):
        back = cv2.INTER_CUBIC if ratio < 1 else cv2.INTER_AREA
        whole[k] = cv2.resize(painted, (width, height), interpolation=back)
        if ratio < 1:
            whole[k] = return_detail(whole[k], batch[k], painted, photo)
    return whole
