"""How a video's YUV stands for RGB: the tags of ITU-T H.273, and the matrices that swscale knows."""

from dataclasses import dataclass

import numpy as np

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

    @classmethod
    def painted(cls, frame):
        """The tags for what is painted from the frame: its own, but BT.709 for HDR, which `to_sdr` brings there."""
        return cls(BT709, LIMITED, BT709, BT709) if is_hdr(frame) else cls.of(frame)


PQ, HLG = 16, 18  # transfer characteristics of HDR video: SMPTE ST 2084, ARIB STD-B67
WHITE, PEAK = 203.0, 1000.0  # cd/m^2: what SDR shows as white (ITU-R BT.2408), and the brightest of an HDR clip

# ITU-R BT.2087: BT.2020 primaries to BT.709's
_BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])


def is_hdr(frame) -> bool:
    return frame.color_trc in (PQ, HLG)


def to_sdr(signal, transfer) -> np.ndarray:
    """What HDR video looks like on an ordinary screen.

    signal: float [..., 3] RGB with BT.2020 primaries, 0..1, coded by `transfer`, PQ or HLG. Returns float [..., 3],
    0..1, BT.709 primaries and the curve of sRGB, which is how screens show BT.709 video.
    """
    light = _pq_to_light(signal) if transfer == PQ else _hlg_to_light(signal)
    brightest = np.maximum(light.max(-1, keepdims=True), 1e-6)
    light = light * (_tone_mapped(brightest) / brightest)  # all three by one factor, so that hues stay
    linear = np.clip(light / WHITE @ _BT2020_TO_BT709.T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _tone_mapped(light):
    """cd/m^2 up to PEAK brought below WHITE: Report ITU-R BT.2390, 5.4.1, which leaves what is dark as it is."""
    part = light_to_pq(np.minimum(light, PEAK)) / light_to_pq(PEAK)
    highest = light_to_pq(WHITE) / light_to_pq(PEAK)
    knee = 1.5 * highest - 0.5
    t = np.maximum(part - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * highest
    return _pq_to_light(np.where(part < knee, part, spline) * light_to_pq(PEAK))


# SMPTE ST 2084
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def _pq_to_light(signal):
    """cd/m^2 of a PQ signal, 0..1."""
    power = np.asarray(signal) ** (1 / _M2)
    return 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def light_to_pq(light):
    """The PQ signal, 0..1, of 0..10000 cd/m^2."""
    power = (np.asarray(light) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_to_light(signal):
    """cd/m^2 of an HLG signal on a screen of 1000: ITU-R BT.2100, table 5, inverse OETF and OOTF."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return 1000 * (scene @ _BT2020_LUMINANCE)[..., None] ** 0.2 * scene


def write_cube(path, transfer, size=33):
    """Write `to_sdr` as a .cube file, the table of `size` steps a side that FFmpeg's filter lut3d reads."""
    steps = np.linspace(0, 1, size)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red runs fastest
    table = to_sdr(np.stack([red, green, blue], -1), transfer).reshape(-1, 3)
    np.savetxt(path, table, fmt="%.5f", header=f"LUT_3D_SIZE {size}", comments="")
