"""Large pictures: memory has a bound, and nobody sees where the tiles meet."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from allaprima.infer import tiles
from allaprima.infer.modelfile import measure_statistics, pin_statistics
from allaprima.infer.stylizer import Stylizer
from conftest import PHOTOS, make_model
from memory import PEAK


def collage(height, width):
    """The bundled photos at their own resolution, side by side: regions as unlike as can be."""
    picture = np.zeros((height, width, 3), np.uint8)
    photos = [np.asarray(Image.open(path).convert("RGB").resize((512, 384))) for path in sorted(PHOTOS.glob("*.jpg"))]
    for n, (top, left) in enumerate((t, l) for t in range(0, height, 384) for l in range(0, width, 512)):
        part = picture[top : top + 384, left : left + 512]
        part[:] = photos[n * 7 % len(photos)][: part.shape[0], : part.shape[1]]
    return picture


@pytest.fixture(scope="module")
def large():
    return collage(1501, 2003)


def whole(stylizer, image, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tiles, "WHOLE", image.size)
        return stylizer(image)


def psnr(a, b):
    return 10 * np.log10(255**2 / ((a.astype(np.float32) - b) ** 2).mean())


def in_tiles(stylizer, image, statistics, side):
    """`image` by pinned statistics, cut into tiles of another size."""
    session = stylizer._open(pin_statistics(stylizer._model, statistics))
    out = np.zeros_like(image)
    for core, window, inside in tiles.layout(*image.shape[:2], side=side):
        out[core] = stylizer._forward(session, image[window][None])[0][0][inside]
    return out


@given(height=st.integers(16, 9000), width=st.integers(16, 9000), side=st.integers(40, 100).map(lambda n: 32 * n))
def test_tiles_cover_the_picture_once_on_the_grid(height, width, side):
    for length, _edge in ((height, 0), (width, 1)):
        cuts = list(tiles._cuts(length, side))
        assert cuts[0][0].start == 0 and cuts[-1][0].stop == length
        assert all(a[0].stop == b[0].start for a, b in zip(cuts, cuts[1:]))
        for core, window, inside in cuts:
            assert window.start % tiles.GRID == 0 and window.stop - window.start <= side
            assert core.start - window.start == inside.start and core.stop - window.start == inside.stop
            assert window.start in (0, core.start - tiles.MARGIN) and window.stop in (length, core.stop + tiles.MARGIN)


def test_pinned_to_its_own_statistics_the_model_is_the_same(tiny_model, large):
    """What the rewritten model files calculate is what the model file itself does."""
    stylizer, batch = Stylizer(tiny_model), large[None, :601, :801]
    session = stylizer._open(measure_statistics(stylizer._model))
    stylized, (mean, variance) = stylizer._forward(session, batch, outputs=["mean.0", "variance.0"])
    assert (stylized == stylizer(batch)).all() and mean.shape == variance.shape == (1, 8, 1, 1)
    pinned = stylizer._open(pin_statistics(stylizer._model, [(mean.ravel(), variance.ravel())]))
    again = stylizer._forward(pinned, batch)[0]
    assert np.abs(again.astype(int) - stylized).max() <= 1


def test_no_seam_two_layouts_agree_to_a_grey_level(tiny_model, large):
    """Tiles of two sizes put their seams elsewhere; if one could be seen, the two pictures would differ there."""
    stylizer = Stylizer(tiny_model)
    statistics = tiles.measure(stylizer._model, stylizer._open, stylizer._forward, large)
    one, other = (in_tiles(stylizer, large, statistics, side).astype(int) for side in (1280, 2304))
    assert np.abs(one - other).max() <= 1
    # The same without the margins, to prove that the comparison would see a seam.
    session = stylizer._open(pin_statistics(stylizer._model, statistics))
    cut = stylizer._forward(session, large[None, 384:768, 384:768])[0][0].astype(int)
    assert np.abs(cut - one[384:768, 384:768]).max() > 1


@pytest.mark.parametrize("architecture", ["live", "best", "johnson"])
def test_the_margin_is_enough_for_our_networks(architecture, tmp_path):
    """Their receptive fields fit into it, and nothing in them depends on where a tile lies or how large it is."""
    torch = pytest.importorskip("torch")
    onnx = pytest.importorskip("onnx")
    from allaprima.models.export import build_graph
    from allaprima.models.transformer import transformer

    torch.manual_seed(0)
    network = transformer(architecture)
    last = [weights for weights in network.parameters() if weights.ndim == 4][-1]
    with torch.no_grad():
        last *= 10  # networks begin nearly grey, and on grey no seam would show
    onnx.save(build_graph(network), tmp_path / "model.onnx")
    stylizer, image = Stylizer(tmp_path / "model.onnx"), collage(600, 1300)
    session = stylizer._open(measure_statistics(stylizer._model))
    names = [output.name for output in session.get_outputs()[1:]]
    values = dict(zip(names, stylizer._forward(session, image[None], outputs=names)[1]))
    statistics = [(values[f"mean.{k}"].ravel(), values[f"variance.{k}"].ravel()) for k in range(len(names) // 2)]
    want, tiled = stylizer(image).astype(int), in_tiles(stylizer, image, statistics, side=1280)
    assert want.std() > 15
    assert np.abs(tiled - want).max() <= 1


def test_tiles_give_the_picture_that_the_whole_would(tiny_model, large, monkeypatch):
    stylizer = Stylizer(tiny_model)
    assert large.shape[0] * large.shape[1] > tiles.WHOLE
    calls = []
    tiled = stylizer(large, progress=lambda done, total: calls.append((done, total)))
    want = whole(stylizer, large, monkeypatch)
    assert psnr(tiled, want) > 36
    # Naive tiles, each normalized by itself, are what this is better than.
    naive = np.zeros_like(large)
    for core, window, inside in tiles.layout(*large.shape[:2]):
        naive[core] = stylizer(large[window])[inside]
    assert psnr(tiled, want) > psnr(naive, want) + 6
    assert calls == [(n, len(calls)) for n in range(1, len(calls) + 1)] and len(calls) >= 4


def test_strength_and_batches_go_through_tiles_too(tiny_model, large):
    stylizer = Stylizer(tiny_model)
    assert (stylizer(large, strength=0) == large).all()
    half = stylizer(large, strength=0.5).astype(int)
    assert np.abs(half - (stylizer(large).astype(int) + large) / 2).mean() < 1.5
    pair = stylizer(np.stack([large, large[::-1]]))
    assert pair.shape == (2, *large.shape) and (pair[0] == stylizer(large)).all()


def test_a_model_without_instance_normalization_needs_no_statistics(tmp_path, large, monkeypatch):
    import onnx

    model = onnx.load(make_model(tmp_path / "tiny.onnx"))
    node = next(node for node in model.graph.node if node.op_type == "InstanceNormalization")
    node.op_type = "Mul"
    del node.attribute[:], node.input[1:]
    node.input.append("tenth")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.1), "tenth"))
    onnx.save(model, tmp_path / "plain.onnx")
    stylizer = Stylizer(tmp_path / "plain.onnx")
    assert (stylizer(large) == whole(stylizer, large, monkeypatch)).all()


def test_mosaics_are_pieces_of_the_picture_from_everywhere(large):
    position = np.zeros((3000, 4000, 3), np.uint8)
    position[..., 0], position[..., 1] = np.arange(3000)[:, None] * 256 // 3000, np.arange(4000) * 256 // 4000
    seen = np.zeros((16, 16), int)
    for picture in tiles.mosaics(position, side=64, pixels=700_000):
        assert 500_000 < picture.shape[0] * picture.shape[1] <= 700_000
        np.add.at(seen, (picture[..., 0] // 16, picture[..., 1] // 16), 1)
    assert seen.min() > 0
    for shape in ((300, 20_000, 3), (40_000, 20, 3), (200, 200, 3)):  # a panorama, a strip, hardly a picture
        for picture in tiles.mosaics(np.zeros(shape, np.uint8), pixels=700_000):
            assert 0 < picture.shape[0] * picture.shape[1] <= 700_000


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("thin", [1, 5, 15])
def test_a_strip_thinner_than_the_network_takes(tiny_model, large, monkeypatch, thin, turned):
    """It is padded, so tiles are for fewer of its own pixels."""
    strip = np.hstack([large[top : top + thin] for top in range(0, 1480, 20)])
    strip = strip.transpose(1, 0, 2) if turned else strip
    stylizer, calls = Stylizer(tiny_model), []
    tiled = stylizer(strip, progress=lambda *done: calls.append(done))
    assert tiled.shape == strip.shape and len(calls) > 100
    with monkeypatch.context() as patch:
        patch.setattr(tiles, "WHOLE", 10**8)
        assert psnr(tiled, stylizer(strip)) > 30


MEASURE = (
    PEAK
    + """
import sys
from allaprima.infer.jobs import stylize
stylize(sys.argv[1], sys.argv[2], sys.argv[3])
print(peak_megabytes() / 1000)
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of memory is asked from resource, which Windows lacks")
@pytest.mark.parametrize("width, height, ending, gigabytes", [(8000, 6000, "jpg", 3), (500_000, 1, "png", 1)])
def test_memory_has_a_bound(tmp_path, width, height, ending, gigabytes):
    """Reading, stylizing and writing, by a model with as many channels at full resolution as johnson has."""
    model = make_model(tmp_path / "wide.onnx", channels=64)
    source, target = tmp_path / f"large.{ending}", tmp_path / f"out.{ending}"
    part = collage(min(height, 1500), 2000)
    Image.fromarray(np.tile(part, (height // len(part), width // 2000, 1))).save(source, quality=80)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, source, target, model],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < gigabytes
    with Image.open(target) as out:
        assert out.size == (width, height)
