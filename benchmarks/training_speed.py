"""Photos per second of training: allaprima's loop against a plain float32 loop with the `johnson` network.

    uv run --extra train python benchmarks/training_speed.py

The plain loop is what a tutorial has: a DataLoader that decodes and resizes JPEG files, the whole of VGG-16 up to the
deepest layer in float32 for the photo and for the picture, MSE on features and on Gram matrices, Adam. Same photos, same
crop size, same batch, same layers, same weights of VGG. The two take turns, so that what else the machine does hits
both; medians are compared.
"""

import argparse
import statistics
import time

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from allaprima.models.loss_network import LossNetwork
from allaprima.models.transformer import transformer
from allaprima.train.photos import BUNDLED, read_rgb, read_style
from allaprima.train.settings import Settings
from allaprima.train.trainer import Trainer

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


def plain_loop(style, size, batch, device):
    """A generator: each next() is one step of the plain float32 loop."""
    vgg = LossNetwork(dtype=torch.float32).to(device)
    vgg.convs.to(memory_format=torch.contiguous_format)
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


def timed(step, device):
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", default="examples/styles/starry_night.jpg")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    steps = {
        "plain float32 loop, johnson": plain_loop(arguments.style, arguments.size, arguments.batch, device).__next__
    }
    for architecture in ("johnson", "live"):
        settings = Settings(architecture=architecture, size=arguments.size, batch=arguments.batch)
        steps[f"allaprima, {architecture}"] = Trainer(arguments.style, settings, device).step
    times = {name: [] for name in steps}
    for round in range(arguments.rounds + 1):
        for name, step in steps.items():
            seconds = timed(step, device)
            if round:  # the first is for warming up
                times[name].append(seconds)
    plain = statistics.median(next(iter(times.values())))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(
        f"torch {torch.__version__}, {where}, {arguments.batch} photos of {arguments.size} px, median of {arguments.rounds}"
    )
    print(f"{'':30} {'photos/s':>9} {'ratio':>7}")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:30} {arguments.batch / median:9.2f} {plain / median:7.2f}")


if __name__ == "__main__":
    main()
