"""Picture files in and out: what Pillow reads becomes 8-bit sRGB, and what the file knew besides goes along."""

import io
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from allaprima.core.contract import SMALLEST
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import check_output, write_atomically
from allaprima.media.mark import with_mark
from allaprima.media.picture_formats import HOLDS, LONGEST_SIDE, metadata_settings, picture_format, time_settings
from allaprima.media.picture_kinds import (
    ANIMATIONS,
    PICTURES,
    damaged,
    has_picture_ending,
    is_picture,
    opened,
    picture_files,
    picture_kind,
)
from allaprima.media.picture_metadata import orientation, read_metadata
from allaprima.media.profiles import from_srgb, to_srgb

__all__ = [
    "Still",
    "Picture",
    "as_rgb",
    "check_picture_output",
    "encode_picture",
    "has_picture_ending",
    "is_picture",
    "picture_files",
    "picture_format",
    "picture_kind",
    "read_photo",
    "read_picture",
    "read_rgb",
    "to_jpeg",
    "write_picture",
    "write_rgb",
]

TURNED = {  # by the EXIF orientation: what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Their header tells how much is decoded; within an ICO of 16x16 there may be a PNG of any size.
TELLS_SIZE = {"JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "HEIF"}
SEEN = 8  # of 255: what has less alpha is not seen, whatever colour it has
SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4  # of TIFF: what is not a page
WHITE_IS_ZERO = 0  # TIFF's photometric interpretation, which Pillow applies up to 8 bits
UNSIGNED = 1  # TIFF's sample format


class Still(NamedTuple):
    """One image of a file, upright: an animation's frame, a page, or all there is."""

    pixels: np.ndarray  # uint8 [H, W, 3] sRGB; where alpha hides them, filled in from what is visible
    alpha: np.ndarray | None = None  # uint8 [H, W], 0 is transparent
    duration: float = 0  # milliseconds shown


@dataclass
class Picture:
    """What is in a picture file: frames (one, unless it is animated or has pages), and what is kept beside them."""

    path: Path
    frames: list[Still]
    about: dict = field(default_factory=dict)  # exif, xmp, icc_profile, dpi, comment, text, loop, default_image
    first_of: int = 1  # how many frames or pages the file has
    kind: str | None = None  # Pillow's name of the file's format

    @property
    def left_out(self) -> str | None:
        """The sentence about the frames or pages that were not read, None when all were."""
        if self.first_of == len(self.frames):
            return None
        what, keeps = ("pages", ".tif") if self.kind == "TIFF" else ("frames", ".gif or .webp")
        return f"{self.path} has {self.first_of} {what}: only the first is used. Write a {keeps} to keep them all."


def check_picture_output(path, inputs=(), **how) -> Path:
    """`files.check_output`, and the ending must be that of a picture format which can be written."""
    picture_format(path)
    return check_output(path, inputs, **how)


def read_picture(path, into=None, short_side=None, *, content=None, most_pixels=None) -> Picture:
    """Read a picture as it looks: upright, 8-bit sRGB, alpha apart, metadata kept.

    Colours are converted by the file's profile; 16-bit and float are scaled to 8. What alpha hides is filled in from
    what is visible, so that hidden colours have no influence.
    into: the format it will be written in (as of `picture_format`): of an animation or of pages that the format does
        not hold, only the first is read. None reads all.
    short_side: a JPEG may be decoded at a reduced size whose short side still has so many pixels.
    content: the bytes of the file, where there is none on disk; `path` then only stands in the messages.
    most_pixels: a picture that gives the network more is refused before any of it is decoded, and so is a format that
        does not tell its size.
    Raises AllaprimaError: not there, empty, truncated, not a picture, RAW, or larger than the memory that is free or
    than `most_pixels`.
    """
    path = Path(path)
    with opened(path, content) as image:
        size = image.size
        try:
            numbers = _numbers(image)
            if most_pixels:
                _check_pixels(path, image, most_pixels)
            first_of = len(numbers)
            together = "pages" if image.format == "TIFF" else "frames"
            if into and together not in HOLDS.get(into, ()):
                numbers = numbers[:1]
            _check_memory(path, image, len(numbers))
            if short_side:
                scale = short_side / min(size)
                image.draft("RGB", (int(size[0] * scale), int(size[1] * scale)))
            frames, about = [], {}
            for number in numbers:
                if number:
                    image.seek(number)
                    _check_memory(path, image, 1)
                frame, profile = _frame(image)
                frames.append(frame)
                if len(frames) == 1:
                    about = read_metadata(image) | ({"icc_profile": profile} if profile else {})
            about |= _animated(image) if len(frames) > 1 else {}
        except AllaprimaError:
            raise
        except MemoryError as error:
            raise _too_large(path, size) from error
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            raise damaged(path, error) from error
        return Picture(path, frames, about, first_of, image.format)


def read_rgb(file, short_side=None, *, content=None) -> Image.Image:
    """The first frame of `read_picture` as an RGB image of Pillow, alpha and metadata left out."""
    picture = read_picture(file, into="JPEG", short_side=short_side, content=content)
    return Image.fromarray(picture.frames[0].pixels)


def as_rgb(image: Image.Image, name="The picture") -> Image.Image:
    """An image of Pillow as `read_rgb` has that of a file. name: for the message when it can't be decoded."""
    try:
        return Image.fromarray(_frame(image)[0].pixels)
    except Exception as error:  # as in `read_picture`
        raise damaged(name, error) from error


def read_photo(file, size: int) -> np.ndarray:
    """The first frame of `read_picture`, uint8 [H, W, 3], scaled down to a long side of at most `size` pixels."""
    image = read_rgb(file)
    if max(image.size) > size:
        image = ImageOps.contain(image, (size, size), Image.Resampling.LANCZOS)
    return np.array(image)


def write_picture(path, picture: Picture) -> None:
    """Write a picture in the format that `path` ends in, whole or not at all.

    An animation or pages stay together where the format holds them, else the first is written. Colours are those of
    the picture's own profile where the format holds profiles, else sRGB. Where the format has no alpha, the picture is
    laid on white. Raises AllaprimaError when it can't be written.
    """
    write_atomically(path, encode_picture(picture, picture_format(path), path))


def encode_picture(picture: Picture, format: str, path: str | Path = "The picture") -> bytes:
    """What `write_picture` writes, in a format named as by `picture_format`. path: for the messages."""
    about = picture.about
    holds, frames = HOLDS.get(format, set()), picture.frames
    if ("pages" if picture.kind == "TIFF" else "frames") not in holds:
        frames = frames[:1]
    elif len(frames) > 1 and about.get("default_image") and format != "PNG":
        frames = frames[1:]  # what an APNG shows where animations are not known
    height, width = (max(frame.pixels.shape[axis] for frame in frames) for axis in (0, 1))
    longest = LONGEST_SIDE.get(format)
    if longest and max(height, width) > longest:
        raise AllaprimaError(
            f"{path} can't be written: {format} holds at most {longest} pixels a side, and this is "
            f"{width}x{height}. Write a .png or .tif."
        )
    # Encoded in memory: of a full disk, Pillow's encoders tell no reason, and the one of JPEG 2000 never comes back.
    encoded = io.BytesIO()
    try:
        images = [_image(frame, "alpha" in holds) for frame in frames]
        settings = metadata_settings(format, {key: about[key] for key in about.keys() & holds})
        if "icc_profile" in settings:
            own = [image for image in (from_srgb(image, settings["icc_profile"]) for image in images) if image]
            if len(own) == len(images):
                images = own
            else:
                del settings["icc_profile"]
        if len(images) > 1:
            settings |= {"save_all": True, "append_images": images[1:]} | time_settings(format, about, frames)
        images[0].save(encoded, format, **with_mark(format, settings))
    except MemoryError as error:
        raise _too_large(path, (width, height)) from error
    except Exception as error:  # each of them has its own
        raise AllaprimaError(f"{path} can't be written as {format}: {error}. Write a .png.") from error
    return encoded.getvalue()


def write_rgb(path, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] sRGB to `path` in the format that its ending says, whole or not at all."""
    write_picture(path, Picture(path, [Still(pixels)]))


def _numbers(image):
    """Which images of the file are its frames or pages."""
    count = getattr(image, "n_frames", 1)
    if image.format == "TIFF":
        pages = []
        for number in range(count):
            image.seek(number)
            if not image.tag_v2.get(SUBFILE_TYPE, 0) & (REDUCED | MASK):
                pages.append(number)
        image.seek(pages[0] if pages else 0)
        return pages or [0]
    return list(range(count if image.format in ANIMATIONS else 1))


def _animated(image):
    """What is common to all frames. No loop is once, as in GIF; elsewhere once is 1; AVIF does not tell."""
    loop = image.info.get("loop", 0 if image.format == "AVIF" else None)
    once = loop is None or (loop == 1 and image.format != "GIF")
    return ({} if once else {"loop": loop}) | ({"default_image": True} if image.info.get("default_image") else {})


def _frame(image):
    """(the current frame, loaded; its profile where it is one of RGB)."""
    image.load()
    profile, duration = image.info.get("icc_profile"), image.info.get("duration", 0)
    turn = TURNED.get(orientation(image))
    image = _eight_bits(image)
    if turn is not None:
        image = image.transpose(turn)
    image, alpha = _alpha_apart(image)
    image, profile = to_srgb(image, profile)
    if alpha:
        image = _filled(image, alpha)
    return Still(_array(image), _array(alpha) if alpha else None, duration), profile


def _alpha_apart(image):
    """(the image without transparency, its alpha or None)."""
    if not image.has_transparency_data:
        return image, None
    grey = image.mode in ("1", "L", "La", "LA")  # stays grey: its profile may be one of grey
    image = image.convert("LA" if grey else "RGBA")
    return image.convert("L" if grey else "RGB"), image.getchannel("A")


def _filled(image, alpha):
    """An RGB image, its unseen pixels filled in from the seen ones around.

    Push-pull: down a pyramid whose every level averages what is seen, and up again where nothing is. Gortler et al.,
    The Lumigraph, SIGGRAPH 1996, section 3.4.
    """
    seen = alpha.point(lambda value: 255 * (value >= SEEN))
    if seen.getextrema()[0] == 255 or max(image.size) == 1:
        return image
    both = image.copy()
    both.putalpha(seen)
    half = [(side + 1) // 2 for side in image.size]
    both = both.resize(half, Image.Resampling.BOX)  # weighted by alpha
    behind = _filled(both.convert("RGB"), both.getchannel("A")).resize(image.size, Image.Resampling.BILINEAR)
    return Image.composite(image, behind, seen)


def _eight_bits(image):
    """16-bit, 32-bit and float grey as 8-bit grey: by the first full scale that holds the largest value."""
    if not image.mode.startswith(("I", "F")):
        return image
    given, tags = np.asarray(image), getattr(image, "tag_v2", {})
    scales = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    if image.mode == "I" and tags and tags.get(Base.SampleFormat, (1,))[0] == UNSIGNED:
        given, scales = given.view(np.uint32), (65535.0, 2.0**32 - 1)  # Pillow reads it as signed
    values = np.nan_to_num(given.astype(np.float32))
    largest = float(values.max())
    scale = next((scale for scale in scales if largest <= scale), largest)
    if tags.get(Base.PhotometricInterpretation) == WHITE_IS_ZERO:
        values = scale - values
    grey = Image.fromarray(np.clip(values * (255 / scale), 0, 255).round().astype(np.uint8))
    if "transparency" in image.info:  # of a PNG: one grey that is transparent
        grey.putalpha(Image.fromarray(255 * (given != image.info["transparency"]).astype(np.uint8)))
    return grey


def _array(image):
    """uint8 [H, W, 3] or [H, W]; in strips, as Pillow's whole copies of a large picture are costly."""
    array = np.empty((image.height, image.width, 3)[: 3 if image.mode == "RGB" else 2], np.uint8)
    rows = max(1, 2**24 // image.width)
    for top in range(0, image.height, rows):
        array[top : top + rows] = image.crop((0, top, image.width, min(top + rows, image.height)))
    return array


def _image(frame, with_alpha):
    image = Image.fromarray(frame.pixels)
    if frame.alpha is None:
        return image
    alpha = Image.fromarray(frame.alpha)
    if with_alpha:
        image.putalpha(alpha)
        return image
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=alpha)
    return paper


def _check_memory(path, image, count):
    """Pillow's copies and the arrays: about 11 bytes a pixel, 24 with alpha; 3 or 4 and as many for each more frame."""
    needed = 24 if image.has_transparency_data else 11
    if image.width * image.height * (needed + 8 * (count - 1)) > free_memory():
        raise _too_large(path, image.size)


def _check_pixels(path, image, most):
    if image.format not in TELLS_SIZE:
        raise AllaprimaError(f"{path} is of the format {image.format}, which is not taken here: use one of {PICTURES}")
    if max(image.width, SMALLEST) * max(image.height, SMALLEST) > most:  # a thin one takes as much work
        raise AllaprimaError(
            f"{path} is {image.width}x{image.height}, which takes more than the {most / 1e6:g} megapixels that are "
            "allowed here: make it smaller."
        )


def _too_large(path, size):
    return AllaprimaError(
        f"{path} is {size[0]}x{size[1]}, more than the free memory holds: close other programs, "
        "or make the picture smaller."
    )


def free_memory() -> int:
    """Bytes of memory that are free for this process; a container has less than its machine (cgroup v2)."""
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError, KeyError):  # another system, or no limit ("max")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(counts["inactive_file"]))  # cached files make room when it is needed
    return free


def to_jpeg(picture: np.ndarray, side: int | None = None, quality=95) -> bytes:
    """A picture, uint8 [H, W, 3], as a JPEG with full colour resolution, scaled down to at most `side` pixels a side."""
    image = Image.fromarray(picture)
    if side:
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
