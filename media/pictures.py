"""Picture files in and out: what Pillow reads becomes uint8 RGB, and what the file knew besides goes along."""

import io
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.core.files import check_output, write_atomically

ORIENTATION = 0x0112  # the EXIF tag
ANIMATIONS = {"GIF", "WEBP", "PNG", "AVIF"}  # more than one image in another kind of file is previews, layers or pages
WITH_ALPHA = {"PNG", "WEBP", "TIFF", "AVIF", "GIF", "TGA", "ICO", "JPEG2000", "QOI", "ICNS"}
LONGEST_SIDE = {"WEBP": 16383, "JPEG": 65535, "GIF": 65535, "AVIF": 65535}
PICTURES = ".jpg .png .webp .tif .avif .gif .bmp"  # offered to who asks for another
QUALITY = {  # what save() is told; the rest is Pillow's own
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"quality": 95, "method": 4},
    "AVIF": {"quality": 90},
    "TIFF": {"compression": "tiff_lzw"},
    "GIF": {"disposal": 2},
}


@dataclass
class Picture:
    """What is in a picture file: frames (one, unless it is animated), and what is kept beside the pixels."""

    path: Path
    frames: list  # of (pixels uint8 [H, W, 3] RGB, alpha uint8 [H, W] or None, milliseconds shown)
    about: dict = field(default_factory=dict)  # what save() takes: exif, icc_profile, dpi, loop ...
    first_of: int = 1  # how many frames the file has


def is_picture(path) -> bool:
    """Does the name end like a picture that Pillow reads?"""
    Image.init()
    format = Image.registered_extensions().get(Path(path).suffix.lower())
    return format in Image.OPEN and format not in {"PDF", "MPEG"}


def picture_format(path) -> str:
    """Pillow's name of the format that `path` ends in; AllaprimaError when Pillow writes no such file."""
    Image.init()
    suffix = Path(path).suffix.lower()
    format = Image.registered_extensions().get(suffix)
    if format not in Image.SAVE:
        raise AllaprimaError(
            f"{path} can't be written: {suffix or 'no ending'} is not a kind of picture that can. Use one of {PICTURES}"
        )
    return format


def read_picture(path, animated=True) -> Picture:
    """Read a picture: upright, its pixels as 8-bit RGB in the file's own RGB space, alpha apart, metadata kept.

    CMYK, Lab and grey with a colour profile become sRGB; 16-bit and float are scaled to 8. With `animated` False only
    the first frame of an animation is read. Raises AllaprimaError: not there, empty, truncated, no picture, or larger
    than the memory that is free.
    """
    path = Path(path)
    with _no_pixel_limit(), _open(path) as image:
        try:
            first_of = getattr(image, "n_frames", 1) if image.format in ANIMATIONS else 1
            count = first_of if animated else 1
            _check_memory(path, image.size, count)
            about = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
            about |= {key: image.info[key] for key in ("loop", "default_image") if key in image.info and count > 1}
            frames = []
            for number in range(count):
                if count > 1:
                    image.seek(number)
                image.load()
                duration = image.info.get("duration", 0)
                frame, exif, profile = upright_rgb(image)
                pixels, alpha = _arrays(frame)
                frames.append((pixels, alpha, duration))
                if number == 0:
                    about |= {"exif": exif} if exif else {}
                    about |= {"icc_profile": profile} if profile else {}
        except AllaprimaError:
            raise
        except MemoryError as error:
            raise _too_large(path, image.size) from error
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            raise _damaged(path, error) from error
    return Picture(path, frames, about, first_of)


def write_picture(path, picture: Picture) -> None:
    """Write a picture in the format that `path` ends in, whole or not at all.

    An animation stays one where the format has them, else its first frame is written. Where the format has no alpha,
    the picture is laid on white. Raises AllaprimaError when it can't be written.
    """
    format = picture_format(path)
    height, width = picture.frames[0][0].shape[:2]
    longest = LONGEST_SIDE.get(format)
    if longest and max(height, width) > longest:
        raise AllaprimaError(
            f"{path} can't be written: {format} holds at most {longest} pixels a side, and this is "
            f"{width}x{height}. Write a .png or .tif."
        )
    settings = QUALITY.get(format, {}) | picture.about
    if len(picture.frames) > 1 and format in ANIMATIONS:
        rest = [_image(*frame[:2], format) for frame in picture.frames[1:]]
        durations = [round(frame[2]) for frame in picture.frames]
        settings |= {"save_all": True, "append_images": rest, "duration": durations}
    elif "disposal" in settings:
        del settings["disposal"]
    # Encoded in memory: of a full disk, Pillow's encoders tell no reason, and the one of JPEG 2000 never comes back.
    encoded = io.BytesIO()
    try:
        _image(*picture.frames[0][:2], format).save(encoded, format, **settings)
    except MemoryError as error:
        raise _too_large(path, (width, height)) from error
    except Exception as error:  # each of them has its own
        raise AllaprimaError(f"{path} can't be written as {format}: {error}. Write a .png.") from error
    write_atomically(path, encoded.getbuffer())


def write_rgb(path, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] to `path` in the format that its ending says, whole or not at all."""
    write_picture(path, Picture(path, [(pixels, None, 0)]))


def check_picture_output(path) -> Path:
    """`files.check_output`, and the ending must be that of a picture format which can be written."""
    path = Path(path)
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise AllaprimaError(f"{path} has no ending of a picture: write to a .png or .jpg file.")
    return check_output(path)


def read_photo(file, size: int) -> np.ndarray:
    """A picture file as uint8 [H, W, 3], scaled down to a long side of at most `size` pixels."""
    image = read_rgb(file)
    if max(image.size) > size:
        image = ImageOps.contain(image, (size, size), Image.Resampling.LANCZOS)
    return np.array(image)


def picture_files(folder: Path) -> list[Path]:
    """The files in a folder, nested too, whose ending is that of a picture, in order."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in Image.registered_extensions())


def read_rgb(file, short_side=None) -> Image.Image:
    """A picture file as an upright RGB image; JPEGs are decoded at a reduced size that still has `short_side` pixels.

    Raises AllaprimaError when there is no such file or it is not a picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if short_side:
                    scale = short_side / min(image.size)
                    image.draft("RGB", tuple(int(side * scale) for side in image.size))
                return upright_rgb(image)[0].convert("RGB")
    except FileNotFoundError as error:
        raise AllaprimaError(f"{file} does not exist: check the spelling of the path.") from error
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise AllaprimaError(f"{file} can't be read as a picture: give a JPEG, PNG or another picture file.") from error


@contextmanager
def _no_pixel_limit():
    """Pillow's limit is 179 megapixels; the limit here is the memory that is free, see _check_memory."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about broken metadata
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _open(path):
    if path.is_dir():
        raise AllaprimaError(f"{path} is a folder. Give a picture inside it.")
    try:
        empty = path.stat().st_size == 0
        return Image.open(path)
    except UnidentifiedImageError as error:
        if empty:
            raise AllaprimaError(f"{path} is empty. Copy or save it again.") from error
        raise AllaprimaError(f"{path} is not a picture that can be read. Use one of {PICTURES}") from error
    except OSError as error:
        if error.errno is None:
            raise _damaged(path, error) from error
        raise explain_os_error(error, path) from error
    except Exception as error:  # as above
        raise _damaged(path, error) from error


def upright_rgb(image):
    """(the frame as upright RGB or RGBA, its EXIF bytes without an orientation, its profile where it is an RGB one)."""
    profile = image.info.get("icc_profile")
    try:
        exif = image.getexif()
        turned = ORIENTATION in exif
        if turned:
            image = ImageOps.exif_transpose(image)
        exif.pop(ORIENTATION, None)
        exif = exif.tobytes() if len(exif) else None
    except Exception:  # broken EXIF is no reason to refuse a picture
        exif = None
    rgba = image.has_transparency_data
    if profile and _colour_space(profile) not in ("RGB", None) and not rgba:
        image, profile = _to_srgb(image, profile), None
    image = _eight_bits(image)
    if image.mode == "LAB":
        image = _to_srgb(image, None)
    image = (
        image
        if image.mode in ("RGB", "RGBA") and rgba == (image.mode == "RGBA")
        else image.convert("RGBA" if rgba else "RGB")
    )
    return image, exif, profile if profile and _colour_space(profile) == "RGB" else None


def _colour_space(profile):
    from PIL import ImageCms

    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except Exception:  # a broken profile is dropped, the picture is not
        return None


def _to_srgb(image, profile):
    from PIL import ImageCms

    image = _eight_bits(image)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:  # the profile is of another kind than the picture
        return image


def _eight_bits(image):
    """16-bit, 32-bit and float grey as 8-bit grey: by the first full scale that holds the largest value."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    scales = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    largest = float(values.max())
    scale = next((scale for scale in scales if largest <= scale), largest)
    return Image.fromarray(np.clip(values * (255 / scale), 0, 255).round().astype(np.uint8))


def _arrays(image):
    """RGB or RGBA -> (pixels, alpha or None); in strips, as Pillow's whole copies of a large picture are costly."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if image.mode == "RGBA" else None
    for top in range(0, image.height, 256):
        rows = slice(top, min(top + 256, image.height))
        strip = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        pixels[rows] = strip[..., :3]
        if alpha is not None:
            alpha[rows] = strip[..., 3]
    return pixels, alpha


def _image(pixels, alpha, format):
    image = Image.fromarray(pixels)
    if alpha is None:
        return image
    if format in WITH_ALPHA:
        image.putalpha(Image.fromarray(alpha))
        return image
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=Image.fromarray(alpha))
    return paper


def _check_memory(path, size, count):
    """Pillow's copy and the arrays: about 11 bytes a pixel at the most, and 3 or 4 for every further frame."""
    free = free_memory()
    if free is not None and size[0] * size[1] * (11 + 8 * (count - 1)) > free:
        raise _too_large(path, size)


def _damaged(path, error):
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return AllaprimaError(f"{path} is damaged or cut short ({reason}): copy or save it again.")


def _too_large(path, size):
    return AllaprimaError(
        f"{path} is {size[0]}x{size[1]}, more than the free memory holds: close other programs, "
        "or make the picture smaller."
    )


def free_memory() -> int | None:
    """Bytes of memory that are free for this process; None where the system doesn't tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None
    try:  # a container has less than its machine
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return free
