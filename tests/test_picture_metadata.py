"""Every source mode into every format: another program opens it, what describes it is kept, how it was stored is not."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from allaprima.core.errors import AllaprimaError
from allaprima.media.picture_formats import HOLDS, picture_format
from allaprima.media.pictures import Picture, Still, read_picture, write_picture
from picture_files import WIDE, grey16, grey32, opened, phone_exif, planar, second_reader, tiled

FORMATS = ["jpg", "png", "webp", "avif", "tif", "gif", "bmp", "jp2", "tga", "ppm"]
LEVELS = {"jpg": 2, "webp": 4, "avif": 3, "gif": 4}  # mean of 255 that lossy formats may be off, dither apart
STORAGE = {0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0111, 0x0112, 0x0115, 0x0116, 0x0117, 0x0144, 0x0145}
SOURCES = {  # a name that says what is stored -> (mode, file ending, what save() is told)
    "1": ("1", "tif", {}),
    "fax": ("1", "tif", {"compression": "group4"}),
    "L": ("L", "tif", {"compression": "tiff_adobe_deflate"}),
    "LA": ("LA", "tif", {}),
    "P": ("P", "tif", {"compression": "tiff_lzw"}),
    "P gif": ("P", "gif", {}),
    "PA": ("PA", "tif", {}),
    "RGB": ("RGB", "tif", {"compression": "packbits"}),
    "RGB jpg": ("RGB", "jpg", {"exif": phone_exif()}),
    "RGBA": ("RGBA", "png", {"exif": phone_exif()}),
    "RGBA tif": ("RGBA", "tif", {"compression": "tiff_lzw"}),
    "CMYK": ("CMYK", "tif", {}),
    "CMYK jpg": ("CMYK", "jpg", {"exif": phone_exif()}),
    "YCbCr": ("YCbCr", "tif", {}),
    "LAB": ("LAB", "tif", {}),
    "I;16": ("I;16", "tif", {"compression": "tiff_lzw"}),
    "I;16 png": ("I;16", "png", {"exif": phone_exif()}),
    "I": ("I", "tif", {}),
    "F": ("F", "tif", {}),
    "I;16B": (grey16, "tif", {"order": ">"}),
    "white is zero": (grey16, "tif", {"white_is_zero": True}),
    "unsigned 32": (grey32, "tif", {}),
    "planar": (planar, "tif", {}),
    "tiled": (tiled, "tif", {}),
}


def in_mode(picture, mode) -> Image.Image:
    """An RGB picture in any mode of Pillow; with alpha, a hole in it."""
    grey = np.asarray(picture.convert("L"))
    if mode in ("LA", "PA", "RGBA"):
        hole = np.full(grey.shape, 255, np.uint8)
        hole[20:60, 20:60] = 0
        picture = picture.convert("P" if mode == "PA" else mode[:-1]).convert(mode)
        picture.putalpha(Image.fromarray(hole))
        return picture
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.buildTransform(srgb, lab, "RGB", "LAB").apply(picture)
    if mode in ("I;16", "I"):
        deep = Image.fromarray(grey.astype(np.uint16) * 257)
        return deep if mode == "I;16" else deep.convert("I")
    return Image.fromarray(grey.astype(np.float32) / 255) if mode == "F" else picture.convert(mode)


@pytest.fixture
def small(photo):
    return photo[:120, 60:220]


def stored(source, folder, photo):
    """(the file, what it looks like): grey sources come from the grey photo."""
    mode, suffix, how = SOURCES[source]
    path, grey = folder / f"in.{suffix}", np.asarray(Image.fromarray(photo).convert("L"))
    if mode in (grey16, grey32):
        return mode(path, grey, **how), np.repeat(grey[..., None], 3, -1)
    if callable(mode):
        return mode(path, photo), photo
    picture = in_mode(Image.fromarray(photo), mode)
    picture.save(path, **how)
    looks = np.repeat(grey[..., None], 3, -1) if mode in ("L", "LA", "I;16", "I", "F") else photo
    return path, np.asarray(picture.convert("RGB")) if mode in ("1", "P", "PA") else looks


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_in_every_format_is_opened_by_another_program(tmp_path, small, source):
    path, looks = stored(source, tmp_path, small)
    picture = read_picture(path)
    Image.fromarray(small).save(tmp_path / "phone.jpg", exif=phone_exif())
    picture.about = read_picture(tmp_path / "phone.jpg").about | picture.about
    seen = picture.frames[0].alpha
    seen = np.ones(small.shape[:2], bool) if seen is None else seen > 0
    assert np.abs(picture.frames[0].pixels.astype(int) - looks)[seen].mean() < 4
    for suffix in FORMATS:
        out = tmp_path / f"out.{suffix}"
        write_picture(out, picture)
        again = second_reader(out)
        assert again.shape == small.shape
        again, painted = (np.where(seen[..., None], pixels, 0) for pixels in (again, picture.frames[0].pixels))
        quarter = [
            cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for pixels in (again, painted)
        ]
        assert np.abs(np.subtract(*quarter, dtype=int)).mean() <= LEVELS.get(suffix, 1), suffix
        if "exif" in HOLDS.get(picture_format(out), ()):
            described = opened(out).getexif()
            assert described[0x010F] == "a maker" and described.get_ifd(0x8825)[2] == (52.0, 31.0, 12.0)
            assert suffix == "tif" or not described.keys() & STORAGE


@pytest.mark.parametrize("target", ["jpg", "png", "webp", "avif", "tif"])
@pytest.mark.parametrize("source", ["jpg", "png", "webp", "avif", "tif"])
def test_what_describes_a_photo_goes_along(tmp_path, small, source, target):
    exif = phone_exif(6, storage=source != "tif")
    Image.fromarray(small).save(tmp_path / f"in.{source}", exif=exif, dpi=(300, 200), icc_profile=WIDE)
    write_picture(tmp_path / f"out.{target}", read_picture(tmp_path / f"in.{source}"))
    again = opened(tmp_path / f"out.{target}")
    exif = again.getexif()
    assert again.size == small.shape[:2] and again.info["icc_profile"] == WIDE  # upright now
    assert (exif[0x010F], exif[0x0110], exif[0x8298]) == ("a maker", "a phone", "a person")
    assert exif.get_ifd(0x8769)[0x9003] == "2026:05:01 10:20:30"
    assert exif.get_ifd(0x8825) == {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)}
    assert exif.get(0x0112, 1) == 1 and not exif.get_ifd(0x8769).keys() & {0xA001, 0xA002, 0xA003}
    if target == "tif":
        assert again.tag_v2[0x0100] == again.width and again.tag_v2[0x0103] == 1
    else:
        assert not exif.keys() & STORAGE
    if source in ("jpg", "png") and target in ("jpg", "png", "tif"):
        assert again.info["dpi"] == pytest.approx((200, 300), abs=0.1)


def test_thumbnails_in_exif_stay_behind(tmp_path, small):
    thumbnail = io.BytesIO()
    Image.fromarray(small).resize((40, 30)).save(thumbnail, "JPEG")
    first = phone_exif()[6:]  # without "Exif\0\0"
    exif = Image.Exif()
    exif.load(first)
    ifd = bytearray(first)
    # IFD1 after the rest: one entry that says how the thumbnail is compressed.
    at = int.from_bytes(first[4:8], "big") if first[:2] == b"MM" else int.from_bytes(first[4:8], "little")
    order = "big" if first[:2] == b"MM" else "little"
    end = at + 2 + 12 * int.from_bytes(first[at : at + 2], order)
    ifd[end : end + 4] = len(ifd).to_bytes(4, order)
    entry = b"".join(n.to_bytes(2, order) for n in (1, 0x0103, 3)) + (1).to_bytes(4, order) + (6).to_bytes(2, order)
    ifd += entry + b"\0\0" + b"\0\0\0\0" + thumbnail.getvalue()
    Image.fromarray(small).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + bytes(ifd))
    assert opened(tmp_path / "in.jpg").getexif().get_ifd(ExifTags.IFD.IFD1)
    write_picture(tmp_path / "out.jpg", read_picture(tmp_path / "in.jpg"))
    again = opened(tmp_path / "out.jpg").getexif()
    assert again[0x010F] == "a maker" and not again.get_ifd(ExifTags.IFD.IFD1)


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description tiff:Orientation="6" tiff:Make="a maker" xmp:Rating="4" exif:PixelXDimension='4032'>
<tiff:Orientation>6</tiff:Orientation><tiff:BitsPerSample><rdf:Seq><rdf:li>8</rdf:li></rdf:Seq></tiff:BitsPerSample>
<dc:creator>a person</dc:creator><xmp:Thumbnails><rdf:Alt/></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("target", ["jpg", "png", "webp", "avif", "tif"])
@pytest.mark.parametrize("source", ["jpg", "png", "webp", "avif", "tif"])
def test_xmp_goes_along_without_what_it_says_of_the_pixels(tmp_path, small, source, target):
    Image.fromarray(small).save(tmp_path / "in.jpg", xmp=XMP)
    if source != "jpg":
        write_picture(tmp_path / f"in.{source}", read_picture(tmp_path / "in.jpg"))
    picture = read_picture(tmp_path / f"in.{source}")
    assert picture.frames[0].pixels.shape == (160, 120, 3)  # turned, as XMP says, and once only
    write_picture(tmp_path / f"out.{target}", picture)
    again = opened(tmp_path / f"out.{target}")
    kept = again.info.get("xmp") or again.info["XML:com.adobe.xmp"].encode()
    assert b'tiff:Make="a maker"' in kept and b"a person" in kept and b'xmp:Rating="4"' in kept
    assert not any(word in kept for word in (b"Orientation", b"BitsPerSample", b"PixelXDimension", b"Thumbnails"))


def test_comments_and_texts_go_along(tmp_path, small):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "somebody")
    text.add_text("Comment", "painted in a café")
    text.add_text("Raw profile type exif", "00")
    Image.fromarray(small).save(tmp_path / "in.png", pnginfo=text)
    for suffix, want in {"jpg": "painted in a café".encode(), "gif": "painted in a café".encode()}.items():
        write_picture(tmp_path / f"out.{suffix}", read_picture(tmp_path / "in.png"))
        assert opened(tmp_path / f"out.{suffix}").info["comment"].startswith(want)  # a GIF has our mark after it
    write_picture(tmp_path / "back.png", read_picture(tmp_path / "out.jpg"))
    assert opened(tmp_path / "back.png").text == {"Comment": "painted in a café"}
    write_picture(tmp_path / "out.png", read_picture(tmp_path / "in.png"))
    assert opened(tmp_path / "out.png").text == {"Author": "somebody", "Comment": "painted in a café"}


def test_metadata_larger_than_a_jpeg_holds_is_no_reason_to_lose_the_picture(tmp_path, small):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif[0x8769] = {0x927C: b"m" * 90000, 0x9003: "2026:05:01 10:20:30"}
    about = {"exif": exif.tobytes(), "xmp": b"x" * 70000, "comment": "c" * 70000}
    write_picture(tmp_path / "out.jpg", Picture(tmp_path, [Still(small)], about))
    again = opened(tmp_path / "out.jpg")
    assert again.size == (160, 120) and again.getexif()[0x010F] == "a maker"
    assert again.getexif().get_ifd(0x8769) == {0x9003: "2026:05:01 10:20:30"}


VALUES = st.one_of(
    st.integers(0, 2**32 - 1),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.floats(0, 1e6),
    st.lists(st.integers(0, 65535), min_size=1, max_size=4).map(tuple),
)
TAGS = st.dictionaries(st.one_of(st.sampled_from(sorted(ExifTags.TAGS)), st.integers(1, 65535)), VALUES, max_size=12)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(first=TAGS, photo=TAGS, source=st.sampled_from(["jpg", "png", "tif"]), junk=st.binary(max_size=40))
def test_any_exif_in_any_format(tmp_path_factory, first, photo, source, junk):
    """Whatever the tags hold, every format is written, opens, and has the pixels: no tag speaks for their storage."""
    exif, folder = Image.Exif(), tmp_path_factory.mktemp("exif")
    for tag, value in first.items():
        exif[tag] = value
    exif[0x8769] = photo
    pixels = np.arange(24 * 20 * 3, dtype=np.uint8).reshape(20, 24, 3)
    try:
        Image.fromarray(pixels).save(folder / f"in.{source}", exif=exif.tobytes() + junk)
    except Exception:  # Pillow itself can't write such tags
        assume(False)
    try:
        picture = read_picture(folder / f"in.{source}")
    except AllaprimaError:
        assert source == "tif"  # where the tags speak for the pixels of the source
        return
    for suffix in ("jpg", "png", "webp", "tif"):
        write_picture(folder / f"out.{suffix}", picture)
        again = opened(folder / f"out.{suffix}")
        again.load()
        assert again.size == picture.frames[0].pixels.shape[1::-1]
        assert again.getexif().get(0x0112, 1) == 1
        if suffix in ("png", "tif"):
            assert (second_reader(folder / f"out.{suffix}") == picture.frames[0].pixels).all()
