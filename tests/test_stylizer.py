"""The Stylizer: one model file, pictures in, stylized pictures out; and no torch anywhere near it."""

import os
import subprocess
import sys
import threading

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import allaprima
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.infer import bench
from allaprima.infer.cluster import stylize_archive
from allaprima.infer.stylizer import Stylizer, physical_cores
from conftest import PHOTOS, ROOT, make_model


def test_it_is_what_onnx_runtime_says(tiny_model, photo):
    session = ort.InferenceSession(str(tiny_model), providers=["CPUExecutionProvider"])
    stylizer = allaprima.Stylizer(tiny_model)
    assert (stylizer(photo) == session.run(None, {"image": photo[None], "strength": np.float32([1])})[0][0]).all()
    half = session.run(None, {"image": photo[None], "strength": np.float32([0.5])})[0][0]
    for said in (stylizer(photo, strength=0.5), stylizer(photo, 0.5), stylizer(photo, Controls(0.5))):
        assert (said == half).all()
    assert (stylizer(photo, strength=0) == photo).all() and not (stylizer(photo) == photo).all()


def test_what_the_model_knows(tiny_model):
    stylizer = Stylizer(str(tiny_model))
    card = stylizer.card
    assert stylizer.name == card.name == card.architecture == "tiny" and stylizer.path == tiny_model
    assert stylizer.provider == "cpu" and stylizer.threads == physical_cores()
    assert (card.credit, card.licence, card.settings, card.losses) == (
        "Nobody, 2024",
        "MIT",
        {"steps": 0},
        {"total": 1.0},
    )
    assert card.format == 2 and card.thumbnail and not card.painting


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), batch=st.integers(0, 3))
def test_any_size_from_one_pixel_up(tiny_model, height, width, batch):
    shape = (height, width, 3) if batch == 0 else (batch, height, width, 3)
    image = np.random.default_rng(height * 100 + width).integers(0, 256, shape, np.uint8)
    stylized = Stylizer(tiny_model, threads=1)(image)
    assert stylized.shape == shape and stylized.dtype == np.uint8


def test_a_batch_is_its_pictures(tiny_model, photo):
    stylizer, batch = Stylizer(tiny_model), np.stack([photo, photo[::-1], photo[:, ::-1]])
    assert all((one == stylizer(image)).all() for one, image in zip(stylizer(batch), batch))


def test_views_and_read_only_arrays_are_pictures_too(tiny_model, photo):
    stylizer, view = Stylizer(tiny_model), photo[::2, ::-3]
    view.flags.writeable = False
    assert (stylizer(view) == stylizer(view.copy())).all()


def test_one_stylizer_serves_many_threads(tiny_model, photo):
    stylizer, want, got = Stylizer(tiny_model), Stylizer(tiny_model)(photo), []
    threads = [threading.Thread(target=lambda: got.append(stylizer(photo))) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(got) == 8 and all((one == want).all() for one in got)


def test_a_model_without_strength_is_blended(tmp_path, photo):
    stylizer = Stylizer(make_model(tmp_path / "plain.onnx", strength=False))
    full = stylizer(photo)
    assert (stylizer(photo, strength=0) == photo).all()
    want = photo + 0.25 * (full.astype(float) - photo)
    assert np.abs(stylizer(photo, strength=0.25) - want).max() <= 0.5


@pytest.mark.parametrize(
    "image, says",
    [
        (np.zeros((20, 20, 3), np.float32), "float32"),
        (np.zeros((20, 20), np.uint8), r"\[20, 20\]"),
        (np.zeros((20, 20, 4), np.uint8), r"\[20, 20, 4\]"),
        (np.zeros((0, 20, 3), np.uint8), r"\[0, 20, 3\]"),
        ([[1], [2, 3]], "lists of unlike lengths"),
    ],
)
def test_what_is_no_picture_is_refused(tiny_model, image, says):
    with pytest.raises(AllaprimaError, match=says):
        Stylizer(tiny_model)(image)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "half", True, 10**400])
def test_strength_has_a_range(tiny_model, photo, strength):
    for said in ({"controls": strength}, {"strength": strength}):
        with pytest.raises(AllaprimaError, match="0 to 1"):
            Stylizer(tiny_model)(photo, **said)
    with pytest.raises(AllaprimaError, match="not both"):
        Stylizer(tiny_model)(photo, Controls(), strength=1)


def test_a_file_of_format_1_still_runs(photo):
    """There, `strength` is an optional scalar, and the settings hold the objective and the trainer's path."""
    file = ROOT / "tests" / "format1.onnx"
    stylizer = Stylizer(file)
    session = ort.InferenceSession(file, sess_options=quiet(), providers=["CPUExecutionProvider"])
    half = session.run(None, {"image": photo[None], "strength": np.array(0.5, np.float32)})[0][0]
    assert (stylizer(photo, strength=0.5) == half).all() and (stylizer(photo, strength=0) == photo).all()
    assert (stylizer(photo) == session.run(None, {"image": photo[None]})[0][0]).all()
    card = stylizer.card
    assert card.format == 1 and card.name == "tiny" and card.settings["style_size"] == 72
    assert card.objective["content"] == {"relu2_2": 1e-5} and "starry_night" not in str(card)


def quiet():
    options = ort.SessionOptions()
    options.log_severity_level = 3  # of a format-1 file ONNX Runtime says that its input is also a constant
    return options


def test_providers_by_short_name(tiny_model, photo, monkeypatch):
    assert Stylizer(tiny_model, provider="cpu", threads=2).threads == 2
    with pytest.raises(AllaprimaError, match="'gpu'.*cpu"):
        Stylizer(tiny_model, provider="gpu")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(AllaprimaError, match=r"'cuda' is not installed \(here: cpu\)"):
        Stylizer(tiny_model, provider="cuda")
    assert Stylizer(tiny_model, threads=np.int64(2)).threads == 2
    for wrong in (0, True, 2.0, 10**9):
        with pytest.raises(AllaprimaError, match="threads must be a whole number from 1 to 1024"):
            Stylizer(tiny_model, threads=wrong)
        with pytest.raises(AllaprimaError, match="threads must be a whole number from 1 to 1024"):
            stylize_archive("in", "out", tiny_model, threads=wrong)


def test_a_provider_that_is_there_but_does_not_start(tiny_model, photo, monkeypatch):
    """onnxruntime-gpu on a machine without the driver: chosen freely it falls back to the CPU, forced it says so."""
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda model, options, providers: real(
            model, options, providers=[p for p in providers if p in ("CPUExecutionProvider",)]
        ),
    )
    assert Stylizer(tiny_model).provider == "cpu"
    with pytest.raises(AllaprimaError, match="did not start"):
        Stylizer(tiny_model, provider="cuda")


@pytest.mark.parametrize(
    "quota, cores",
    [("max 100000", 3), ("200000 100000", 2), ("50000 100000", 1), ("900000 100000", 3), (None, 3), ("what", 3)],
)
def test_physical_cores_are_counted_once_and_within_the_quota(quota, cores, tmp_path, monkeypatch):
    """Six threads of three cores, and a container's share of them."""
    for cpu in range(6):
        file = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(f"{cpu % 3},{cpu % 3 + 3}\n")
    share = tmp_path / "sys/fs/cgroup/cpu.max"
    share.parent.mkdir(parents=True)
    if quota:
        share.write_text(quota + "\n")
    monkeypatch.setattr("allaprima.infer.stylizer.Path", lambda path: tmp_path / path[1:])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert physical_cores() == cores
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7}, raising=False)
    assert physical_cores() == 0


def foreign_model(path, size=(None, None), gain=1.0, offset=0.0):
    """float NCHW in and out, as the model zoo's: out = gain * in + offset, by a 1x1 convolution and a stride of 4."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 3, size[0] or "h", size[1] or "w"]
    nodes = [
        helper.make_node("AveragePool", ["in"], ["small"], kernel_shape=[4, 4], strides=[4, 4], ceil_mode=0),
        helper.make_node("Resize", ["small", "", "four"], ["big"], mode="nearest"),
        helper.make_node("Conv", ["big", "w", "b"], ["out"]),
    ]
    weights = [
        numpy_helper.from_array((gain * np.eye(3, dtype=np.float32))[..., None, None], "w"),
        numpy_helper.from_array(np.full(3, offset, np.float32), "b"),
        numpy_helper.from_array(np.float32([1, 1, 4, 4]), "four"),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        weights,
    )
    graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, "oh", "ow"]))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("foreign, offset", [("0..1", 0.25), ("0..255", 63.75)])
def test_foreign_models(tmp_path, photo, foreign, offset):
    path = foreign_model(tmp_path / "foreign.onnx", offset=offset)
    with pytest.raises(AllaprimaError, match="--foreign 0..255"):
        Stylizer(path)
    stylizer, image = Stylizer(path, foreign=foreign), photo[:203, :301]
    blocks = photo[:200, :300].reshape(50, 4, 75, 4, 3).mean((1, 3)).repeat(4, 0).repeat(4, 1)
    got = stylizer(image)
    assert got.shape == image.shape
    assert np.abs(got[:200, :300] - np.clip(blocks + 63.75, 0, 255)).max() <= 0.51
    assert (stylizer(image, strength=0) == image).all()
    assert stylizer(np.stack([image, image])).shape == (2, *image.shape)
    with pytest.raises(AllaprimaError, match="0..1"):
        Stylizer(path, foreign="-1..1")


def test_a_foreign_model_of_one_size_gets_the_picture_resized(tmp_path, photo):
    stylizer = Stylizer(foreign_model(tmp_path / "fixed.onnx", size=(224, 224)), foreign="0..255")
    got = stylizer(photo)
    assert got.shape == photo.shape and np.abs(got.astype(int) - photo).mean() < 12
    large = np.asarray(Image.fromarray(photo).resize((2400, 1800)))
    assert stylizer(large).shape == large.shape


def test_ours_is_not_foreign(tiny_model):
    with pytest.raises(AllaprimaError, match="leave --foreign out"):
        Stylizer(tiny_model, foreign="0..1")


@pytest.mark.parametrize("sizes, against", [(["64x48"], None), (["64x48", "33x17"], "own")])
def test_bench_measures_both_models_in_turns(tiny_model, sizes, against, capfd):
    done = bench.bench(tiny_model, sizes, runs=3, against=tiny_model if against else None)
    assert [row["size"] for row in done.rows] == sizes and done.name == "tiny"
    assert done.against == ("tiny" if against else "johnson") and capfd.readouterr() == ("", "")
    for row in done.rows:
        assert row["fps"] == pytest.approx(1000 / row["median"]) and row["p95"] >= row["median"] > 0
        assert row["ratio"] == pytest.approx(row["against_median"] / row["median"])


def test_bench_of_a_size_that_no_memory_holds_is_a_sentence(tiny_model, monkeypatch):
    for size, says in (
        ("999999x999999", "free memory"),
        ("1000000x16", "not a size"),
        (f"16x{'9' * 5000}", "not a size"),
    ):
        with pytest.raises(AllaprimaError, match=says):
            bench.bench(tiny_model, [size], runs=1)
    monkeypatch.setattr(bench, "free_memory", lambda: 6 * 64 * 48)
    assert bench.bench(tiny_model, ["64x48"], runs=1).rows


def test_bench_takes_turns_in_blocks_after_a_warm_up(monkeypatch):
    monkeypatch.setattr(bench, "BLOCK", 2)
    monkeypatch.setattr(bench, "PAUSE", 0)
    calls = []
    times = bench.measure([lambda frame: calls.append("a"), lambda frame: calls.append("b")], 32, 16, runs=3)
    assert "".join(calls) == "aaabbbaabb" and [len(mine) for mine in times] == [3, 3]


NO_TORCH = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", "onnxscript", "safetensors"):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Block())
import allaprima, allaprima.commands.app, allaprima.infer
assert "onnxruntime" not in sys.modules and "cv2" not in sys.modules and "av" not in sys.modules
for module in pkgutil.iter_modules(allaprima.infer.__path__):
    importlib.import_module(f"allaprima.infer.{module.name}")
from allaprima import stylize
stylize(sys.argv[1], sys.argv[2], sys.argv[3])
assert not {"torch", "torchvision", "onnx"} & set(sys.modules)
"""


def test_a_picture_is_stylized_without_torch(tiny_model, tmp_path):
    """In a fresh process: every module of infer/ loads, and a picture goes through, where importing torch fails."""
    subprocess.run(
        [sys.executable, "-c", NO_TORCH, PHOTOS / "chelsea.jpg", tmp_path / "out.png", tiny_model],
        check=True,
        capture_output=True,
        text=True,
    )
    photo = np.asarray(Image.open(PHOTOS / "chelsea.jpg").convert("RGB"))
    assert (np.asarray(Image.open(tmp_path / "out.png")) == Stylizer(tiny_model)(photo)).all()
