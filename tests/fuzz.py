"""Mutated inputs through the code that reads them: each must be read, or refused in one sentence that leaves nothing behind.

    python tests/fuzz.py --seconds 3600          # as many as an hour allows, and how many that were
    python tests/fuzz.py --first 4711 --count 1  # one of them again

The seeds are real files of every kind that is read, made here. An input follows from its number alone. A crash of the
process, more than LIMIT seconds, an exception that is not an AllaprimaError, and files that a refusal leaves are found;
such an input is kept in the folder that --keep names.
"""

import argparse
import faulthandler
import json
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from allaprima.core.errors import AllaprimaError
from allaprima.infer import jobs
from allaprima.infer.stylizer import Stylizer
from allaprima.media import pictures
from clips import panned, write_clip
from conftest import PHOTOS, ROOT, make_model
from picture_files import WIDE, grey16, phone_exif, planar, raw_photo, tiled

LIMIT, HANGS = 20, 300  # seconds of the processor that one input may take, and seconds after which it hangs
MEMORY = 6 * 2**30  # bytes of addresses that the process may have: an input that wants more meets a MemoryError
FREE = 2**29  # bytes of memory that seem to be free: a header that says more pixels is refused
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 32, 64, 100, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 2**31 - 1)
INTERESTING += (2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def make_seeds(folder: Path) -> dict[str, bytes]:
    """Small real files of every kind that is read, by file name."""
    photo = Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize((48, 36))
    _pictures(folder, photo)
    for name, codec in (
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.avi", "mpeg4"),
        ("a.ts", "mpeg2video"),
    ):
        sound = [("aac", 44100, "stereo")] if name in ("a.mp4", "a.ts") else []
        write_clip(folder / name, panned(3, 48, 36), sound=sound, codec=codec)
    for number, settings in enumerate(({}, {"strength": False}, {"painting": b"jpeg", "losses": {"total": 1.0}})):
        make_model(folder / f"{number}.onnx", channels=4, **settings)
    shutil.copy(ROOT / "tests" / "format1.onnx", folder / "format1.onnx")
    text = '# a training\nsteps = 100\nlearning_rate = 1e-3\nstyle_layers = { relu1_2 = 1.0, "relu3_3" = 0.5 }\nphotos = "x"\n'
    (folder / "a.toml").write_text(text)
    _checkpoint(folder / "a.safetensors")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _pictures(folder, photo):
    alpha, turned = photo.convert("RGBA"), photo.rotate(90)
    alpha.putalpha(photo.convert("L"))
    photo.save(folder / "a.jpg", exif=phone_exif(6), icc_profile=WIDE, comment=b"words")
    photo.save(folder / "progressive.jpg", progressive=True)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.save(folder / "a.mpo", save_all=True, append_images=[turned])
    alpha.save(folder / "a.png", exif=phone_exif(), icc_profile=WIDE, dpi=(72, 72))
    photo.quantize(16).save(folder / "palette.png", transparency=3)
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "grey16.png")
    for name in ("moving.png", "moving.gif", "moving.webp", "moving.avif", "pages.tif"):
        photo.save(folder / name, save_all=True, append_images=[turned.resize(photo.size)], duration=[40, 80])
    for name in (
        "a.gif",
        "a.bmp",
        "a.ppm",
        "a.tga",
        "a.ico",
        "a.jp2",
        "a.avif",
        "a.qoi",
        "a.dds",
        "a.pcx",
        "a.sgi",
        "a.icns",
        "a.tif",
    ):
        photo.save(folder / name)
    alpha.save(folder / "lossless.webp", lossless=True, exif=phone_exif())
    photo.convert("1").save(folder / "a.xbm")
    for compression in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"):
        photo.save(folder / f"{compression}.tif", compression=compression)
    photo.convert("1").save(folder / "fax.tif", compression="group4")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.float32) / 255).save(folder / "float.tif")
    pixels = np.asarray(photo)
    planar(folder / "planar.tif", pixels)
    tiled(folder / "tiled.tif", pixels, 16)
    grey16(folder / "grey16.tif", pixels[..., 0], ">")
    raw_photo(folder / "raw.dng", pixels, {50706: (1, [1, 4, 0, 0])})
    try:
        import pillow_heif
    except ImportError:  # the extra `heic`
        return
    pillow_heif.from_pillow(photo).save(folder / "a.heic")


def _checkpoint(path):
    import torch

    from allaprima.train.checkpoint import write_checkpoint
    from allaprima.train.settings import Settings

    tensors = {"network.w": torch.arange(12.0).reshape(3, 4), "step": torch.tensor([3])}
    write_checkpoint(path, tensors, {"settings": Settings(steps=6).to_dict(), "style": "0" * 64, "done": 3})


def parts_of(data: bytes, name: str) -> list[tuple[int, int]]:
    """(start, end) of the parts of the file's own structure, whose first bytes tell length and kind."""
    if data.startswith(b"\x89PNG"):
        return _chunks(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    if data.startswith(b"RIFF"):
        return _chunks(data, 12, lambda at: 8 + int.from_bytes(data[at + 4 : at + 8], "little"))
    if data.startswith(b"\xff\xd8"):
        return _chunks(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
    if data[4:8] in (b"ftyp", b"jP  "):
        return _boxes(data, 0, len(data))
    if data[:2] in (b"II", b"MM"):
        return _entries(data, "<" if data[:2] == b"II" else ">")
    if name.endswith(".onnx"):
        return _messages(data, 0, len(data), 5)
    if name.endswith(".safetensors"):
        return [(0, 8), (8, 8 + int.from_bytes(data[:8], "little"))]
    if name.endswith(".toml"):
        return _chunks(data, 0, lambda at: data.find(b"\n", at) + 1 - at)
    return [(0, min(64, len(data)))]


def _chunks(data, at, length):
    parts = []
    while 0 <= at < len(data) and length(at) > 0:
        parts.append((at, min(at + length(at), len(data))))
        at = parts[-1][1]
    return parts


def _boxes(data, start, end):
    """The boxes of ISO 14496-12, those inside of others too."""
    parts = _chunks(data[:end], start, lambda at: int.from_bytes(data[at : at + 4], "big"))
    for at, stop in list(parts):
        if data[at + 4 : at + 8] in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"meta", b"iprp", b"ipco", b"jp2h"):
            parts += _boxes(data, at + (12 if data[at + 4 : at + 8] == b"meta" else 8), stop)
    return parts


def _entries(data, order):
    """The entries of a TIFF's first directory."""
    (at,) = struct.unpack_from(order + "I", data, 4) if len(data) >= 8 else (0,)
    count = struct.unpack_from(order + "H", data, at)[0] if at + 2 <= len(data) else 0
    return [(0, 8), *((at + 2 + 12 * k, at + 14 + 12 * k) for k in range(count) if at + 14 + 12 * k <= len(data))]


def _messages(data, start, end, depth):
    """The fields of a protobuf message, and what may be messages inside."""
    from allaprima.infer.modelfile import BYTES, fields

    parts, at = [], start
    try:
        for _, kind, raw, body in fields(data[start:end]):
            parts.append((at, at + len(raw)))
            if kind == BYTES and depth and len(body):
                parts += _messages(data, at + len(raw) - len(body), at + len(raw), depth - 1)
            at += len(raw)
    except ValueError:
        pass
    return parts


def mutated(seeds: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """(file name, content) of the input with this number."""
    dice = random.Random(number)
    name = dice.choice(sorted(seeds))
    data = bytearray(seeds[name])
    if name.endswith(".onnx") and dice.random() < 0.7:
        return name, _other_model(data, dice)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 5, 10))):
        data = _once(data, name, seeds, dice)
    return name, bytes(_checksummed(data) if data.startswith(b"\x89PNG") and dice.random() < 0.9 else data)


def _once(data, name, seeds, dice):
    parts = parts_of(bytes(data), name) or [(0, len(data))]
    start, end = dice.choice(parts)
    head = dice.randrange(start, min(end, start + 48) or 1) if end > start else start
    way = dice.randrange(10)
    if way <= 3:  # a number in the head of a part
        size, order = dice.choice((1, 2, 4, 4, 8)), dice.choice(("little", "big"))
        number = dice.choice((*INTERESTING, dice.getrandbits(8 * size))) % 2 ** (8 * size)
        data[head : head + size] = number.to_bytes(size, order)
    elif way == 4 and data:  # a bit anywhere
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif way == 5:  # a part is gone
        del data[start:end]
    elif way == 6:  # a part comes twice
        data[end:end] = data[start:end]
    elif way == 7:  # a part of another file
        other = seeds[dice.choice([one for one in sorted(seeds) if Path(one).suffix == Path(name).suffix])]
        first, last = dice.choice(parts_of(other, name) or [(0, len(other))])
        data[start:end] = other[first:last]
    elif way == 8:  # cut short
        del data[dice.randrange(len(data) + 1) :]
    else:  # noise
        length = dice.choice((1, 4, 32, 200))
        data[head : head + length] = dice.randbytes(length)
    return data


def _other_model(data, dice):
    """A model with other values in it, and still protobuf."""
    model = onnx.load_from_string(bytes(data))
    for _ in range(dice.choice((1, 1, 2, 4))):
        message = model
        while inner := [m for _, value in message.ListFields() for m in _messages_in(value)]:
            message = dice.choice(inner)
            if dice.random() < 0.15:
                break
        name, value = dice.choice([(field.name, value) for field, value in message.ListFields()] or [("", None)])
        if isinstance(value, int | float) and not isinstance(value, bool):
            with suppress(ValueError):
                setattr(message, name, dice.choice((*INTERESTING, -1, dice.randrange(30))))
        elif isinstance(value, str | bytes) and value:
            names = [name for node in model.graph.node for name in node.output[:1]]
            other = dice.choice([*names, "Loop", "Tile", "Expand", "Div", ""])
            setattr(message, name, value[: dice.randrange(len(value))] if isinstance(value, bytes) else other)
        elif name and hasattr(value, "append") and len(value):
            place = dice.randrange(len(value))
            if isinstance(value[place], int) and dice.random() < 0.7:
                with suppress(ValueError):
                    value[place] = dice.choice((*INTERESTING, -1))
            elif dice.random() < 0.5:
                value.append(value[place])
            else:
                del value[place]
    return model.SerializeToString()


def _messages_in(value):
    several = value if hasattr(value, "append") else [value]
    return [one for one in several if hasattr(one, "ListFields")]


def _checksummed(data):
    """A PNG whose chunks have the right checksums again: else nothing behind the first one is read."""
    for start, end in parts_of(bytes(data), "a.png"):
        if end - start >= 12:
            data[end - 4 : end] = zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big")
    return data


class Echo:
    """In the place of a Stylizer: the picture itself. What networks do is not what is tried here."""

    provider, path, threads = "cpu", Path("echo.onnx"), 1

    def __init__(self, *_):
        pass

    def __call__(self, image, controls=None, progress=None):
        return image


@cache
def photo():
    return np.asarray(Image.open(PHOTOS / "coffee.jpg").convert("RGB").resize((40, 24)))


def read(path: Path, output: Path) -> None:
    """Give one file to the code that reads its kind."""
    if path.suffix == ".onnx":
        Stylizer(path, "cpu", 1)(photo())
    elif path.suffix == ".toml":
        from allaprima.train.settings import make_settings

        make_settings("quick", path)
    elif path.suffix == ".safetensors":
        from allaprima.train.checkpoint import read_checkpoint

        read_checkpoint(path)
    else:
        jobs.stylize(
            path, output / f"out{'.mp4' if path.suffix in ('.mp4', '.mkv', '.webm', '.avi', '.ts') else '.png'}"
        )


def trial(name: str, data: bytes, folder: Path) -> str:
    """What becomes of one input: "read", "refused", or what is wrong with how it was taken."""
    path, output = folder / name, folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    path.write_bytes(data)
    try:
        read(path, output)
        return "read"
    except AllaprimaError as error:
        left = [str(file) for file in output.rglob("*") if file.is_file()]
        if left:
            return f"leaves {left}"
        return "refused" if "\n" not in str(error) and 20 < len(str(error)) < 600 else f"says {str(error)!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        path.unlink()


def work(folder: Path, first: int, count: int) -> None:
    """Inputs `first` to `first + count`, in this process; a line for each that is wrong, and one at the end."""
    jobs.Stylizer = Echo  # pyright: ignore[reportAttributeAccessIssue]
    pictures.free_memory = lambda: FREE
    warnings.filterwarnings("ignore", module="PIL")  # as the command line does
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    seeds = {path.name: path.read_bytes() for path in (folder / "seeds").iterdir()}
    for name in ("a.safetensors", "a.mp4"):  # what reads them takes its time to load, which is not the first input's
        trial(name, seeds[name], folder)
    outcomes = Counter()
    for number in range(first, first + count):
        (folder / "current").write_text(str(number))
        faulthandler.dump_traceback_later(HANGS, exit=True)
        signal.setitimer(signal.ITIMER_PROF, LIMIT)  # its signal ends the process
        name, data = mutated(seeds, number)
        outcome = trial(name, data, folder)
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        if outcome not in ("read", "refused"):
            print(json.dumps({"number": number, "name": name, "wrong": outcome}), flush=True)
            outcome = "wrong"
        outcomes[outcome] += 1
    print(json.dumps(outcomes), flush=True)


def run(
    first: int, count: int | None, seconds: float, keep: Path | None, batch: int = 1000
) -> tuple[Counter, list[dict]]:
    """Inputs from `first` on, in processes of their own: what became of them, and the findings."""
    outcomes, findings, ends = Counter(), [], time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "seeds").mkdir()
        seeds, number = make_seeds(folder / "seeds"), first
        while time.monotonic() < ends and (count is None or number < first + count):
            these = batch if count is None else min(batch, first + count - number)
            command = [sys.executable, __file__, "--work", folder, "--first", number, "--count", these]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
            lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            found = [line for line in lines if "wrong" in line and "number" in line]
            if done.returncode:
                last = int((folder / "current").read_text())
                reason = f"ended with {done.returncode}: {done.stderr[-1500:]}"
                found.append({"number": last, "name": mutated(seeds, last)[0], "wrong": reason})
                outcomes["wrong"] += 1
                outcomes["before it"] += last - number
                number = last + 1
            else:
                outcomes.update(lines[-1])
                number += these
            for finding in found:
                print(json.dumps(finding), flush=True)
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{finding['number']}-{finding['name']}").write_bytes(mutated(seeds, finding["number"])[1])
            findings += found
    return outcomes, findings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--count", type=int, help="how many; as many as the seconds allow if not given")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that were taken wrongly")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work, options.first, options.count)
    outcomes, findings = run(options.first, options.count, options.seconds, options.keep)
    print(f"{sum(outcomes.values())} inputs: {dict(outcomes)}; {len(findings)} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
