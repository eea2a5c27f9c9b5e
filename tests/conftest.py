"""What all tests share: the bundled photos, and a model file of a few kilobytes that keeps the contract."""

import io
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

import allaprima.insight  # noqa: F401 - has a folder for matplotlib's list of fonts, for the processes of tests too
from allaprima.commands import share_processor
from allaprima.core.contract import Card
from browsers import chromium, opened  # noqa: F401 - fixtures

# Images for containers often forbid Python to keep what it compiled. Each process that a test starts would compile torch and
# all else anew, for ten seconds or more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts background jobs with Ctrl-C ignored, and what they start inherits it: the tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests run side by side: threads of torch that spin while they wait, as GNU's do by default, make each take four times as long.
share_processor()

# An example that takes long on a busy machine is not a fault: times belong to benchmarks.
hypothesis.settings.register_profile("any time", deadline=None)
hypothesis.settings.load_profile("any time")

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "allaprima"  # its folders: in a checkout links to those at the top, in an archive themselves
PHOTOS = PACKAGE / "train" / "photos"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed goes from a worker to the others as UTF-8, which names of files need not be."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


def make_model(path, strength=True, channels=8, seed=0, **about):
    """Write a contract model to `path`: a stride-2 convolution, instance normalization, ReLU, and the way back up.

    Its weights are random, so the picture is nonsense, but every part of the contract is there: uint8 NHWC in and out,
    any N, H, W, odd ones too, a `strength` unless told otherwise, and a card, in which `about` changes fields.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    def weight(name, *shape, gain):
        return constant(name, (random.standard_normal(shape) * gain).astype(np.float32))

    node = helper.make_node
    initializers = [
        weight("w1", channels, 3, 3, 3, gain=0.01),
        weight("w2", 3, channels, 3, 3, gain=8.0),
        constant("scale", np.ones(channels, np.float32)),
        constant("shift", np.full(channels, 0.3, np.float32)),
        constant("grey", np.full((1, 3, 1, 1), 110, np.float32)),
        constant("twice", np.float32([1, 1, 2, 2])),
        constant("from", np.int64([0, 0])),
        constant("axes", np.int64([2, 3])),
        constant("low", np.float32(0)),
        constant("high", np.float32(255)),
    ]
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["photo"], perm=[0, 3, 1, 2]),
        node("Conv", ["photo", "w1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("InstanceNormalization", ["c1", "scale", "shift"], ["n1"], epsilon=1e-5),
        node("Relu", ["n1"], ["r1"]),
        node(
            "Resize",
            ["r1", "", "twice"],
            ["up"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        node("Shape", ["photo"], ["size"], start=2, end=4),
        node("Slice", ["up", "from", "size", "axes"], ["cut"]),
        node("Conv", ["cut", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Add", ["c2", "grey"], ["painted"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])]
    result = "painted"
    if strength:
        inputs.append(helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1]))
        nodes += [
            node("Sub", ["painted", "photo"], ["difference"]),
            node("Mul", ["difference", "strength"], ["part"]),
            node("Add", ["photo", "part"], ["blended"]),
        ]
        result = "blended"
    nodes += [
        node("Clip", [result, "low", "high"], ["clipped"]),
        node("Round", ["clipped"], ["rounded"]),
        node("Transpose", ["rounded"], ["nhwc"], perm=[0, 2, 3, 1]),
        node("Cast", ["nhwc"], ["stylized"], to=TensorProto.UINT8),
    ]
    outputs = [helper.make_tensor_value_info("stylized", TensorProto.UINT8, ["N", "H", "W", 3])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    thumbnail = io.BytesIO()
    Image.new("RGB", (32, 32), (40, 60, 160)).save(thumbnail, "JPEG")
    card = Card("tiny", "tiny", "Nobody, 2024", "MIT", thumbnail.getvalue(), {"steps": 0}, losses={"total": 1.0})
    helper.set_model_props(model, replace(card, **about).to_metadata())
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return Path(path)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The path of the small contract model."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture
def photo():
    """A bundled photo at 240x320, uint8 [240, 320, 3] RGB."""
    return np.asarray(Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize((320, 240)))


@pytest.fixture(autouse=True)
def own_styles_folder(tmp_path_factory, monkeypatch):
    """No test sees the styles of whoever runs it: the user's folder is an empty one."""
    folder = tmp_path_factory.mktemp("styles")
    monkeypatch.setenv("ALLAPRIMA_STYLES", str(folder))
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """One thread for torch: small pictures are as quick, and a second one waits for its core on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def inspect(tmp_path, monkeypatch, capsys):
    """Run `allaprima inspect ARGUMENTS -o page.html` in an empty folder: exit code, stderr, the page, the sheet.

    Checks that a page comes with its sheet, holds its pictures, and that nothing half-written stays behind.
    """

    def run(*arguments):
        folder = tmp_path / "out"
        arguments = ["allaprima", "inspect", *arguments, "-o", folder / "page.html"]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        code = 0
        from allaprima.commands.app import main

        try:
            main()
        except SystemExit as exit:
            code = exit.code
        error = " ".join(capsys.readouterr().err.split())
        files = {file.name for file in folder.glob("*")} if folder.exists() else set()
        if code:
            assert not files
            return code, error, None, None
        assert files == {"page.html", "page.png"} and "page.html and " in error and "page.png: the pictures" in error
        page = (folder / "page.html").read_text()
        assert page.startswith("<!doctype html>") and 'src="data:image/' in page and 'src="http' not in page
        sheet = np.asarray(Image.open(folder / "page.png"))
        assert sheet.dtype == np.uint8 and sheet.shape[2] == 3 and sheet.std() > 10
        return code, error, page, sheet

    return run


@pytest.fixture(scope="session")
def ten_photos(tmp_path_factory):
    """Ten photos of 64x64."""
    folder = tmp_path_factory.mktemp("photos")
    for file in sorted(PHOTOS.glob("*.jpg"))[:10]:
        Image.open(file).convert("RGB").resize((64, 64)).save(folder / f"{file.stem}.png")
    return folder


@pytest.fixture
def copied(ten_photos, tmp_path):
    """A copy of the ten photos that a test can add to and take from."""
    target = tmp_path / "photos"
    target.mkdir()
    for file in ten_photos.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target
