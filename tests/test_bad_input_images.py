"""Bad pictures, models and outputs: one sentence, exit code 2, nothing half-written."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from allaprima.commands import app as cli
from allaprima.core.files import MARK
from allaprima.infer import jobs
from allaprima.media import pictures as images
from allaprima.media.pictures import read_picture
from conftest import PHOTOS, make_model

CHELSEA = PHOTOS / "chelsea.jpg"


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """Run the command line in process: it must end with one sentence with `says` in it, exit by 2, and write nothing.

    begun: it may say what it is about to write before.
    """

    def run(*arguments, says, begun=False):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["allaprima", *map(str, arguments)])
        monkeypatch.setattr(cli.console, "_width", 10_000, raising=False)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        told = capsys.readouterr()
        assert stop.value.code == 2
        lines = [line for line in told.err.splitlines() if line.strip()]
        assert lines[-1].startswith("error: ") and told.out == "" and (begun or len(lines) == 1), told
        assert says in lines[-1]
        assert sorted(tmp_path.rglob("*")) == before
        return lines[-1]

    return run


def broken_pictures(folder):
    data = CHELSEA.read_bytes()
    png = folder / "whole.png"
    Image.open(CHELSEA).save(png)
    return {
        "missing.jpg": (None, "does not exist"),
        "empty.jpg": (b"", "empty.jpg is empty. Copy"),
        "short.jpg": (data[: len(data) // 2], "cut short"),
        "short.png": (png.read_bytes()[:20000], "cut short"),
        "header.jpg": (data[:60], ""),
        "text.jpg": (b"Dear diary, " * 40, "not a picture"),
        "model.png": (b"\x08\x07\x12\x04test", "not a picture"),
        "notes.txt": (b"a note", ""),
    }


@pytest.mark.parametrize(
    "name", ["missing.jpg", "empty.jpg", "short.jpg", "short.png", "header.jpg", "text.jpg", "model.png", "notes.txt"]
)
def test_pictures_that_are_none(tmp_path, tiny_model, refused, name):
    data, says = broken_pictures(tmp_path)[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    assert name in refused("stylize", tmp_path / name, "-m", tiny_model, "-o", tmp_path / "out.jpg", says=says)


def test_folders_with_nothing_in_them(tmp_path, tiny_model, refused):
    (tmp_path / "empty").mkdir()
    refused("stylize", tmp_path / "empty", "-m", tiny_model, says="no picture and no video")
    (tmp_path / "empty" / "notes.txt").write_text("a note")
    refused("stylize", tmp_path / "empty", "-m", tiny_model, "-o", tmp_path / "out", says="no picture and no video")


def test_models_that_are_none(tmp_path, tiny_model, refused):
    import onnx

    data = tiny_model.read_bytes()
    renamed = onnx.load(tiny_model)
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "out"
    fixed = onnx.load(tiny_model)
    fixed.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 480
    newer = onnx.load(tiny_model)
    newer.opset_import[0].version = 999
    cases = {
        "missing.onnx": (None, "does not exist"),
        "empty.onnx": (b"", "is empty"),
        "short.onnx": (data[: len(data) // 2], "cut short"),
        "shorter.onnx": (data[:5], "cut short"),
        "photo.onnx": (CHELSEA.read_bytes(), "not an ONNX file"),
        "text.onnx": (b"hello", "not an ONNX file"),
        "renamed.onnx": (renamed.SerializeToString(), "-> out uint8 [N, H, W, 3]"),
        "fixed.onnx": (fixed.SerializeToString(), "one size only"),
        "newer.onnx": (newer.SerializeToString(), "can't open"),
    }
    for name, (content, says) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert name in refused("stylize", CHELSEA, "-m", tmp_path / name, "-o", tmp_path / "out.jpg", says=says)
    refused("stylize", CHELSEA, "-m", tmp_path, "-o", tmp_path / "out.jpg", says="is a folder")
    refused("stylize", CHELSEA, "-m", "no-such-style", "-o", tmp_path / "out.jpg", says="no style 'no-such-style'")
    refused("models", tmp_path / "short.onnx", says="cut short")
    refused("bench", "-m", tmp_path / "short.onnx", says="cut short")


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_model_cut_anywhere_is_refused_or_whole(tmp_path, tiny_model, cut):
    from allaprima.core.errors import AllaprimaError
    from allaprima.infer.stylizer import Stylizer

    data = tiny_model.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: len(data) * cut // 40])
    with pytest.raises(AllaprimaError) as error:
        Stylizer(path)
    assert "\n" not in str(error.value) and "cut.onnx" in str(error.value)


def test_options_that_make_no_sense(tmp_path, tiny_model, refused):
    out = ["-m", tiny_model, "-o", tmp_path / "out.jpg"]
    refused("stylize", CHELSEA, *out, "-s", "1.5", says="0 to 1")
    refused("stylize", CHELSEA, *out, "--provider", "abacus", says="no provider 'abacus'")
    refused("stylize", CHELSEA, *out, "--threads", "-1", says="threads")
    refused("stylize", CHELSEA, *out, "--foreign", "0..2", says="0..1, 0..255")
    refused("bench", "-m", tiny_model, "--size", "large", says="large is not a size")
    refused("bench", "-m", tiny_model, "--runs", "0", says="runs must be")


def test_outputs_that_cannot_be_written(tmp_path, tiny_model, refused):
    (tmp_path / "file").write_text("in the way")
    here = ["stylize", CHELSEA, "-m", tiny_model, "-o"]
    refused(*here, tmp_path / "file" / "out.jpg", says="out.jpg")
    refused(*here, tmp_path / "out.xyz", says="no ending of a picture")
    refused(*here, tmp_path / "out", says="no ending")
    refused(*here, "/proc/nowhere/out.jpg", says="/proc/nowhere/out.jpg")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "in" / "a.png")
    refused("stylize", tmp_path / "in", "-m", tiny_model, "-o", tmp_path / "file", says="is a file")
    refused("stylize", tmp_path / "in" / "a.png", "-m", tiny_model, "-o", tmp_path / "in" / "a.png", says="is an input")
    refused("stylize", tmp_path / "in", "-m", tiny_model, "-o", tmp_path / "in", says="is an input")


@pytest.mark.parametrize("suffix", ["jpg", "jp2"])
def test_a_full_disk(tmp_path, tiny_model, refused, monkeypatch, suffix):
    """The disk takes the first kilobyte, and then no more; what was there before is untouched."""

    def write_bytes(path, data):
        with path.open("wb") as file:
            file.write(data[:1024])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / f"out.{suffix}"
    target.write_bytes(MARK.encode())
    monkeypatch.setattr(type(target), "write_bytes", write_bytes)
    refused("stylize", CHELSEA, "-m", tiny_model, "-o", target, says="The disk is full", begun=True)
    assert target.read_bytes() == MARK.encode()


def test_a_full_disk_stops_a_folder_at_once(tmp_path, tiny_model, monkeypatch):
    from allaprima.core.errors import AllaprimaError

    calls = []

    def full(path, picture):
        calls.append(path)
        raise AllaprimaError("The disk is full") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs, "write_picture", full)
    with pytest.raises(AllaprimaError, match="The disk is full"):
        jobs.stylize(PHOTOS, tmp_path / "out", tiny_model)
    assert len(calls) == 1


def test_what_a_format_cannot_hold(tmp_path, tiny_model, refused, monkeypatch):
    Image.new("RGB", (16500, 16)).save(tmp_path / "long.png")
    refused(
        "stylize",
        tmp_path / "long.png",
        "-m",
        tiny_model,
        "-o",
        tmp_path / "out.webp",
        says="at most 16383",
        begun=True,
    )


def test_a_picture_larger_than_the_memory(tmp_path, tiny_model, refused, monkeypatch):
    """A PNG of a few hundred bytes may claim any size."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2_000_000, 1_000_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    out = ["-m", tiny_model, "-o", tmp_path / "out.png"]
    refused("stylize", tmp_path / "bomb.png", *out, says="2000000x1000000, more than the free memory")
    monkeypatch.setattr(images, "free_memory", lambda: 1_000_000)
    refused("stylize", CHELSEA, *out, says="more than the free memory")


def test_20000x20000_is_read_without_a_word(tmp_path):
    """400 megapixels of a flat picture: above Pillow's own limit, and not above this one."""
    Image.new("1", (20000, 20000), 1).save(tmp_path / "flat.png")
    if images.free_memory() < 400e6 * 11:
        pytest.skip("this machine has no memory for it")
    pixels = read_picture(tmp_path / "flat.png").frames[0][0]
    assert pixels.shape == (20000, 20000, 3) and pixels[::999, ::999].min() == 255
    assert Image.MAX_IMAGE_PIXELS is not None  # what Pillow allows elsewhere in the process is as it was


def test_one_pixel_is_a_picture(tmp_path, tiny_model, monkeypatch):
    Image.new("RGB", (1, 1), (10, 200, 30)).save(tmp_path / "dot.png")
    monkeypatch.setattr(sys, "argv", ["allaprima", "stylize", str(tmp_path / "dot.png"), "-m", str(tiny_model)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (None, 0) and Image.open(tmp_path / "dot-tiny.png").size == (1, 1)


def test_ctrl_c_leaves_nothing(tmp_path, tiny_model, monkeypatch):

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jobs.stylize(CHELSEA, tmp_path / "out.jpg", tiny_model)
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_says_it_in_one_line(tmp_path):
    """The real thing, in a process of its own."""
    command = [sys.executable, "-m", "allaprima", "stylize", tmp_path / "no.jpg", "-m", tmp_path / "no.onnx"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"error: {tmp_path / 'no.onnx'} does not exist. Check the spelling of the path.\n"


def test_a_model_of_other_weights_is_another_style(tmp_path):
    """The tests above use one model: prove that pictures come from the model that is given."""
    from allaprima.infer.stylizer import Stylizer

    photo = np.asarray(Image.open(CHELSEA).convert("RGB"))
    one, other = (Stylizer(make_model(tmp_path / f"{seed}.onnx", seed=seed))(photo) for seed in (1, 2))
    assert np.abs(one.astype(int) - other).mean() > 5
