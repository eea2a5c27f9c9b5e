"""The deconvnet against autograd, receptive fields against gradients, and the search for the strongest activations."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from allaprima.core.errors import AllaprimaError
from allaprima.insight.deconvnet import Deconvnet, check_layers, check_picture, only, receptive_field
from allaprima.insight.features import TOP, Hit, explain, find_photos, top_activations
from allaprima.media.pictures import read_photo
from allaprima.models.loss_network import CHANNELS, CONVS, LossNetwork, layer_names
from allaprima.models.tensors import to_tensor
from conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def oxford():
    return LossNetwork(dtype=torch.float64)


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory):
    """A VGG-19 as torchvision stores it, with random weights of a size that keeps activations where they are."""
    random, state, channels, number = torch.Generator().manual_seed(0), {}, 3, 0
    for block, count in enumerate(CONVS["vgg19"]):
        for _ in range(count):
            weight = torch.randn(CHANNELS[block], channels, 3, 3, generator=random) * (2 / 9 / channels) ** 0.5
            state[f"features.{number}.weight"] = weight.half()
            state[f"features.{number}.bias"] = 0.1 * torch.randn(CHANNELS[block], generator=random).half()
            channels, number = CHANNELS[block], number + 2
        number += 1
    file = tmp_path_factory.mktemp("vgg19") / "vgg19.pth"
    torch.save(state, file)
    return LossNetwork("vgg19", weights=file, dtype=torch.float64)


class RectifiedGradient(torch.autograd.Function):
    """A ReLU whose backward rectifies the gradient and does not look at the activation."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp(min=0)


@pytest.mark.parametrize("layer", ["conv1_1", "relu1_2", "pool1", "conv2_2", "relu3_3", "pool3", "conv4_2", "relu5_1"])
@pytest.mark.parametrize("name", ["oxford", "vgg19"])
def test_a_projection_is_a_gradient_with_rectified_relus(name, layer, photo, request, monkeypatch):
    network = request.getfixturevalue(name)
    deconvnet = Deconvnet(network)
    pixels = to_tensor(photo[60:110, 80:148]).double()  # 50x68: the poolings leave a row over
    activations, switches = deconvnet.forward(pixels, layer)
    channel, y, x = np.unravel_index(activations[0].argmax().item(), activations.shape[1:])
    alone = only(activations, channel, y, x)
    assert alone.count_nonzero() == 1
    with monkeypatch.context() as patched:
        patched.setattr("torch.nn.functional.relu", lambda x, inplace=False: RectifiedGradient.apply(x))
        leaf = pixels.clone().requires_grad_()
        output = network(leaf, [layer])[layer]
    for start in (alone, activations):  # one activation, and a whole layer with its negative values
        (expected,) = torch.autograd.grad(output, leaf, start, retain_graph=True)
        projected = deconvnet.project(start, layer, switches)
        assert projected.shape == pixels.shape and projected.dtype == torch.float64 and expected.abs().max() > 0
        torch.testing.assert_close(projected, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_average_pooling_has_no_switches():
    with pytest.raises(AllaprimaError, match="max pooling"):
        Deconvnet(LossNetwork(pooling="avg"))


@pytest.fixture(scope="module")
def transparent():
    """VGG-16 with one channel a layer, equal weights and averages for maxima: every pixel seen has a gradient."""
    network = LossNetwork(pooling="avg")
    for name in network.convs:
        network.convs[name] = nn.Conv2d(3 if name == "conv1_1" else 1, 1, 3, padding=1, bias=False)
        nn.init.constant_(network.convs[name].weight, 0.3)
    return network


@settings(max_examples=40)
@given(layer=st.sampled_from(layer_names()), where=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_receptive_field_is_where_the_gradient_is(transparent, layer, where):
    pixels = torch.ones(1, 3, 230, 201, requires_grad=True)
    maps = transparent(pixels, [layer])[layer]
    y, x = (min(int(part * side), side - 1) for part, side in zip(where, maps.shape[2:], strict=True))
    (gradient,) = torch.autograd.grad(maps[0, 0, y, x], pixels)
    field = receptive_field(transparent, layer)
    top, left = field.start + y * field.stride, field.start + x * field.stride
    expected = torch.zeros(230, 201, dtype=torch.bool)
    expected[max(top, 0) : top + field.size, max(left, 0) : left + field.size] = True
    assert torch.equal(gradient[0, 0] != 0, expected)


def test_receptive_fields_by_hand(transparent):
    assert receptive_field(transparent, "conv1_1")[:] == (3, 1, -1)
    assert receptive_field(transparent, "pool1")[:] == (6, 2, -2)
    assert receptive_field(transparent, "relu3_3")[:] == (40, 4, -18)
    assert receptive_field(transparent, "relu5_3").size == 196
    with pytest.raises(AllaprimaError, match="no layer 'relu9_9'. It has: conv1_1, relu1_1"):
        receptive_field(transparent, "relu9_9")


def test_a_picture_smaller_than_the_receptive_field(transparent):
    check_picture(transparent, "relu3_3", (40, 40))
    with pytest.raises(AllaprimaError, match="cat.jpg has 39x50 pixels and relu3_3 sees 40x40: .* up to relu3_2"):
        check_picture(transparent, "relu3_3", (50, 39), "cat.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven photos of 70 to 96 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    for number, file in enumerate(sorted(PHOTOS.glob("*.jpg"))[:11]):
        image = Image.open(file).convert("RGB")
        image.resize((96 - number, 70 + number)).save(folder / f"{file.stem}.png")
    return folder


def test_top_activations_are_those_of_a_search_with_all_in_memory(folder):
    network, files = LossNetwork(), find_photos(folder)
    hits, skipped = top_activations(network, "relu2_1", files)
    assert not skipped and len(hits) == 128 and sum(map(len, hits)) > 1000
    maps = [network(to_tensor(Image.open(file)), ["relu2_1"])["relu2_1"][0] for file in files]
    for channel, found in enumerate(hits):
        best = sorted((m[channel].max().item() for m in maps), reverse=True)[:TOP]
        assert [hit.value for hit in found] == [value for value in best if value > 0]
        assert len({hit.photo for hit in found}) == len(found)
        for hit in found:
            assert maps[files.index(hit.photo)][channel, hit.y, hit.x] == hit.value


def test_one_photo_is_in_memory_at_a_time(folder, monkeypatch):
    alive = []

    def read(file, size):
        photo = read_photo(file, size)
        assert sum(reference() is not None for reference in alive) <= 1  # the one before, about to go
        alive.append(weakref.ref(photo))
        return photo

    monkeypatch.setattr("allaprima.insight.features.read_photo", read)
    top_activations(LossNetwork(), "relu1_1", (file for file in find_photos(folder)))
    assert len(alive) == 11


def test_of_equal_photos_the_first_ones_are_kept(folder, tmp_path):
    picture = next(folder.glob("*.png")).read_bytes()
    for number in range(12):
        (tmp_path / f"{number:02d}.png").write_bytes(picture)
    hits, _ = top_activations(LossNetwork(), "relu1_1", find_photos(tmp_path))
    assert [hit.photo.stem for hit in max(hits, key=len)] == [f"{n:02d}" for n in range(TOP)]


@settings(max_examples=25)
@given(
    layer=st.sampled_from(["conv1_2", "relu2_2", "pool2", "relu3_2", "relu4_1"]),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    number=st.integers(0, 10),
    choice=st.integers(0, 5),
)
def test_the_receptive_field_alone_has_the_projection_of_the_whole_photo(oxford, folder, layer, where, number, choice):
    deconvnet, file = Deconvnet(oxford), find_photos(folder)[number]
    picture = to_tensor(Image.open(file))
    activations, switches = deconvnet.forward(picture, layer)
    y, x = (min(int(part * side), side - 1) for part, side in zip(where, activations.shape[2:], strict=True))
    channel = activations[0, :, y, x].topk(6).indices[choice].item()
    hit = Hit(activations[0, channel, y, x].item(), file, y, x)
    projection, patch = explain(deconvnet, layer, channel, hit)
    whole = deconvnet.project(only(activations, channel, y, x), layer, switches)
    field = receptive_field(oxford, layer)
    padded = [nn.functional.pad(t, [200] * 4, value=np.nan)[0].numpy() for t in (whole, picture)]
    top, left = (200 + field.start + place * field.stride for place in (y, x))
    window = np.s_[:, top : top + field.size, left : left + field.size]
    np.testing.assert_allclose(projection, padded[0][window], rtol=1e-4, atol=1e-5 * whole.abs().max().item())
    np.testing.assert_array_equal(patch, padded[1][window])
    assert np.nansum(np.abs(projection)) == pytest.approx(whole.abs().sum().item(), rel=1e-4)  # nothing outside of it


def test_a_layer_that_is_named_twice_counts_once():
    assert check_layers("layers", ["relu3_1", "relu1_2", "relu3_1"]) == ["relu3_1", "relu1_2"]
