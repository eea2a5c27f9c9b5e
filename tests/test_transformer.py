"""The transformer networks and their export: what runs in ONNX Runtime is what was trained."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from allaprima.core.contract import Card
from allaprima.core.errors import AllaprimaError
from allaprima.models import export as exporting
from allaprima.models.blocks import Contrast, Conv, Grain, InstanceNorm, SettlingNorm, ToPixels
from allaprima.models.graph import Graph
from allaprima.models.transformer import ARCHITECTURES, transformer
from conftest import PACKAGE


def network_of(architecture):
    """A network whose every weight, bias and norm is random: fresh biases of 0 would hide mistakes."""
    torch.manual_seed(1)
    network = transformer(architecture).eval()
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.2, 0.8) if "norm.weight" in name else torch.nn.init.normal_(
                parameter, 0, 0.1
            )
    for module in network.modules():
        if isinstance(module, SettlingNorm):
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.3, 2)
    return network


def session_of(data):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def exported(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / f"{request.param}.onnx"
    network = network_of(request.param)
    exporting.export(network, path, Card("test", credit="nobody", licence="CC0", settings={"steps": 1}))
    return network, path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(64, 64), (53, 70), (16, 17)])
def test_a_flat_photo_stays_flat_up_to_the_border(architecture, size):
    """Zero padding that reached the picture would show at its border, a resize that isn't even as a grid.

    Without the instance norms, which would blow up the rounding errors of a photo that has no variance.
    """
    network = network_of(architecture).double()
    for block in network.modules():
        if type(getattr(block, "norm", None)) is torch.nn.InstanceNorm2d:
            block.norm = nn.Identity()
        if isinstance(block, Grain):  # it is there to be seen
            torch.nn.init.zeros_(block.noise)
    photo = torch.tensor([0.9, 0.3, 0.1], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, *size)
    with torch.no_grad():
        stylized = network(photo)
    assert stylized.shape == photo.shape
    assert (stylized - stylized.mean((2, 3), keepdim=True)).abs().max() < 1e-9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("height, width", [(64, 64), (48, 72), (256, 192)])
def test_a_framed_photo_is_painted_as_one_that_is_reflected(architecture, height, width):
    """Where the frame is a reflection and that once more, as `pads` says, which numpy makes here."""
    torch.manual_seed(0)
    network = transformer(architecture).eval()
    photo = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    first, rest = network.pads()[0], [network.around(height), network.around(width)]
    framed = np.pad(photo.numpy(), [(0, 0), (0, 0), (first, first), (first, first)], mode="reflect")
    rest = [(before - first, after - first) for before, after in rest]
    framed = torch.from_numpy(np.pad(framed, [(0, 0), (0, 0), *rest], mode="reflect"))
    assert torch.equal(network.middle(framed), photo)
    with torch.no_grad():
        wanted, found = network(photo), network(framed, framed=True)
    assert found.shape == photo.shape and torch.allclose(wanted, found, atol=1e-5)


def test_contrast_is_that_of_the_finest_but_one_haar_wavelets():
    """By hand, in float64, for two photos of odd sizes; a darker and duller copy of a photo gives the same."""
    photos = torch.rand(2, 3, 21, 30, dtype=torch.float64)
    for photo, got in zip(photos.numpy(), Contrast().double()(photos).numpy(), strict=True):
        energies = []
        for top in range(0, 20, 4):
            for left in range(0, 28, 4):
                a, b, c, d = (
                    photo[:, top + y : top + y + 2, left + x : left + x + 2].sum((1, 2)) / 8
                    for y, x in ((0, 0), (0, 2), (2, 0), (2, 2))
                )
                energies += [(a + c - b - d) ** 2, (a + b - c - d) ** 2]
        gain = Contrast.TARGET / np.sqrt(np.mean(energies) + Contrast.FLOOR**2)
        np.testing.assert_allclose(got, (photo - photo.mean((1, 2), keepdims=True)) * gain, atol=1e-12)
    stark = photos * 4
    one, other = Contrast().double()(stark), Contrast().double()(stark / 2 + 0.2)
    assert (one - other).abs().max() < 0.02 * one.abs().max()


def test_the_grain_is_fixed_white_noise_and_model_files_unpack_the_same():
    """Beyond its period too, where it is repeated, and for a batch; no frequency of it sticks out."""
    grain = Grain(64).eval()
    photos = torch.rand(2, 3, 70, 141)
    with_grain = grain(photos)
    assert torch.equal(with_grain[:, :3], photos) and torch.equal(with_grain[0, 3], with_grain[1, 3])
    assert torch.equal(with_grain[0, 3, :6, 64:], with_grain[0, 3, 64:, :77])
    graph = Graph()
    output = grain(graph.value("photo")).op("Identity").name
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in ("photo", output)]
    body = onnx.helper.make_graph(graph.nodes, "grain", value[:1], value[1:], graph.constants)
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    for shape in ((70, 141), (16, 20), (64, 64)):
        got = session_of(model.SerializeToString()).run(None, {"photo": photos[..., : shape[0], : shape[1]].numpy()})[0]
        np.testing.assert_allclose(got, with_grain[..., : shape[0], : shape[1]].numpy(), atol=1e-6)
    grain.start.copy_(torch.tensor([5, 60]))
    assert torch.equal(grain(photos), with_grain)  # where it begins varies in training only
    varied = grain.train()(photos)[0, 3]
    assert torch.equal(varied[:50, :80], with_grain[0, 3, 5:55, 60:140])
    assert torch.equal(varied[59:, 4:], with_grain[0, 3, :11, :137])
    power = np.abs(np.fft.fft2(Grain(512).noise[0, 0].numpy())) ** 2 / 512**2 / Grain.STRENGTH**2
    # of 262144 exponential values, the logarithm of that is the usual largest
    assert abs(power.mean() - 1) < 1e-3 and power.max() < 20


def test_a_settled_norm_is_part_of_its_convolution():
    torch.manual_seed(0)
    layer = Conv(3, 8, norm=SettlingNorm).double()
    x = torch.randn(4, 3, 12, 9, dtype=torch.float64)
    instance = F.relu(torch.nn.InstanceNorm2d(8).double()(layer.conv(x)))
    torch.testing.assert_close(layer(x), instance)  # in training: each photo by its own statistics
    for _ in range(300):
        layer(x)
    layer.eval()
    torch.testing.assert_close(layer(x), F.relu(layer.norm(layer.conv(x))))
    y = layer.conv(x)
    scale = (y.var((2, 3)).mean(0) + layer.norm.eps).rsqrt()
    average = (y - y.mean((0, 2, 3)).view(-1, 1, 1)) * scale.view(-1, 1, 1)
    torch.testing.assert_close(layer(x), F.relu(average), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", [SettlingNorm, InstanceNorm])
@pytest.mark.parametrize("count", [1, 2])
def test_gradients_pass_a_normalization_whatever_their_layout(norm, count):
    """Against normalization written out, in float64; convolutions hand channels_last gradients back."""
    torch.manual_seed(0)
    first, second = Conv(3, 8, norm=norm, act=False), Conv(8, 5, act=False)
    nn.Sequential(first, second).to(memory_format=torch.channels_last)
    nn.init.normal_(first.norm.weight)
    x, weights = (torch.randn(count, n, 12, 9).contiguous(memory_format=torch.channels_last) for n in (3, 5))
    parameters = [first.conv.weight, first.norm.weight, first.norm.bias]
    found = torch.autograd.grad((second(first(x)) * weights).sum(), parameters)

    kernel, scale, shift = wide = [parameter.detach().double().requires_grad_() for parameter in parameters]
    y = F.conv2d(x.double(), kernel, padding=1)
    y = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), unbiased=False, keepdim=True) + first.norm.eps).sqrt()
    y = y * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    y = F.conv2d(y, second.conv.weight.double(), second.conv.bias.double(), padding=1)
    for gradient, wanted in zip(found, torch.autograd.grad((y * weights).sum(), wide), strict=True):
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-4)


def test_settling_leaves_the_other_norms_in_training():
    network = transformer("live").train()
    network.settle()
    settled = [module.training for module in network.modules() if isinstance(module, SettlingNorm)]
    assert len(settled) == 5 and not any(settled) and network.training and network.normalize.norm.training
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_folded_pixels_are_resize_and_convolution():
    layer = ToPixels(5).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 5, 9, 7, dtype=torch.float64)
    expected = layer.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    inside = (..., slice(2, -2), slice(2, -2))  # at the very border the resize repeats pixels, the folded form sees 0
    torch.testing.assert_close(layer(x)[inside], expected[inside], rtol=0, atol=1e-12)


def test_the_contract(exported):
    _, path = exported
    session = session_of(str(path))
    (image, strength), (stylized,) = session.get_inputs(), session.get_outputs()
    assert not session.get_overridable_initializers()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["N", "H", "W", 3])
    assert (stylized.name, stylized.type, stylized.shape) == ("stylized", "tensor(uint8)", ["N", "H", "W", 3])
    assert (strength.name, strength.type, strength.shape) == ("strength", "tensor(float)", [1])
    card = Card.of_metadata(session.get_modelmeta().custom_metadata_map)
    assert card == Card("test", path.stem, "nobody", "CC0", settings={"steps": 1})
    onnx.checker.check_model(str(path), full_check=True)


@settings(max_examples=12)
@given(
    n=st.integers(1, 3),
    h=st.integers(16, 90),
    w=st.integers(16, 90),
    strength=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_onnx_runtime_agrees_with_torch_at_any_size(exported, n, h, w, strength, seed):
    network, path = exported
    image = np.random.default_rng(seed).integers(0, 256, (n, h, w, 3), np.uint8)
    got = session_of(str(path)).run(None, {"image": image, "strength": np.float32([strength])})[0]
    photo = torch.from_numpy(image).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        wanted = photo + strength * (network(photo).clamp(0, 1) - photo)
    wanted = (wanted.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert got.shape == image.shape and got.dtype == np.uint8
    assert np.mean(np.abs(got.astype(int) - wanted) <= 1) >= 0.999
    if strength == 0:
        assert np.array_equal(got, image)


def test_pictures_of_a_batch_do_not_see_each_other(exported):
    _, path = exported
    session = session_of(str(path))
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), np.uint8)
    full = {"strength": np.float32([1])}
    both = session.run(None, {"image": images} | full)[0]
    alone = session.run(None, {"image": images[1:]} | full)[0]
    assert np.abs(both[1:].astype(int) - alone).max() <= 1


def test_a_wrong_graph_fails_the_export(tmp_path, monkeypatch):
    network = network_of("live")
    monkeypatch.setattr(ToPixels, "in_torch", lambda self, x: x.new_zeros(len(x), 3, 2 * x.shape[2], 2 * x.shape[3]))
    with pytest.raises(AllaprimaError, match="differs from the network"):
        exporting.export(network, tmp_path / "wrong.onnx", Card())
    assert not list(tmp_path.iterdir())


def test_the_export_leaves_the_network_as_it_is(tmp_path):
    """Its numbers' type, its mode, and the pictures it makes."""
    network = network_of("live").double().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    exporting.export(network, tmp_path / "live.onnx", Card())
    assert network.training and all(module.training for module in network.modules())
    after = network.state_dict()
    assert all(value.dtype == after[name].dtype and torch.equal(value, after[name]) for name, value in before.items())


def test_every_attribute_is_written_out(exported):
    """Not all runtimes fill in what is missing: without `dilations`, onnxruntime-web's WebGPU bundle stops."""
    nodes = list(onnx.load(exported[1]).graph.node)
    nodes += [node for branch in nodes[-1].attribute for node in branch.g.node]
    assert len(nodes) > 60
    for node in nodes:
        known = onnx.defs.get_schema(node.op_type, 17).attributes
        wanted = {name for name, attribute in known.items() if attribute.default_value.type}
        if node.op_type == "Conv":
            wanted |= {"dilations", "group", "kernel_shape", "pads", "strides"}
        assert wanted <= {attribute.name for attribute in node.attribute}, node.op_type


def test_unknown_architecture_names_those_there_are():
    with pytest.raises(AllaprimaError, match="live, best, johnson"):
        transformer("unet")


def test_the_reference_that_bench_times_is_the_johnson_network():
    """Node for node what is exported now; `python benchmarks/make_reference.py` writes it anew."""
    made = onnx.load(PACKAGE / "infer" / "reference" / "johnson.onnx")
    fresh = exporting.build_graph(transformer("johnson"))
    assert [n.op_type for n in made.graph.node if n.op_type != "ConstantOfShape"] == [
        n.op_type for n in fresh.graph.node
    ]
    shapes = {c.name: list(c.dims) for c in fresh.graph.initializer if len(c.dims) == 4}
    kept = {c.name: onnx.numpy_helper.to_array(c).tolist() for c in made.graph.initializer if c.name.endswith("_shape")}
    assert {f"{name}_shape": shape for name, shape in shapes.items()} == kept
