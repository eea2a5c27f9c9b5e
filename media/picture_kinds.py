"""Which kind of picture a file is: judged by its content, and by its ending only where the content cannot tell."""

import io
import os
import struct
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, TiffImagePlugin

from allaprima.core.errors import AllaprimaError, explain_os_error

PICTURES = ".jpg .png .webp .tif .avif .gif .bmp"  # offered to who asks for another
ANIMATIONS = {"GIF", "WEBP", "PNG", "AVIF"}  # more than one image in another kind of file is previews, layers or pages
# Pillow opens these too, but they are drawings that other programs must render, bare containers, or no pictures.
NOT_READ = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC"}
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # ISO/IEC 23008-12
# RAW photos that are not TIFF inside: of Fujifilm, Sigma, Minolta, Olympus (two byte orders) and Panasonic.
RAW_SIGNATURES = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF
SUBFILE_TYPE, SUB_IFDS, PHOTOMETRIC, DNG_VERSION = 254, 330, 262, 50706  # tags of TIFF 6.0, TIFF-EP and DNG
COLOUR_FILTER_ARRAY, LINEAR_RAW = 32803, 34892  # photometric interpretations of sensor data


def is_picture(path) -> bool:
    """Is this file a picture, judged by its content? The ending decides where there is no such file or it is damaged.

    RAW photos and HEIC are pictures too, though reading one may end in a sentence that says what to do.
    """
    return picture_kind(path) is not None or has_picture_ending(path)


def has_picture_ending(path) -> bool:
    """Does the name end like a picture that Pillow reads?"""
    return _kind_of_ending(path) in Image.OPEN.keys() - NOT_READ


def picture_kind(path) -> str | None:
    """Pillow's name of the format that the content of a file is in, "HEIF", "RAW", or None: not a picture."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(32)
            if _is_raw(file, head):
                return "RAW"
            if _is_heif(head):
                return "HEIF"
            image, _ = _identified(file, head, path)
            return image.format if image else None
    except Exception:  # a folder, no permission, or so damaged that a reader stumbles
        return None


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder, nested too, in order; only files with the ending of no picture are looked into."""
    return sorted(
        file for file in folder.rglob("*") if os.path.isfile(file) and (has_picture_ending(file) or picture_kind(file))
    )


@contextmanager
def opened(path: Path, content: bytes | None = None):
    """The file as an image of Pillow, its header read, its pixels not. Raises AllaprimaError when it is not a picture.

    content: what is in the file, where there is none on disk; `path` then only stands in the messages.
    `Image.open` refuses more than 179 megapixels by a number that is one for the whole process. So the readers that
    Pillow registers are asked here directly, and the memory that is free sets the limit.
    """
    with _file(path) if content is None else io.BytesIO(content) as file:
        head = file.read(32)
        if not head:
            raise AllaprimaError(f"{path} is empty. Copy or save it again.")
        if _is_raw(file, head):
            raise AllaprimaError(
                f"{path} is a RAW photo, which must be developed first: export it as a JPEG or TIFF "
                "with your camera's or photo program."
            )
        if _is_heif(head):
            with _heif_image(file, path) as image:
                yield image
            return
        try:
            image, refused = _identified(file, head, path)
        except Exception as error:  # readers raise OSError, ValueError and more when a header makes no sense
            raise damaged(path, error) from error
        if image is None and refused:
            raise AllaprimaError(
                f"{path} can't be read: it starts as {refused[0]}, but is damaged or of a rare kind ({refused[1]}). "
                "Save it again as a .png or an ordinary .jpg."
            )
        if image is None:
            raise AllaprimaError(f"{path} is not a picture that can be read. Use one of {PICTURES}")
        with image:
            yield image


def _file(path):
    if os.path.isdir(path):
        raise AllaprimaError(f"{path} is a folder. Give a picture inside it.")
    try:
        return path.open("rb")
    except OSError as error:
        raise explain_os_error(error, path) from error


def damaged(path, error) -> AllaprimaError:
    """The sentence about a picture whose reader gave up."""
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return AllaprimaError(f"{path} is damaged or cut short ({reason}): copy or save it again.")


def _identified(file, head, path):
    """(the image or None, (the format whose signature fits but whose reader refused, its reason) or None)."""
    Image.init()
    ending, refused = _kind_of_ending(path), None
    for kind in Image.ID:
        reader, accepts = Image.OPEN[kind]
        # The formats without a signature take almost any file: their ending must speak for them.
        if kind in NOT_READ or (accepts(head) is not True if accepts else kind != ending):
            continue
        try:
            file.seek(0)
            return reader(file, os.fspath(path)), None
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # what Image.open takes for "not mine"
            refused = refused or (kind, str(error).splitlines()[0] if str(error) else type(error).__name__)
    return None, refused


def _kind_of_ending(path):
    Image.init()
    return Image.registered_extensions().get(Path(path).suffix.lower())


def _is_heif(head):
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and b"avif" not in head


def _heif_image(file, path):
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise AllaprimaError(
            f"{path} is HEIC, which needs the extra heic. In the checkout: pip install '.[heic]'. Or export it as a JPEG."
        ) from error
    try:
        file.seek(0)
        return HeifImageFile(file, os.fspath(path))
    except Exception as error:
        raise damaged(path, error) from error


def _is_raw(file, head):
    """Sensor data, of which a reader of TIFF sees the small preview alone."""
    if head.startswith(RAW_SIGNATURES) or head[4:11] == b"ftypcrx" or head[:4] + head[8:10] == b"II*\0CR":
        return True
    if not head.startswith(TIFF_SIGNATURES):
        return False
    try:
        tags = _directory(file, head)
        if DNG_VERSION in tags or (SUB_IFDS in tags and tags.get(SUBFILE_TYPE, 0) & 1):
            return True
        places = tags.get(SUB_IFDS, ())
        directories = [tags] + [
            _directory(file, head, at) for at in (places if isinstance(places, tuple) else (places,))
        ]
        return any(tags.get(PHOTOMETRIC) in (COLOUR_FILTER_ARRAY, LINEAR_RAW) for tags in directories)
    except Exception:  # a broken TIFF: its reader says so
        return False


def _directory(file, head, at=None):
    tags = TiffImagePlugin.ImageFileDirectory_v2(head[:16] if head[2:4] in (b"+\0", b"\0+") else head[:8])
    file.seek(tags.next if at is None else at)
    tags.load(file)
    return tags
