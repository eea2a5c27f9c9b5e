"""What each picture format holds, and how Pillow's save() wants it."""

from pathlib import Path

from PIL import Image, PngImagePlugin
from PIL.ExifTags import IFD, Base

from allaprima.core.errors import AllaprimaError
from allaprima.media.picture_kinds import PICTURES
from allaprima.media.picture_metadata import XMP_KEY

HOLDS = {  # what each format holds besides RGB pixels; a format that is not named holds nothing
    "JPEG": {"exif", "xmp", "icc_profile", "dpi", "comment"},
    "MPO": {"exif", "xmp", "icc_profile", "dpi", "comment"},
    "PNG": {"alpha", "frames", "exif", "xmp", "icc_profile", "dpi", "comment", "text"},
    "WEBP": {"alpha", "frames", "exif", "xmp", "icc_profile"},
    "AVIF": {"alpha", "frames", "exif", "xmp", "icc_profile"},
    "TIFF": {"alpha", "pages", "exif", "xmp", "icc_profile", "dpi"},
    "GIF": {"alpha", "frames", "comment"},
    "BMP": {"dpi"},
    "TGA": {"alpha"},
    "JPEG2000": {"alpha"},
    "QOI": {"alpha"},
}
SETTINGS = {  # what save() is told; the rest is Pillow's own
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "MPO": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"quality": 95, "method": 4},
    "AVIF": {"quality": 90},
    "TIFF": {"compression": "tiff_lzw"},
}
# They hold no RGB, or not of any size.
NOT_WRITTEN = frozenset({"BLP", "BUFR", "GRIB", "HDF5", "ICNS", "ICO", "MSP", "PALM", "SPIDER", "WMF", "XBM"})
LONGEST_SIDE = {"WEBP": 16383, "JPEG": 65535, "GIF": 65535, "AVIF": 65535}
JPEG_SEGMENT = 65533  # bytes that one segment of a JPEG holds; XMP has 29 bytes of name in front


def picture_format(path) -> str:
    """Pillow's name of the format that `path` ends in; AllaprimaError when no such picture can be written."""
    Image.init()
    format = Image.registered_extensions().get(Path(path).suffix.lower())
    if format not in Image.SAVE.keys() - NOT_WRITTEN:
        raise AllaprimaError(
            f"{path} has no ending of a picture that can be written. Let its name end in one of {PICTURES}"
        )
    return format


def time_settings(format: str, about: dict, frames: list) -> dict:
    """What save() is told about an animation: durations in milliseconds, which GIF has in hundredths of a second."""
    if format == "TIFF":
        return {}
    unit = 10 if format == "GIF" else 1
    durations = [unit * round(frame.duration / unit) for frame in frames]
    if format == "GIF":
        return {"duration": durations, "disposal": 2} | ({"loop": about["loop"]} if "loop" in about else {})
    if format == "PNG" and about.get("default_image"):
        return {"duration": durations[1:], "default_image": True, "loop": about.get("loop", 1)}
    return {"duration": durations, "loop": about.get("loop", 1)}


def metadata_settings(format: str, about: dict) -> dict:
    """What save() is told about the encoding, and the metadata in `about` as it wants them."""
    return SETTINGS.get(format, {}) | _metadata(format, about)


def _metadata(format, about):
    if format in ("JPEG", "MPO"):
        if "comment" in about:
            about["comment"] = about["comment"].encode()
        limits = {"exif": JPEG_SEGMENT, "xmp": JPEG_SEGMENT - 29, "comment": JPEG_SEGMENT}
        if len(about.get("exif", b"")) > JPEG_SEGMENT:
            about["exif"] = _without_maker_note(about["exif"])
        return {key: value for key, value in about.items() if len(value) <= limits.get(key, len(value))}
    if format == "TIFF" and about.keys() & {"exif", "xmp"}:
        tags = Image.Exif()
        if "exif" in about:
            tags.load(about.pop("exif"))
        if "xmp" in about:
            tags[Base.XMLPacket] = about.pop("xmp")
        # Pillow writes the directories of EXIF, those of the photo and of GPS, into uncompressed files alone.
        return about | {"exif": tags} | ({"compression": "raw"} if tags.keys() & {IFD.Exif, IFD.GPSInfo} else {})
    if format == "PNG":
        chunks, comment = PngImagePlugin.PngInfo(), about.pop("comment", None)
        for key, value in (({"Comment": comment} if comment else {}) | about.pop("text", {})).items():
            chunks.add_text(key, value)
        if "xmp" in about:
            chunks.add_itxt(XMP_KEY, about.pop("xmp").decode(errors="replace"))
        return about | {"pnginfo": chunks}
    return about


def _without_maker_note(exif):
    """Camera makers put anything in there, of any size."""
    tags = Image.Exif()
    tags.load(exif)
    tags.get_ifd(Base.ExifOffset).pop(Base.MakerNote, None)
    return tags.tobytes()
