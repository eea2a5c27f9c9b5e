"""The kernels that paint in browsers, run by node: their pictures are those of ONNX Runtime."""

import shutil
import subprocess

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import allaprima.serve.site
from allaprima.core.contract import Card
from allaprima.infer.library import BUNDLED
from allaprima.infer.stylizer import Stylizer
from allaprima.models.export import export
from allaprima.models.transformer import transformer
from conftest import PHOTOS, ROOT

KERNELS = allaprima.serve.site.WEB / "kernels"
SIZES = [(16, 16), (17, 31), (31, 17), (16, 120), (121, 16), (60, 44), (75, 61), (203, 130), (161, 107)]
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
pytestmark = needs_node


def run(variant, model, output, *photos):
    command = ["node", ROOT / "tests" / "web" / "kernels.mjs", KERNELS, variant, model, output, *photos]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def has_relaxed_simd():
    check = "process.exit(WebAssembly.validate(require('fs').readFileSync(process.argv[1])) ? 0 : 1)"
    return subprocess.run(["node", "-e", check, str(KERNELS / "relaxed.wasm")], timeout=60).returncode == 0


@pytest.fixture
def best(tmp_path):
    """A model file of the larger network, with random weights."""
    torch.manual_seed(0)
    export(transformer("best"), tmp_path / "best.onnx", Card(name="best", architecture="best"))
    return tmp_path / "best.onnx"


def assert_same(variant, model, folder):
    photos = []
    for width, height in SIZES:
        photo = Image.open(PHOTOS / "chelsea.jpg").convert("RGBA").resize((width, height))
        (folder / f"{width}x{height}").write_bytes(photo.tobytes())
        photos.append(f"{folder / f'{width}x{height}'}:{width}:{height}")
    output = folder / variant
    output.mkdir()
    assert run(variant, model, output, *photos) == ""
    stylizer = Stylizer(model)
    for width, height in SIZES:
        shape = (height, width, 4)
        photo, painted = (np.fromfile(at / f"{width}x{height}", np.uint8).reshape(shape) for at in (folder, output))
        assert np.abs(painted[..., :3].astype(int) - stylizer(photo[..., :3])).max() <= 1, (model, width, height)
        assert painted[..., :3].std() > 5 and (painted[..., 3] == 255).all()


@pytest.mark.parametrize("style", sorted(BUNDLED.glob("*.onnx")), ids=lambda path: path.stem)
def test_every_bundled_style_is_painted_alike_at_every_size(style, tmp_path):
    assert_same("simd", style, tmp_path)


def test_the_larger_network_is_painted_alike(best, tmp_path):
    assert_same("simd", best, tmp_path)


def test_fused_multiplication_paints_alike(tmp_path):
    if not has_relaxed_simd():
        pytest.skip("this node has no relaxed SIMD; tests/test_engines.py runs it in Chromium")
    assert_same("relaxed", BUNDLED / "wave.onnx", tmp_path)


@pytest.mark.parametrize("model", [BUNDLED.parent / "reference" / "johnson.onnx", ROOT / "tests" / "format1.onnx"])
def test_other_networks_are_left_to_the_runtime(model, tmp_path):
    assert run("simd", model, tmp_path) == "unsupported\n"


def first(model, kind):
    return next(node for node in model.graph.node if node.op_type == kind)


def constant(model, name):
    return next(each for each in model.graph.initializer if each.name == name)


def another_maker(model):
    model.producer_name = "somebody"


def another_resize(model):
    first(model, "Resize").attribute[0].s = b"asymmetric"


def another_range(model):
    constant(model, first(model, "Clip").input[2]).raw_data = np.float32(120).tobytes()


def another_shuffle(model):
    [node for node in model.graph.node if node.op_type == "Transpose"][1].attribute[0].ints[:] = [0, 1, 4, 3, 2]


def values_that_are_not_raw(model):
    bias = constant(model, first(model, "InstanceNormalization").input[2])
    bias.float_data[:] = np.frombuffer(bias.raw_data, np.float32)
    bias.ClearField("raw_data")


def wrong_dims(model):
    constant(model, first(model, "InstanceNormalization").input[1]).dims[0] = 2**40


def a_loop(model):
    pad = [node for node in model.graph.node if node.op_type == "Pad"][1]
    joined = next(node for node in model.graph.node if pad.input[1] in node.output)
    joined.input[0] = joined.output[0]


CHANGES = [another_maker, another_resize, another_range, another_shuffle, values_that_are_not_raw, wrong_dims, a_loop]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_would_be_painted_wrongly_is_left_to_the_runtime(change, tmp_path):
    model = onnx.load(BUNDLED / "wave.onnx")
    change(model)
    onnx.save(model, tmp_path / "changed.onnx")
    assert run("simd", tmp_path / "changed.onnx", tmp_path) == "unsupported\n"


@pytest.mark.parametrize("bytes_", [b"", b"\x3a\xf5" + b"\xff" * 8 + b"\x01", b"\xff" * 400_000, b"\x00" * 10, b"PK"])
def test_damaged_files_are_left_to_the_runtime(bytes_, tmp_path):
    (tmp_path / "damaged.onnx").write_bytes(bytes_)
    assert run("simd", tmp_path / "damaged.onnx", tmp_path) == "unsupported\n"


def test_a_file_that_was_cut_is_left_to_the_runtime(tmp_path):
    whole = (BUNDLED / "wave.onnx").read_bytes()
    for part in (0.1, 0.37, 0.6, 0.95):
        (tmp_path / "cut.onnx").write_bytes(whole[: int(part * len(whole))])
        assert run("simd", tmp_path / "cut.onnx", tmp_path) == "unsupported\n"
