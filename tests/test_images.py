"""Every kind of picture in, the right picture out, with what the file knew besides."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned
from allaprima.infer.jobs import stylize
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import as_rgb, is_picture, picture_format, read_picture, read_rgb, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def write_again(path, source):
    write_picture(path, read_picture(source))
    return Image.open(path)


def close(a, b, levels):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b)).mean() <= levels


@pytest.mark.parametrize(
    "mode, levels",
    [("RGB", 0), ("L", 0), ("1", 0), ("P", 0), ("CMYK", 0), ("YCbCr", 2), ("LAB", 3), ("I;16", 1), ("I", 1), ("F", 1)],
)
def test_every_mode_becomes_the_same_rgb(tmp_path, photo, mode, levels):
    picture = Image.fromarray(photo)
    want = picture if mode not in ("L", "1", "I;16", "I", "F") else picture.convert("L").convert("RGB")
    if mode in ("I;16", "I"):
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        picture = picture if mode == "I;16" else picture.convert("I")
    elif mode == "F":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.float32) / 255)
    elif mode == "LAB":
        lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        picture = ImageCms.applyTransform(picture, lab)
    elif mode in ("1", "P"):
        picture = picture.convert("1") if mode == "1" else picture.quantize(256)
        want = picture.convert("RGB")
    else:
        picture = picture.convert(mode)
    path = tmp_path / "photo.tif"
    picture.save(path)
    pixels, alpha, _ = read_picture(path).frames[0]
    assert pixels.dtype == np.uint8 and pixels.shape == photo.shape and alpha is None
    assert close(pixels, want, levels)


def test_sixteen_bits_use_the_whole_scale(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    pixels = read_picture(tmp_path / "ramp.png").frames[0][0]
    assert pixels.min() == 0 and pixels.max() == 255 and len(np.unique(pixels)) == 256


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, photo, orientation):
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # how a camera held so stores the scene
    stored = Image.fromarray(photo) if back is None else Image.fromarray(photo).transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera"
    stored.save(tmp_path / "photo.png", exif=exif)
    assert (read_picture(tmp_path / "photo.png").frames[0][0] == photo).all()
    again = write_again(tmp_path / "out.jpg", tmp_path / "photo.png")
    assert again.size == (photo.shape[1], photo.shape[0])
    assert again.getexif().get(0x0112, 1) == 1 and again.getexif()[0x010F] == "a camera"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_the_colour_profile_and_resolution_are_kept(tmp_path, photo, suffix):
    Image.fromarray(photo).save(tmp_path / "photo.tif", icc_profile=SRGB, dpi=(300, 300))
    again = write_again(tmp_path / f"out.{suffix}", tmp_path / "photo.tif")
    assert again.info["icc_profile"] == SRGB
    assert suffix in ("webp", "avif") or again.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_profile_that_is_not_of_rgb_is_used_up(tmp_path):
    """Lab stands for the device spaces whose profiles can't be re-attached to RGB pixels."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.new("LAB", (20, 20), (255, 128, 128)).save(tmp_path / "white.tif", icc_profile=lab)
    picture = read_picture(tmp_path / "white.tif")
    assert picture.frames[0][0].min() >= 253 and "icc_profile" not in picture.about


def test_a_broken_profile_is_dropped_and_the_picture_kept(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.png", icc_profile=b"no profile at all")
    picture = read_picture(tmp_path / "photo.png")
    assert (picture.frames[0][0] == photo).all() and "icc_profile" not in picture.about


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "tRNS"])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_is_kept(tmp_path, photo, kind, suffix, tiny_model):
    picture = Image.fromarray(photo).convert("RGBA")
    hole = np.full(photo.shape[:2], 255, np.uint8)
    hole[50:100, 60:160] = 0
    if kind == "P":
        picture = Image.fromarray(np.where(hole == 0, 7, 3).astype(np.uint8), "P")
        picture.putpalette([i for n in range(256) for i in (n, n, n)])
        picture.save(tmp_path / "in.png", transparency=7)
    elif kind == "tRNS":
        painted = photo.copy().clip(1, 255)
        painted[hole == 0] = 0
        Image.fromarray(painted).save(tmp_path / "in.png", transparency=(0, 0, 0))
    else:
        picture.putalpha(Image.fromarray(hole))
        picture.convert(kind).save(tmp_path / "in.png")
    stylize(tmp_path / "in.png", tmp_path / f"out.{suffix}", tiny_model)
    again = Image.open(tmp_path / f"out.{suffix}")
    assert again.mode == "RGBA" and (np.asarray(again)[..., 3] == hole).all()


def test_without_alpha_in_the_format_the_picture_lies_on_white(tmp_path):
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(tmp_path / "in.png")
    again = write_again(tmp_path / "out.jpg", tmp_path / "in.png")
    assert again.mode == "RGB" and np.asarray(again).min() >= 253


def animation(path, photo, count=5, **settings):
    frames = [Image.fromarray(np.roll(photo[:64, :80], 9 * n, axis=1)) for n in range(count)]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=[40 + 20 * n for n in range(count)], loop=3, **settings
    )
    return frames


@pytest.mark.parametrize("source", ["gif", "png", "webp"])
@pytest.mark.parametrize("target", ["gif", "png", "webp", "avif"])
def test_animations_stay_animations(tmp_path, photo, tiny_model, source, target):
    animation(tmp_path / f"in.{source}", photo, **({"lossless": True} if source == "webp" else {}))
    stylize(tmp_path / f"in.{source}", tmp_path / f"out.{target}", tiny_model)
    stylizer, again = Stylizer(tiny_model), Image.open(tmp_path / f"out.{target}")
    frames = read_picture(tmp_path / f"in.{source}").frames
    assert again.n_frames == len(frames) == 5
    assert target == "avif" or again.info["loop"] == 3
    for number, (pixels, _, duration) in enumerate(frames):
        again.seek(number)
        again.load()
        assert again.info["duration"] == duration == 40 + 20 * number
        # The tiny model's picture is noise, which 256 colours and lossy codecs don't hold well: a few levels off,
        # and far nearer to its own frame than to the one before.
        own, other = stylizer(pixels), stylizer(frames[number - 1][0])
        off = [np.abs(np.asarray(again.convert("RGB")).astype(int) - want).mean() for want in (own, other)]
        assert off[0] < 16 and off[0] < off[1] / 2


def test_transparent_animation_frames_do_not_pile_up(tmp_path, tiny_model):
    frames = []
    for n in range(4):
        dot = np.zeros((40, 80, 4), np.uint8)
        dot[10:30, 20 * n : 20 * n + 20] = (200, 40, 40, 255)
        frames.append(Image.fromarray(dot))
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    stylize(tmp_path / "in.gif", tmp_path / "out.gif", tiny_model)
    again = Image.open(tmp_path / "out.gif")
    for n in range(4):
        again.seek(n)
        alpha = np.asarray(again.convert("RGBA"))[..., 3]
        assert (alpha == np.asarray(frames[n])[..., 3]).all()


def test_an_animation_becomes_its_first_frame_where_the_format_holds_one(tmp_path, photo, tiny_model):
    animation(tmp_path / "in.gif", photo)
    events = []
    stylize(tmp_path / "in.gif", tmp_path / "out.jpg", tiny_model, listener=events.append)
    assert any(isinstance(event, Warned) and "5 frames" in event.text for event in events)
    want = Stylizer(tiny_model)(read_picture(tmp_path / "in.gif").frames[0][0])
    assert close(Image.open(tmp_path / "out.jpg"), want, 6)


def test_previews_inside_a_photo_are_not_an_animation(tmp_path, photo):
    """What phones write: an MPO, which ends in .jpg and holds a second, smaller picture."""
    preview = Image.fromarray(photo).resize((32, 24))
    Image.fromarray(photo).save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[preview])
    assert Image.open(tmp_path / "phone.jpg").n_frames == 2
    picture = read_picture(tmp_path / "phone.jpg")
    assert len(picture.frames) == 1 and picture.frames[0][0].shape == photo.shape and picture.first_of == 1


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "jpg", "gif", "avif", "ppm", "tga", "jp2"])
def test_every_common_format_is_written(tmp_path, photo, suffix):
    Image.fromarray(photo).save(tmp_path / "in.png")
    again = write_again(tmp_path / f"out.{suffix}", tmp_path / "in.png")
    levels = {"jpg": 2, "webp": 3, "gif": 12, "avif": 3}.get(suffix, 0)
    assert close(again.convert("RGB"), photo, levels)


def test_which_names_are_pictures():
    assert all(map(is_picture, ["a.jpg", "a.JPEG", "a.png", "a.psd", "b/a.webp"]))
    assert not any(map(is_picture, ["a.mp4", "a.txt", "a", "a.pdf", ".jpg/a", "a.mpg"]))
    with pytest.raises(AllaprimaError, match="no ending"):
        picture_format("a")


@settings(max_examples=60)
@given(
    cut=st.integers(0, 10**6),
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
)
def test_damaged_files_give_a_picture_or_one_sentence(tmp_path_factory, cut, kind, flips):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3)).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    for at, value in flips:
        data[at % len(data)] = value
    path = tmp_path_factory.mktemp("damaged") / f"photo.{kind.lower()}"
    path.write_bytes(data[: cut % (len(data) + 1)])
    try:
        picture = read_picture(path)
    except AllaprimaError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert picture.frames[0][0].dtype == np.uint8 and picture.frames[0][0].shape[2] == 3


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "I;16", "CMYK", "turned"])
def test_an_image_of_pillow_is_seen_as_its_file(tmp_path, photo, kind):
    """What alpha hides is filled in, 16 bits use the whole scale, EXIF turns the picture."""
    picture, settings = Image.fromarray(photo), {}
    match kind:
        case "RGBA" | "LA":
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
            picture = picture.convert(kind)
        case "P":
            picture, settings = picture.quantize(16), {"transparency": 3}
        case "I;16":
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        case "CMYK":
            picture = picture.convert("CMYK")
        case "turned":
            exif = Image.Exif()
            exif[0x0112], settings = 6, {"exif": exif}
    picture.save(tmp_path / "photo.tif" if kind in ("CMYK", "turned") else tmp_path / "photo.png", **settings)
    (path,) = tmp_path.iterdir()
    assert np.array_equal(as_rgb(Image.open(path)), read_rgb(path)) and as_rgb(Image.open(path)).mode == "RGB"


def test_an_image_of_pillow_that_is_cut_short_is_one_sentence(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (tmp_path / "photo.png").write_bytes((tmp_path / "photo.png").read_bytes()[:5000])
    with pytest.raises(AllaprimaError, match=r"The picture is damaged or cut short \(.*\): copy or save it again"):
        as_rgb(Image.open(tmp_path / "photo.png"))
