"""What describes a picture goes along from file to file; what says how its pixels are stored never does."""

import math
import re

from PIL import Image
from PIL.ExifTags import IFD, Base

# Of the first directory of EXIF 2.32 (and of TIFF 6.0) what describes: all other tags there say how pixels are stored.
DESCRIPTIVE = {
    Base.DocumentName,
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.PageName,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.HostComputer,
    Base.Rating,
    Base.RatingPercent,
    Base.Copyright,
    Base.XPTitle,
    Base.XPComment,
    Base.XPAuthor,
    Base.XPKeywords,
    Base.XPSubject,
}
# Of the directory of the photo: sizes, colours and places in the pixels as they were stored.
STORED = {
    Base.ComponentsConfiguration,
    Base.CompressedBitsPerPixel,
    37396,  # SubjectArea
    Base.SubjectLocation,
    Base.ColorSpace,
    Base.ExifImageWidth,
    Base.ExifImageHeight,
    Base.ExifInteroperabilityOffset,
    Base.Gamma,
}
# The same in XMP, as attributes or as elements: pixels, their thumbnails, and what phones append to a JPEG.
XMP_STORED = (
    r"(?:tiff:(?!Make|Model|Software|Artist|Copyright|ImageDescription|DateTime)\w+|exif:(?:Pixel[XY]Dimension|ColorSpace|"
    r"ComponentsConfiguration|CompressedBitsPerPixel|SubjectArea|SubjectLocation|Gamma)|photoshop:ICCProfile|"
    r"photoshop:ColorMode|xmp:Thumbnails|hdrgm:\w+|GCamera:(?:MotionPhoto|MicroVideo)\w*|Container:Directory)"
)
XMP_PATTERN = re.compile(
    rf"<({XMP_STORED})(?=[\s/>])(?:[^>]*/>|.*?</\1\s*>)|\s{XMP_STORED}\s*=\s*(?:\"[^\"]*\"|'[^']*')".encode(), re.DOTALL
)
XMP_KEY = "XML:com.adobe.xmp"  # of the text chunk of a PNG


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; from 5 on the picture is stored with its sides swapped."""
    try:
        value = image.getexif().get(Base.Orientation)
    except Exception:  # broken EXIF is not a reason to refuse a picture
        value = None
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_metadata(image: Image.Image) -> dict:
    """What a loaded image says about itself besides profile and orientation.

    exif: bytes, with the GPS and without thumbnails; xmp: bytes; dpi: (x, y); comment: str; text: dict of str to str,
    the text chunks of a PNG. What is not there, or broken, is left out.
    """
    info = image.info
    text = {key: str(value) for key, value in info.items() if isinstance(value, str) and _is_text_key(key)}
    comment = info.get("comment") or text.get("Comment")
    about = {
        "exif": _exif(image),
        "xmp": _xmp(info.get("xmp") or info.get(XMP_KEY)),
        "dpi": _dpi(image),
        "comment": _decoded(comment).rstrip("\0") if comment else None,
        "text": text,
    }
    return {key: value for key, value in about.items() if value}


def _is_text_key(key):
    """Not XMP, which goes apart, nor what ImageMagick and file managers store in text: profiles, thumbnails."""
    return isinstance(key, str) and 0 < len(key) < 80 and not key.startswith(("XML:", "Raw profile", "Thumb::"))


def _decoded(value):
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _exif(image):
    """EXIF anew, from its descriptive tags; one that can't be written is left out, and so is EXIF that is broken."""
    try:
        given = image.getexif()
        directories = {
            None: {tag: value for tag, value in given.items() if tag in DESCRIPTIVE},
            IFD.Exif: {tag: value for tag, value in given.get_ifd(IFD.Exif).items() if tag not in STORED},
            IFD.GPSInfo: dict(given.get_ifd(IFD.GPSInfo)),
        }
    except Exception:  # as above
        return None
    exif = Image.Exif()
    for directory, tags in directories.items():
        kept = {tag: value for tag, value in tags.items() if _can_be_written(directory, tag, value)}
        if directory is None:
            for tag, value in kept.items():
                exif[tag] = value
        elif kept:
            exif[directory] = kept
    return exif.tobytes() if len(exif) else None


def _can_be_written(directory, tag, value):
    exif, again = Image.Exif(), Image.Exif()
    exif[tag if directory is None else directory] = value if directory is None else {tag: value}
    try:
        again.load(exif.tobytes())
        return tag in (again if directory is None else again.get_ifd(directory))
    except Exception:
        return False


def _xmp(packet):
    if not packet:
        return None
    return XMP_PATTERN.sub(b"", packet.encode() if isinstance(packet, str) else bytes(packet))


def _dpi(image):
    """Pixels an inch, where they are said: Pillow gives 1 for a TIFF that does not."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if orientation(image) >= 5:
        across, down = down, across
    return (across, down) if all(math.isfinite(value) and 1 < value < 65536 for value in (across, down)) else None
