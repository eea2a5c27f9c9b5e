"""Faults of a painting, seen before a training."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from allaprima.media.paintings import faults, is_framed
from conftest import PHOTOS
from training import STYLE

PICTURES = [STYLE, *sorted(PHOTOS.glob("*.jpg"))[:6]]


@pytest.mark.parametrize("part", [0.01, 0.05, 0.12])
@pytest.mark.parametrize("colour", ["white", "black", "saddlebrown"])
def test_a_margin_is_seen_whatever_it_surrounds(colour, part):
    for path in PICTURES:
        picture = Image.open(path)
        assert is_framed(ImageOps.expand(picture, max(2, round(part * min(picture.size))), colour)), path.name


def test_a_grained_frame_is_seen():
    random = np.random.default_rng(0)
    picture = ImageOps.expand(Image.open(STYLE), 60, "saddlebrown")
    grain = Image.fromarray(random.normal(128, 30, picture.size[::-1]).clip(0, 255).astype(np.uint8))
    framed = Image.blend(picture, grain.convert("RGB"), 0.2)
    framed.paste(Image.open(STYLE), (60, 60))
    assert is_framed(framed)


def test_pictures_without_a_frame_are_left_in_peace():
    assert [path.name for path in PICTURES if is_framed(Image.open(path))] == []
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    assert not is_framed(Image.fromarray(noise))
    horizon = np.zeros((120, 160, 3), np.uint8)
    horizon[15:] = 200  # one straight edge is a horizon, or a wall
    assert not is_framed(Image.fromarray(horizon))
    assert not is_framed(Image.new("RGB", (1, 1)))


@pytest.mark.parametrize(
    "picture, style_size, words",
    [
        (Image.new("RGB", (900, 700), (40, 90, 200)), 512, ["single colour"]),
        (Image.open(STYLE).resize((120, 90)), 512, ["only 120x90"]),
        (Image.open(STYLE).resize((120, 90)), 128, []),
        (ImageOps.expand(Image.open(STYLE).resize((120, 90)), 9, "white"), 512, ["only 138x108", "crop it off"]),
    ],
)
def test_each_fault_is_a_sentence_with_its_mending(picture, style_size, words):
    said = list(faults(picture, style_size))
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))
