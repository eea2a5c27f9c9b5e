"""The loss network: taps against a plain VGG forward, where it stops, its weights, and its error sentences."""

from urllib.error import URLError

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from allaprima.core.errors import AllaprimaError
from allaprima.models.loss_network import OXFORD_WEIGHTS, LossNetwork, layer_names


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


@pytest.fixture
def pixels(photo):
    """A photo at 60x80, float [1, 3, 60, 80], 0..1."""
    return torch.from_numpy(photo[::4, ::4].copy()).permute(2, 0, 1)[None].float() / 255


def plain_vgg(image, weights, pool):
    """Oxford's VGG-16 as its authors describe it, one line a layer: BGR, 0..255, the mean taken off. No tap shared."""
    x = image[:, [2, 1, 0]] * 255 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    taps = {}
    for block, count in enumerate([2, 2, 3, 3, 3], 1):
        for k in range(1, count + 1):
            name = f"{block}_{k}"
            taps["conv" + name] = x = F.conv2d(
                x, weights[f"conv{name}.weight"].float(), weights[f"conv{name}.bias"].float(), padding=1
            )
            taps["relu" + name] = x = torch.maximum(x, torch.zeros(()))
        # what is left over of an odd size is dropped
        windows = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2].unfold(2, 2, 2).unfold(3, 2, 2)
        taps[f"pool{block}"] = x = windows.amax((4, 5)) if pool == "max" else windows.mean((4, 5))
    return taps


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_every_tap_is_the_layer_it_is_named_after(pixels, pooling):
    expected = plain_vgg(pixels, load_file(OXFORD_WEIGHTS), pooling)
    taps = LossNetwork(pooling=pooling)(pixels, expected)
    assert list(taps) == layer_names() == list(expected)
    for name, activations in expected.items():
        torch.testing.assert_close(taps[name], activations, rtol=1e-3, atol=1e-3 * activations.abs().max().item())


def test_max_and_average_pooling_differ(network, pixels):
    average = LossNetwork(pooling="avg")
    assert torch.equal(network(pixels, ["relu1_2"])["relu1_2"], average(pixels, ["relu1_2"])["relu1_2"])
    assert (network(pixels, ["pool1"])["pool1"] > average(pixels, ["pool1"])["pool1"]).float().mean() > 0.5


def test_a_tap_before_a_relu_is_not_overwritten_by_it(network, pixels):
    both = network(pixels, ["conv1_1", "relu1_1"])
    assert both["conv1_1"].min() < 0
    assert torch.equal(both["conv1_1"].clamp(min=0), both["relu1_1"])


def test_it_stops_at_the_deepest_layer_asked_for(network, pixels):
    run = []
    hooks = [conv.register_forward_hook(lambda *_, name=name: run.append(name)) for name, conv in network.convs.items()]
    network(pixels, ["relu2_1", "conv1_2"])
    for hook in hooks:
        hook.remove()
    assert run == ["conv1_1", "conv1_2", "conv2_1"]


def test_it_sees_recognisable_things(network, pixels):
    """Trained weights, not noise: mirrored photos excite a layer alike, and noise of the same histogram does not."""

    def means(x):
        return network(x, ["relu4_3"])["relu4_3"].mean((0, 2, 3))

    noise = pixels.flatten(2)[..., torch.randperm(60 * 80, generator=torch.Generator().manual_seed(0))].view_as(pixels)
    photo = means(pixels)
    assert torch.cosine_similarity(photo, means(pixels.flip(3)), dim=0) > 0.9
    assert torch.cosine_similarity(photo, means(noise), dim=0) < 0.8


def test_gradients_reach_the_pixels_and_not_the_weights(network, pixels):
    pixels.requires_grad_()
    network(pixels, ["relu3_3"])["relu3_3"].sum().backward()
    assert pixels.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_bfloat16_is_close_to_float32(network, pixels):
    wide = network(pixels, ["relu1_1", "relu4_3"])
    for name, narrow in LossNetwork(dtype=torch.bfloat16)(pixels, wide).items():
        assert narrow.dtype == torch.bfloat16
        error = (narrow.float() - wide[name]).norm() / wide[name].norm()
        assert error < 0.03, name


def torchvision_file(name, path):
    """A file as torchvision's own, with random weights and a classifier that is cut short (there it is 500 MB)."""
    state = {f"features.{key}": value for key, value in torchvision_layers(name).state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


def torchvision_layers(name):
    from torchvision.models import vgg

    return vgg.make_layers(vgg.cfgs[{"vgg16": "D", "vgg19": "E"}[name]]).eval()


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_torchvision_weights_from_a_local_file(name, tmp_path, pixels):
    """The taps are those of torchvision's own layers, fed its own normalisation."""
    file = torchvision_file(name, tmp_path / "vgg.pth")
    network, theirs = LossNetwork(name, weights=file), torchvision_layers(name)
    theirs.load_state_dict({k.removeprefix("features."): v for k, v in torch.load(file).items() if "features" in k})
    x = (pixels - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        for depth, tap in ((4, "relu1_2"), (5, "pool1"), (len(theirs), "pool5")):
            expected = theirs[:depth](x)
            torch.testing.assert_close(
                network(pixels, [tap])[tap], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
            )


def test_weights_that_are_nowhere_are_one_sentence(tmp_path, monkeypatch):
    """torchvision's cache is empty and its server can't be reached: the sentence says where to put which file."""

    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(AllaprimaError, match="can't be downloaded.*--loss-weights") as caught:
        LossNetwork("vgg19")
    assert f"vgg19-dcbb9e9d.pth into {tmp_path}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not weights at all", "half", "other network", "other file"])
@pytest.mark.parametrize("name", ["vgg16_oxford", "vgg16"])
def test_weights_that_do_not_fit_are_one_sentence(content, name, tmp_path):
    path = tmp_path / "weights.bin"
    if content == "half":
        whole = OXFORD_WEIGHTS.read_bytes() if name == "vgg16_oxford" else torchvision_file(name, path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "other network":
        torchvision_file("vgg19" if name == "vgg16" else "vgg16", path)
    elif content == "other file":
        torch.save([1, 2, 3], path)
    else:
        path.write_bytes(content)
    with pytest.raises(AllaprimaError, match="can't be read as"):
        LossNetwork(name, weights=path)


def test_what_torchvision_keeps_broken_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half of it")
    with pytest.raises(AllaprimaError, match=f"{file} can't be read as vgg16: delete it"):
        LossNetwork("vgg16")


def test_a_weights_file_that_is_not_there_is_one_sentence(tmp_path):
    for name in ("vgg16_oxford", "vgg16"):
        with pytest.raises(AllaprimaError, match="nowhere"):
            LossNetwork(name, weights=tmp_path / "nowhere")


def test_error_sentences(network):
    with pytest.raises(AllaprimaError, match="Choose one of: vgg16_oxford"):
        LossNetwork("vgg11")
    with pytest.raises(AllaprimaError, match="Choose max or avg"):
        LossNetwork(pooling="median")
    with pytest.raises(AllaprimaError, match="no layer 'relu9_1'.*relu3_3"):
        network(torch.zeros(1, 3, 32, 32), ["relu9_1"])
    with pytest.raises(AllaprimaError, match="40x7 is too small for relu4_3.*8x8"):
        network(torch.zeros(1, 3, 7, 40), ["relu1_1", "relu4_3"])
    assert network(torch.zeros(1, 3, 8, 8), ["relu4_3"])["relu4_3"].shape == (1, 512, 1, 1)
