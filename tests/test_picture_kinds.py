"""What a file is follows from its content; a picture is seen as it looks; frames and pages stay together."""

import io
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned
from allaprima.infer.jobs import stylize
from allaprima.media.pictures import (
    Picture,
    Still,
    check_picture_output,
    is_picture,
    picture_files,
    picture_kind,
    read_picture,
    read_rgb,
    write_picture,
    write_rgb,
)
from picture_files import GREY, WIDE, opened, raw_photo, second_reader, tiff


def srgb(path):
    """A file as it looks, worked out by Pillow's own conversion: int [H, W, 3]."""
    image = opened(path)
    profile, image = image.info.get("icc_profile"), image.convert("RGB")
    if profile:
        own, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, own, target, outputMode="RGB")
    return np.asarray(image).astype(int)


# --- kinds


def test_a_picture_is_known_by_its_content(tmp_path, photo):
    image = Image.fromarray(photo)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "PSD"):
        if kind in Image.SAVE:
            image.save(tmp_path / kind, kind)
            image.save(tmp_path / f"{kind}.mp4", kind)
            assert picture_kind(tmp_path / kind) == picture_kind(tmp_path / f"{kind}.mp4") == kind
            assert read_picture(tmp_path / kind).frames[0].pixels.shape == photo.shape
    image.save(tmp_path / "photo.tga")  # has no signature: its ending speaks for it
    assert picture_kind(tmp_path / "photo.tga") == "TGA"


def test_other_files_are_not_pictures(tmp_path):
    for name, content in {"a": b"Dear diary", "b.doc": b"P1 is a plan", "c": b"%PDF-1.7", "d.mp4": b"\0" * 99}.items():
        (tmp_path / name).write_bytes(content)
        assert picture_kind(tmp_path / name) is None and not is_picture(tmp_path / name)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8")
    assert is_picture(tmp_path / "cut.jpg")  # a damaged one, which reading says
    assert picture_kind(tmp_path) is None and picture_kind(tmp_path / "missing.jpg") is None


def test_the_pictures_in_a_folder_are_found_without_endings_too(tmp_path, photo):
    (tmp_path / "nested.jpg").mkdir()
    Image.fromarray(photo).save(tmp_path / "nested.jpg" / "scan", "PNG")
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("a note")
    assert picture_files(tmp_path) == [tmp_path / "a.jpg", tmp_path / "nested.jpg" / "scan"]


RAW_TAGS = {"photo.dng": {50706: (1, [1, 4, 0, 0])}, "PHOTO.NEF": {}, "no ending": {}}
SIGNATURES = {
    "photo.cr2": b"II*\0\x10\0\0\0CR\2\0",
    "photo.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "photo.raf": b"FUJIFILMCCD-RAW 0201",
    "photo.orf": b"IIRO\x08\0\0\0",
    "photo.rw2": b"IIU\0\x18\0\0\0",
}


@pytest.mark.parametrize("name", [*RAW_TAGS, *SIGNATURES])
def test_raw_photos_are_refused_in_one_sentence(tmp_path, photo, name):
    """Their first image is a preview of a few pixels, which is not what was photographed."""
    path = tmp_path / name
    if name in RAW_TAGS:
        raw_photo(path, photo[:60, :80], RAW_TAGS[name])
        assert opened(path).size == (80, 60)  # what Pillow sees
    else:
        path.write_bytes(SIGNATURES[name].ljust(4096, b"\0"))
    assert picture_kind(path) == "RAW" and is_picture(path)
    with pytest.raises(AllaprimaError, match="is a RAW photo.*export it as a JPEG or TIFF"):
        read_picture(path)


def test_heic_is_read_by_the_extra_and_names_it_when_it_is_missing(tmp_path, photo, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 6
    pillow_heif.from_pillow(Image.fromarray(photo)).save(tmp_path / "photo.heic", quality=95, exif=exif.tobytes())
    assert picture_kind(tmp_path / "photo.heic") == "HEIF"
    picture = read_picture(tmp_path / "photo.heic")
    upright = np.rot90(photo, -1)
    assert np.abs(picture.frames[0].pixels.astype(int) - upright).mean() < 4
    write_picture(tmp_path / "out.jpg", picture)
    again = opened(tmp_path / "out.jpg").getexif()
    assert again[0x010F] == "a maker" and again.get(0x0112, 1) == 1
    assert ".heic" not in Image.registered_extensions()  # nothing is changed for others who use Pillow
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(AllaprimaError, match=r"is HEIC.*pip install '.\[heic\]'"):
        read_picture(tmp_path / "photo.heic")


def test_a_truncated_jpeg_says_so_to_training_too(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    data = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(data[: len(data) // 2])
    for read in (read_picture, read_rgb, lambda path: read_rgb(path, 64)):
        with pytest.raises(AllaprimaError, match="photo.jpg is damaged or cut short .*copy or save it again"):
            read(tmp_path / "photo.jpg")


def test_a_tiff_of_a_rare_kind_says_so(tmp_path):
    tiff(tmp_path / "rare.tif", (8, 8), [bytes(8 * 8 * 15)], {258: [24] * 5, 262: [5], 277: [5]})
    with pytest.raises(AllaprimaError, match="starts as TIFF, but is damaged or of a rare kind"):
        read_picture(tmp_path / "rare.tif")


def test_pillows_limit_is_never_changed(tmp_path, photo, monkeypatch):
    """It is one for the process: others rely on it while pictures are read here, in as many threads as there are."""
    Image.fromarray(photo).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # far less than the photo has
    seen = set()
    monkeypatch.setattr("allaprima.media.pictures.free_memory", lambda: seen.add(Image.MAX_IMAGE_PIXELS) or 10**9)
    threads = [threading.Thread(target=read_picture, args=(tmp_path / "photo.png",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {1000} and read_picture(tmp_path / "photo.png").frames[0].pixels.shape == photo.shape


# --- what is seen


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "16-bit"])
def test_hidden_colours_have_no_influence(tmp_path, photo, mode):
    hole = np.full(photo.shape[:2], 255, np.uint8)
    hole[40:200, 50:250] = 0
    read = []
    for number, hidden in enumerate([(0, 255, 0), (255, 255, 255)]):
        pixels = np.where(hole[..., None] == 0, np.array(hidden, np.uint8), photo)
        image = Image.fromarray(pixels)
        path = tmp_path / f"{number}.{'tif' if mode == 'PA' else 'png'}"
        if mode == "PA":
            image = Image.fromarray(np.where(hole == 0, 200 + number, 9).astype(np.uint8), "P").convert("PA")
            image.putpalette([value for entry in range(256) for value in (entry, entry, entry)])
        if mode == "16-bit":  # one grey that is transparent
            grey = np.where(hole == 0, 0, 257 * np.maximum(1, np.asarray(image.convert("L")).astype(np.uint16)))
            Image.fromarray(grey.astype(np.uint16)).save(path, transparency=0)
        else:
            image.putalpha(Image.fromarray(hole))
            (image if mode == "PA" else image.convert(mode)).save(path)
        frame = read_picture(path).frames[0]
        assert (frame.alpha == hole).all()
        read.append(frame.pixels)
        assert (np.asarray(read_rgb(path)) == frame.pixels).all()
    assert (read[0] == read[1]).all()


@settings(max_examples=30)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    seen=st.sets(st.integers(0, 4899), min_size=1, max_size=9),
)
def test_what_is_hidden_takes_the_colour_of_what_is_seen(tmp_path_factory, width, height, colour, seen):
    """However few pixels are seen, of one colour: all are of it, and by no more than rounding off."""
    path = tmp_path_factory.mktemp("alpha") / "in.png"
    pixels = np.zeros((height, width, 4), np.uint8)
    for place in seen:
        pixels[place // 70 % height, place % 70 % width] = (*colour, 255)
    Image.fromarray(pixels).save(path)
    filled = read_picture(path).frames[0].pixels
    assert np.abs(filled.astype(int) - colour).max() <= 4
    visible = pixels[..., 3] == 255
    assert (filled[visible] == colour).all()


def test_at_strength_0_what_is_seen_and_alpha_are_as_they_were(tmp_path, photo, tiny_model):
    alpha = np.tile(np.linspace(0, 255, photo.shape[1]).astype(np.uint8), (photo.shape[0], 1))
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "in.png")
    stylize(tmp_path / "in.png", tmp_path / "out.png", tiny_model, strength=0)
    again = np.asarray(opened(tmp_path / "out.png"))
    assert (again[..., 3] == alpha).all() and (again[alpha >= 8][:, :3] == photo[alpha >= 8]).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif", "gif", "bmp", "jp2", "tga", "ppm"])
def test_a_wide_gamut_is_seen_as_it_looks_and_written_so(tmp_path, photo, suffix):
    Image.fromarray(photo).save(tmp_path / "in.png", icc_profile=WIDE)
    looks = srgb(tmp_path / "in.png")
    assert np.abs(looks - photo).mean() > 5  # the profile says something
    picture = read_picture(tmp_path / "in.png")
    assert np.abs(picture.frames[0].pixels.astype(int) - looks).max() <= 1
    assert (np.asarray(read_rgb(tmp_path / "in.png")) == picture.frames[0].pixels).all()
    out = tmp_path / f"out.{suffix}"
    write_picture(out, picture)
    assert np.abs(srgb(out) - looks).mean() < {"gif": 8, "webp": 4, "avif": 4, "jpg": 3}.get(suffix, 1.5)
    kept = suffix in ("jpg", "png", "webp", "avif", "tif")
    assert opened(out).info.get("icc_profile") == (WIDE if kept else None)


def test_pixels_of_srgb_are_not_touched(tmp_path, photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photo).save(tmp_path / "in.png", icc_profile=profile)
    write_picture(tmp_path / "out.png", read_picture(tmp_path / "in.png"))
    again = opened(tmp_path / "out.png")
    assert (np.asarray(again) == photo).all() and again.info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_profile_of_grey_is_applied(tmp_path, photo, mode):
    """Linear grey, which looks far brighter than its numbers: 0.5 is 188 in sRGB."""
    grey = np.full((20, 30), 128, np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "in.png", icc_profile=GREY)
    picture = read_picture(tmp_path / "in.png")
    assert np.abs(picture.frames[0].pixels.astype(int) - 188).max() <= 2 and "icc_profile" not in picture.about


def test_grey_with_a_profile_of_rgb(tmp_path, photo):
    Image.fromarray(photo).convert("L").save(tmp_path / "in.jpg", icc_profile=WIDE)
    picture = read_picture(tmp_path / "in.jpg")
    assert np.abs(picture.frames[0].pixels.astype(int) - srgb(tmp_path / "in.jpg")).max() <= 1


# --- frames and pages


def three_pages(path, photo):
    pages = [Image.fromarray(photo[: 60 + 20 * n, : 90 + 10 * n]) for n in range(3)]
    pages[1] = pages[1].convert("L")
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return pages


def test_pages_stay_pages_in_tiff_and_are_said_elsewhere(tmp_path, photo, tiny_model):
    pages = three_pages(tmp_path / "in.tif", photo)
    stylize(tmp_path / "in.tif", tmp_path / "out.tif", tiny_model, strength=0)
    again = opened(tmp_path / "out.tif")
    assert again.n_frames == 3
    for number, page in enumerate(pages):
        again.seek(number)
        assert (np.asarray(again.convert("RGB")) == np.asarray(page.convert("RGB"))).all()
    events = []
    stylize(tmp_path / "in.tif", tmp_path / "out.png", tiny_model, listener=events.append)
    said = [event.text for event in events if isinstance(event, Warned)]
    assert any("has 3 pages: only the first is used. Write a .tif" in text for text in said)
    assert opened(tmp_path / "out.png").size == pages[0].size


def test_a_reduced_image_in_a_tiff_is_not_a_page(tmp_path, photo):
    image = Image.fromarray(photo)
    small = image.resize((40, 30))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    image.save(tmp_path / "in.tif", save_all=True, append_images=[small])
    assert opened(tmp_path / "in.tif").n_frames == 2
    picture = read_picture(tmp_path / "in.tif")
    assert picture.first_of == len(picture.frames) == 1 and picture.left_out is None


def moving(photo, count=3):
    return [Image.fromarray(np.roll(photo[:64, :80], 9 * n, axis=1)) for n in range(count)]


@pytest.mark.parametrize("target", ["gif", "webp", "png"])
@pytest.mark.parametrize("source", ["gif", "webp", "png"])
@pytest.mark.parametrize("plays", ["once", "for ever", "three times"])
def test_how_often_an_animation_plays_is_kept(tmp_path, photo, source, target, plays):
    frames = moving(photo)
    loop: dict = {"once": {} if source == "gif" else {"loop": 1}, "for ever": {"loop": 0}, "three times": {"loop": 3}}[
        plays
    ]
    frames[0].save(tmp_path / f"in.{source}", save_all=True, append_images=frames[1:], duration=100, **loop)
    write_picture(tmp_path / f"out.{target}", read_picture(tmp_path / f"in.{source}"))
    want = {"once": None if target == "gif" else 1, "for ever": 0, "three times": 3}[plays]
    assert opened(tmp_path / f"out.{target}").info.get("loop") == want


@pytest.mark.parametrize("target, shown", [("png", 4), ("webp", 3), ("gif", 3), ("jpg", 1)])
def test_the_default_image_of_an_apng(tmp_path, photo, target, shown):
    """It is not a frame of the animation, has no time, and is all that other formats of one picture show."""
    poster, *frames = moving(photo, 4)
    poster.save(
        tmp_path / "in.png", save_all=True, append_images=frames, default_image=True, duration=[100, 200, 300], loop=0
    )
    write_picture(tmp_path / f"out.{target}", read_picture(tmp_path / "in.png", into=None if shown > 1 else "JPEG"))
    again = opened(tmp_path / f"out.{target}")
    assert getattr(again, "n_frames", 1) == shown
    durations = []
    for number in range(shown):
        again.seek(number)
        again.load()
        durations.append(again.info.get("duration"))
    assert shown == 1 or durations[-3:] == [100, 200, 300]
    if target in ("png", "jpg"):
        again.seek(0)
        assert np.abs(np.asarray(again.convert("RGB")).astype(int) - np.asarray(poster)).mean() < 4


# --- conveniences and refusals


def test_write_rgb_and_formats_that_hold_no_picture(tmp_path, photo):
    write_rgb(tmp_path / "out.png", photo)
    assert (second_reader(tmp_path / "out.png") == photo).all()
    for name in ("out.xbm", "out.ico", "out.txt", "out"):
        with pytest.raises(AllaprimaError, match="has no ending of a picture that can be written"):
            check_picture_output(tmp_path / name)


def test_a_profile_that_only_works_one_way_is_left_out(tmp_path, photo):
    write_picture(tmp_path / "out.png", Picture(tmp_path, [Still(photo)], {"icc_profile": GREY}))
    again = opened(tmp_path / "out.png")
    assert "icc_profile" not in again.info and (np.asarray(again) == photo).all()
