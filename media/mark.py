"""The mark by which allaprima knows its own pictures again, in the place that each format has for such a thing."""

from PIL import Image
from PIL.ExifTags import Base

from allaprima.core.files import MARK
from allaprima.media.picture_formats import JPEG_SEGMENT


def with_mark(format: str, settings: dict) -> dict:
    """What `save` of Pillow is told, with the mark added. BMP, PPM and the like have no place for it."""
    if format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        exif = settings.get("exif")
        if not isinstance(exif, Image.Exif):
            given, exif = exif, Image.Exif()
            exif.load(given or b"")
        exif[Base.ProcessingSoftware] = MARK
        if format == "JPEG" and len(exif.tobytes()) > JPEG_SEGMENT:
            return settings  # what the photo said is worth more
        return settings | {"exif": exif if format == "TIFF" else exif.tobytes()}
    if format in ("GIF", "JPEG2000"):
        said = settings.get("comment") or ""
        said = said.decode("latin-1") if isinstance(said, bytes) else said
        return settings | {"comment": f"{said} ({MARK})".strip()}
    if format == "TGA":
        return settings | {"id_section": MARK.encode()}
    return settings
