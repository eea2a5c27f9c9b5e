"""How the bundled start of a network is made, from which `train` learns a new style: the network of another style.

    allaprima train examples/styles/starry_night.jpg -o starry.onnx --from scratch --photos FOLDER --steps 1500 \
        --optimizer adam --learning-rate 2e-3 --beta 2.5 --early-size 1
    python -m allaprima.train.pretrain starry.run/checkpoint.safetensors models/weights/live.safetensors

docs/networks.md says what else was tried.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from allaprima.files import atomic
from allaprima.models.blocks import Conv
from allaprima.models.transformer import Transformer, transformer
from allaprima.train.trainer import network_weights, read_checkpoint


@torch.no_grad()
def make_learn(network: Transformer):
    """Give normalized convolutions back the size of fresh ones; what the network paints stays the same.

    A normalization undoes any factor of the convolution before it. So its weights only ever grow while it learns (four- and
    sixfold in the encoder, after 14,000 steps), and a step of the same length turns them less and less (Salimans and Kingma,
    *Weight Normalization*, 2016): a network that has learned one style would learn the next one slowly.
    """
    for module, fresh in zip(network.modules(), transformer(network.architecture).modules()):
        if not isinstance(module, Conv) or module.norm is None:
            continue
        wanted = fresh.conv.weight.flatten(1).norm(dim=1).mean()
        factor = wanted / module.conv.weight.flatten(1).norm(dim=1)
        module.conv.weight.mul_(factor.view(-1, 1, 1, 1))
        if module.norm.track_running_stats:
            module.norm.running_mean.mul_(factor)
            module.norm.running_var.mul_(factor**2)


def start_from(checkpoint, output) -> Path:
    """Write the network of a training's checkpoint as a start: safetensors, half precision."""
    tensors, values = read_checkpoint(checkpoint)
    network = transformer(values["settings"]["architecture"])
    network.load_state_dict(network_weights(tensors))
    make_learn(network)
    halves = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    with atomic(output) as part:
        save_file({name: value.contiguous() for name, value in halves.items()}, part)
    return Path(output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    start_from(**vars(parser.parse_args()))
