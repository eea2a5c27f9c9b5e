"""How a video's YUV stands for RGB: the tags of ITU-T H.273, and the matrices that swscale knows."""

from dataclasses import dataclass

# Numbers of ITU-T H.273, which FFmpeg and every container use. Matrix coefficients: how YUV is made from RGB.
RGB, BT709, UNSPECIFIED, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020 = 0, 1, 2, 4, 5, 6, 7, 9
LIMITED, FULL = 1, 2  # AVColorRange: 16..235, 0..255
# The colour matrices that swscale knows, by the numbers it gives them; 5 is BT.601 under all of its names.
SWSCALE_MATRIX = {BT709: 1, FCC: 4, BT470BG: 5, SMPTE170M: 5, SMPTE240M: 7, BT2020: 9}


@dataclass(frozen=True)
class Colour:
    """How a video's YUV stands for RGB: matrix, primaries, transfer as numbered in H.273; range 1 limited, 2 full."""

    matrix: int = SMPTE170M
    range: int = LIMITED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @classmethod
    def of(cls, frame):
        """The frame's own tags; an untagged matrix is what players assume: BT.709 from 720 lines on, BT.601 below."""
        matrix = frame.colorspace
        if matrix not in SWSCALE_MATRIX:
            matrix = BT709 if max(frame.height, frame.width * 9 // 16) >= 720 else SMPTE170M
        full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
        return cls(matrix, FULL if full else LIMITED, frame.color_primaries, frame.color_trc)
