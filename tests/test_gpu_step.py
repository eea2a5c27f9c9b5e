"""What a step asks of a GPU, looked at without one."""

from contextlib import nullcontext
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from allaprima.train.trainer import READ_EVERY, Trainer
from training import SMALL, STYLE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_replayed_step_is_the_step():
    """Of each kind: without a second view and with either, learning and settled. The second replay has views of its own."""
    trainer = Trainer(STYLE, SMALL, "cuda")
    for settled in (False, True):
        trainer.settled = lambda step, settled=settled: settled
        for step in (0, 1, 4, 5, 4, 5):
            trainer.objective.beta = 2.0 + step
            views = trainer.views(step)
            trainer.replays_steps = False
            wanted = trainer.gradient(trainer.network, step, views)
            wanted = flat(wanted.gradients), flat(wanted.averages), wanted.means.clone()
            trainer.replays_steps = True
            found = trainer.gradient(trainer.network, step, views)
            for old, new in zip(wanted, (flat(found.gradients), flat(found.averages), found.means), strict=True):
                assert (old - new).norm() < 0.03 * old.norm()
    assert len(trainer.replays) == 6


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


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
    trainer.network.to("meta")
    trainer.loss.network.to("meta")
    trainer.photos.to("meta")
    trainer.style_targets = {layer: target.to("meta") for layer, target in trainer.style_targets.items()}
    with pytest.warns(UserWarning, match="no-op"):  # weights for tensors without numbers
        trainer.start_over(3 * READ_EVERY)
    import_module("torch.distributed.tensor")  # torch loads it within a step here, and reads what is replaced below

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
