"""The mark by which allaprima knows its own pictures again, in the place that each format has for such a thing."""

from PIL import Image
from PIL.ExifTags import Base

from allaprima.core.files import MARK


def with_mark(format: str, settings: dict) -> dict:
    """What `save` of Pillow is told, with the mark added. BMP, PPM and the like have no place for it."""
    if format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        exif = Image.Exif()
        if settings.get("exif"):
            exif.load(settings["exif"])
        exif[Base.ProcessingSoftware] = MARK
        return settings | {"exif": exif.tobytes()}
    if format in ("GIF", "JPEG2000"):
        said = settings.get("comment") or ""
        said = said.decode("latin-1") if isinstance(said, bytes) else said
        return settings | {"comment": f"{said} ({MARK})".strip()}
    if format == "TGA":
        return settings | {"id_section": MARK.encode()}
    return settings
