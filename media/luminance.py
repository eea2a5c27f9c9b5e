"""The colours of one picture under the brightness of another: what `--keep-colors` means, for networks and the optimizer.

Gatys, Bethge, Hertzmann and Shechtman, *Preserving Color in Neural Artistic Style Transfer*, 2016, section 4.
"""

import cv2
import numpy as np
import numpy.typing as npt

REC601 = (0.299, 0.587, 0.114)  # luminance Y of R, G and B (ITU-R BT.601), the first coordinate of YIQ


def keep_colors_of(photo: npt.NDArray[np.uint8], painted: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`painted` in the colours of `photo`, both uint8 [..., W, 3] RGB of one shape: Y of the one, I and Q of the other.

    The same difference of Y is added to R, G and B, which leaves I and Q as they are; what leaves 0..255 is clipped.
    """
    flat = [np.ascontiguousarray(picture).reshape(-1, *photo.shape[-2:]) for picture in (photo, painted)]
    before, after = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in flat)  # its weights are REC601
    brighter, darker = (cv2.merge([part] * 3) for part in (cv2.subtract(after, before), cv2.subtract(before, after)))
    return np.asarray(cv2.subtract(cv2.add(flat[0], brighter), darker), np.uint8).reshape(photo.shape)
