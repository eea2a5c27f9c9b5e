"""Colour profiles (ICC): what a picture looks like, as sRGB, and sRGB in a picture's own colours again."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SAME = 3  # levels of 255: a profile that changes no colour by more is one of the many that mean sRGB
NOT_OF_ITS_KIND = (ImageCms.PyCMSError, ValueError)  # what a profile that does not fit the pixels ends in


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """(the image, without alpha and of any 8-bit mode, as sRGB; the profile if it is one of RGB, to write it with).

    Without a profile, or with one that is broken or of another kind than the image, RGB and grey are taken for sRGB.
    """
    if image.mode == "LAB":
        lab = _transform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB")
        return lab.apply(image), None
    space = _colour_space(profile)
    if space == "GRAY" and image.mode in ("1", "L"):
        return _applied(image.convert("L"), profile) or image.convert("RGB"), None
    if space == "CMYK" and image.mode == "CMYK":
        return _applied(image, profile) or image.convert("RGB"), None
    image = image if image.mode == "RGB" else image.convert("RGB")
    if space != "RGB":
        return image, None
    if _is_srgb(profile):
        return image, profile
    converted = _applied(image, profile)
    return (converted, profile) if converted else (image, None)


def from_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """An sRGB image (RGB or RGBA) in the colours of `profile`; None when the profile only works the other way."""
    if _is_srgb(profile):
        return image
    try:
        back = _between(profile, "RGB", False)
    except NOT_OF_ITS_KIND:
        return None
    converted = back.apply(image if image.mode == "RGB" else image.convert("RGB"))
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


@lru_cache(8)
def _colour_space(profile):
    try:
        opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile if profile else None
        return opened and opened.xcolor_space.strip()
    except Exception:  # a broken profile is dropped, the picture is not
        return None


@lru_cache(8)
def _is_srgb(profile):
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    shown = _applied(Image.fromarray(colours), profile)
    return shown is not None and np.abs(np.asarray(shown).astype(int) - colours).max() <= SAME


def _applied(image, profile):
    """The image as sRGB, None when the profile is of another kind than the image."""
    try:
        return _between(profile, image.mode, True).apply(image)
    except NOT_OF_ITS_KIND:
        return None


@lru_cache(8)
def _between(profile, mode, towards_srgb):
    own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    return _transform(own, srgb, mode) if towards_srgb else _transform(srgb, own, "RGB")


def _transform(source, target, mode):
    return ImageCms.buildTransform(source, target, mode, "RGB")
