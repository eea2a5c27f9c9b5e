"""What a step asks of a GPU, looked at without one."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from allaprima.train.loss import second_view
from allaprima.train.trainer import READ_EVERY, Trainer
from training import SMALL, STYLE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_costs_are_one_graph():
    """torch.compile raises where it would break the graph. With a second view while learning, and without in a settled network."""
    trainer = Trainer(STYLE, SMALL, "cpu")
    photos, targets = trainer.batches.at(0)
    compiled = torch.compile(trainer.costs, backend="eager", fullgraph=True)
    for view in (second_view("motion", photos, SMALL, 0), None):
        wanted, found = (costs(trainer.network, photos, targets, view) for costs in (trainer.costs, compiled))
        assert wanted.keys() == found.keys()
        assert all(torch.allclose(wanted[name], found[name], rtol=0.01) for name in wanted)
        trainer.network.settle()


class Crossings(TorchDispatchMode):
    """The operations whose tensors are on two devices: copies, from one to the other."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            self.found.append(str(func))
        return result


def test_a_gpu_is_waited_for_once_in_ten_steps(monkeypatch):
    """On the device "meta", whose tensors have no numbers: what asks for one, as `.item()` or an `if`, is an error there.

    So is a copy from it, and copies to it are counted. The steps are of all kinds.
    """
    trainer = Trainer(STYLE, SMALL, "cpu")
    trainer.device, trainer.read_every = torch.device("meta"), READ_EVERY
    trainer.loss.network.to("meta")
    trainer.photos.to("meta")
    trainer.style_targets = {layer: target.to("meta") for layer, target in trainer.style_targets.items()}
    trainer.start_over(3 * READ_EVERY)
    # A GPU has these two, and this device does not.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "Generator", lambda _: SimpleNamespace(manual_seed=lambda _: None))
    reads = []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda numbers: reads.append(trainer.done) or [0.5] * len(numbers))
    with Crossings() as crossings:
        for step in range(1, 3 * READ_EVERY + 1):
            trainer.step()
            assert trainer.done == step and len(trainer.history) == step // READ_EVERY * READ_EVERY
    assert len(reads) == 3 and crossings.found == []
