"""What a step asks of a GPU, looked at without one."""

import pytest
import torch

from allaprima.train.loss import second_view
from allaprima.train.trainer import Trainer
from training import SMALL, STYLE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_costs_are_one_graph():
    """torch.compile raises where it would break the graph. With a second view while learning, and without in a settled network."""
    trainer = Trainer(STYLE, SMALL, "cpu")
    photos, targets = trainer.batches.at(0)
    compiled = torch.compile(trainer.costs, backend="eager", fullgraph=True)
    for view in (second_view("motion", photos, SMALL, 0), None):
        wanted, found = trainer.costs(photos, targets, view), compiled(photos, targets, view)
        assert wanted.keys() == found.keys()
        assert all(torch.allclose(wanted[name], found[name], rtol=0.01) for name in wanted)
        trainer.network.settle()
