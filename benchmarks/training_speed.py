"""Photos per second of training: allaprima's loop against a plain float32 loop with the `johnson` network.

    uv run --extra train python benchmarks/training_speed.py

The plain loop is what a tutorial has: a DataLoader that decodes and resizes JPEG files, the whole of VGG-16 up to the
deepest layer in float32 for the photo and for the picture, MSE on features and on Gram matrices, Adam. Same photos, same
crop size, same batch, same layers, same weights of VGG. They take turns, so that what else the machine does hits all;
medians are compared. The last three are of `train` by default, a photo in a step: two steps side by side; the same without
Winograd's convolutions (models/winograd.py), which make no difference on a GPU and in bfloat16; one step after the other.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from page import publish, table
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from allaprima.media.pictures import read_rgb
from allaprima.models.loss_network import LossNetwork
from allaprima.models.tensors import read_style
from allaprima.models.transformer import transformer
from allaprima.train.schedule import ABREAST, REUSE, WAITING
from allaprima.train.settings import BUNDLED, Settings, change
from allaprima.train.trainer import Trainer

STEPS = 2200  # of the training that the timed steps are the first of: they have no second views yet
WARM = WAITING // 2  # steps until batches come back as often as they will

PLAIN = "live, a photo a step, torch's convolutions in the loss network"

STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


class Folder(Dataset):
    """JPEG files, decoded and resized whenever they are asked for; endless, by repeating."""

    def __init__(self, folder, size):
        self.files = sorted(folder.glob("*.jpg"))
        self.prepare = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()])

    def __len__(self):
        return len(self.files) * 1000

    def __getitem__(self, index):
        return self.prepare(read_rgb(self.files[index % len(self.files)]))


def make_plain(vgg: LossNetwork):
    """Put torch's convolutions in the place of Winograd's."""
    for name in vgg.convs:
        conv = vgg.conv(name)
        vgg.convs[name] = plain = torch.nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
        plain.weight, plain.bias = conv.weight, conv.bias


def plain_loop(style, size, batch, device):
    """A generator: each next() is one step of the plain float32 loop."""
    vgg = LossNetwork(dtype=torch.float32).to(device)
    make_plain(vgg)
    vgg.convs.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    network = transformer("johnson").to(device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def gram(a):
        f = a.flatten(2)
        return f @ f.transpose(1, 2) / f.shape[1:].numel()

    with torch.no_grad():
        targets = [gram(a) for a in vgg(read_style(style, 512).to(device), STYLE_LAYERS).values()]
    for photos in DataLoader(Folder(BUNDLED, size), batch, shuffle=True, num_workers=2):
        photos = photos.to(device)
        optimizer.zero_grad()
        stylized = network(photos)
        features, pastiche = vgg(photos, STYLE_LAYERS), vgg(stylized, STYLE_LAYERS)
        loss = F.mse_loss(pastiche["relu3_3"], features["relu3_3"])
        for layer, target in zip(STYLE_LAYERS, targets, strict=True):
            a = gram(pastiche[layer])
            loss = loss + 1e3 * F.mse_loss(a, target.expand_as(a))
        loss.backward()
        optimizer.step()
        yield loss.item()


def timed(step, count, device):
    """Seconds a step, the mean of `count`: allaprima computes content targets in one of REUSE."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", default="examples/styles/starry_night.jpg")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    plain = plain_loop(arguments.style, arguments.size, arguments.batch, device).__next__
    loops: dict[str, Callable[[], object]] = {"plain float32 loop, johnson": plain}
    photos = {"plain float32 loop, johnson": arguments.batch}
    for name, architecture, batch, abreast in (
        ("johnson", "johnson", arguments.batch, ABREAST),
        ("best", "best", arguments.batch, ABREAST),
        ("live", "live", arguments.batch, ABREAST),
        ("live, a photo a step", "live", 1, ABREAST),
        (PLAIN, "live", 1, ABREAST),
        ("live, a photo a step, one step after the other", "live", 1, 1),
    ):
        values = {"architecture": architecture, "size": arguments.size, "early_size": 1.0, "batch": batch}
        trainer = Trainer(arguments.style, change(Settings(), values | {"steps": STEPS}), device)
        trainer.abreast = min(trainer.abreast, abreast)
        if name == PLAIN:
            make_plain(trainer.loss.network)
        loops[f"allaprima, {name}"], photos[f"allaprima, {name}"] = trainer.step, batch
    for step in loops.values():
        for _ in range(1 if step is plain else WARM):
            step()
    times = {name: [] for name in loops}
    for _ in range(arguments.rounds):
        for name, step in loops.items():
            times[name].append(timed(step, 1 if step is plain else REUSE, device))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    rates = {name: photos[name] / seconds for name, seconds in medians.items()}
    first = next(iter(rates.values()))
    rows = [[name, f"{rate:.2f}", f"{rate / first:.2f}"] for name, rate in rates.items()]
    note = (
        f"{arguments.batch} photos of {arguments.size} px a step, or one, median of {arguments.rounds} rounds. The plain loop is "
        "float32 with a DataLoader; the whole loss network sees the photo and the picture. Photos, layers and the weights of "
        "the loss network are the same for all. The steps are of the first tenth of a training, which has no second views."
    )
    publish("Training", f"{note}\n\n{table(['loop', 'photos/s', 'ratio'], rows)}", arguments.write)


if __name__ == "__main__":
    main()
