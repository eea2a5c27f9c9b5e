"""Picture files that Pillow can't make: TIFFs in any layout, colour profiles, phones' EXIF; and a second reader."""

import struct
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

SIZES = {1: 1, 3: 2, 4: 4}  # bytes of TIFF's types BYTE, SHORT, LONG
CODES = {1: "B", 3: "H", 4: "I"}


def opened(path) -> Any:
    """The file as Pillow opens it, with what only some formats have, which the type of `Image.open` does not know."""
    return Image.open(path)


def tiff(path, size, blocks, tags, order="<", tiled=False):
    """An uncompressed TIFF of `size` (width, height) whose strips or tiles are `blocks` (bytes), in byte order < or >.

    tags: number to a list of SHORTs, to (type, list), or to a dict of such: a directory of its own.
    """
    data = bytearray({"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 0))
    places = []
    for block in blocks:
        places.append(len(data))
        data += block + b"\0" * (len(block) % 2)
    offsets, counts = (324, 325) if tiled else (273, 279)
    own = {256: [size[0]], 257: [size[1]], 259: [1], offsets: (4, places), counts: (4, [len(b) for b in blocks])}
    own |= {} if tiled else {278: [size[1]]}
    at = _directory(data, own | tags, order)
    data[4:8] = struct.pack(order + "I", at)
    path.write_bytes(data)
    return path


def _directory(data, tags, order):
    entries = b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, dict):
            value = (4, [_directory(data, value, order)])
        kind, values = value if isinstance(value, tuple) else (3, value)
        packed = struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)
        if len(packed) > 4:
            packed, at = struct.pack(order + "I", len(data)), packed
            data += at + b"\0" * (len(at) % 2)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    at = len(data)
    data += struct.pack(order + "H", len(tags)) + entries + b"\0" * 4
    return at


def planar(path, pixels):
    """A TIFF of three planes."""
    height, width = pixels.shape[:2]
    planes = [pixels[..., channel].tobytes() for channel in range(3)]
    return tiff(path, (width, height), planes, {258: [8, 8, 8], 262: [2], 277: [3], 284: [2]})


def tiled(path, pixels, side=64):
    """A TIFF of square tiles, those at the edges padded."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % side), (0, -width % side), (0, 0)))
    tiles = [
        padded[top : top + side, left : left + side].tobytes()
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    tags = {258: [8, 8, 8], 262: [2], 277: [3], 322: [side], 323: [side]}
    return tiff(path, (width, height), tiles, tags, tiled=True)


def grey16(path, grey, order="<", white_is_zero=False):
    """A TIFF of 16-bit grey."""
    values = (65535 - grey.astype(int) * 257 if white_is_zero else grey.astype(int) * 257).astype(order + "u2")
    tags = {258: [16], 262: [0 if white_is_zero else 1], 277: [1]}
    return tiff(path, grey.shape[::-1], [values.tobytes()], tags, order)


def grey32(path, grey):
    """A TIFF of 32-bit grey, unsigned."""
    values = (grey.astype(np.uint32) * 0x01010101).astype("<u4")
    return tiff(path, grey.shape[::-1], [values.tobytes()], {258: [32], 262: [1], 277: [1]})


def raw_photo(path, pixels, tags):
    """What a DNG or NEF is: a TIFF whose first image is a preview, and whose second is what the sensor saw."""
    height, width = pixels.shape[:2]
    preview = {254: [1], 258: [8, 8, 8], 262: [2], 277: [3]}
    sensor = {254: [0], 256: [4000], 257: [3000], 258: [16], 259: [1], 262: [32803], 277: [1]}
    return tiff(path, (width, height), [pixels.tobytes()], preview | {330: sensor} | tags)


def profile(space, matrix=None, gamma=2.2):
    """An ICC profile of version 2 (ICC.1:2001-04): "RGB " by the XYZ of its primaries as columns, or "GRAY"."""

    def xyz(values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 79
    tags = {b"desc": text, b"wtpt": xyz((0.9642, 1, 0.8249)), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    if matrix is None:
        tags |= {b"kTRC": curve}
    else:
        tags |= {name + b"XYZ": xyz(column) for name, column in zip((b"r", b"g", b"b"), np.transpose(matrix))}
        tags |= {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"none", 0x02100000, b"mntr", space.encode(), b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


# Adobe RGB (1998) and ProPhoto have wider gamuts than sRGB; these primaries, adapted to D50, are those of Adobe RGB.
WIDE = profile("RGB ", [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
GREY = profile("GRAY", gamma=1.0)


def phone_exif(orientation=1, storage=True):
    """EXIF as phones write it: with a place, and with tags that say how the pixels are stored."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x8298] = "a maker", "a phone", "a person"
    exif[0x0112] = orientation
    if storage:
        exif[0x0100], exif[0x0103], exif[0x0106], exif[0x0111] = 4032, 6, 6, 1234
    exif[0x8769] = {0x9003: "2026:05:01 10:20:30", 0xA002: 4032, 0xA003: 3024, 0xA001: 1, 0x927C: b"maker's own" * 9}
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)}
    return exif.tobytes()


def second_reader(path) -> np.ndarray:
    """The picture as FFmpeg or OpenCV reads it, neither of which is Pillow: uint8 [H, W, 3] RGB, alpha left out."""
    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24")
    except av.FFmpegError:  # pyright: ignore[reportPrivateImportUsage]
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
