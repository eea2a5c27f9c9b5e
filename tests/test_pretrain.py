"""train/pretrain.py: one network learning many styles at once."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from allaprima.media.pictures import read_rgb
from allaprima.models import transformer as transformers
from allaprima.models.transformer import transformer
from allaprima.train import pretrain as pretraining
from training import SMALL, STYLE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_start_is_learned_from_many_styles(tmp_path, monkeypatch):
    """A step moves what is common and what the style of the step has for itself; the start has the mean of the latter."""
    small = replace(SMALL, **pretraining.SETTINGS | {"steps": 4, "warmup": 1})
    trainer = pretraining.ManyStyles([STYLE], small, "cpu")
    assert len(trainer.styles) == 2
    before = [copy.deepcopy(style.parameters) for style in trainer.styles]
    common = {name: p.detach().clone() for name, p in trainer.network.named_parameters() if name not in before[0]}
    trainer.step()  # the first of SOAP only measures
    trainer.step()
    changed = [
        any(not torch.equal(was[name], p) for name, p in style.parameters.items())
        for was, style in zip(before, trainer.styles)
    ]
    assert 1 <= sum(changed) <= 2
    assert {"stem.norm.weight", "to_pixels.conv.weight"} < before[0].keys() and "stem.conv.weight" in common
    assert all(not torch.equal(p, common[name]) for name, p in trainer.network.named_parameters() if name in common)

    pretraining.pretrain([STYLE], tmp_path / "start.safetensors", small, "cpu")
    trainer.step(), trainer.step()
    start = load_file(tmp_path / "start.safetensors")
    for name in before[0]:
        mean = np.mean([style.parameters[name].detach().double().numpy() for style in trainer.styles], 0)
        assert np.allclose(start[name].double(), mean, rtol=1e-3, atol=1e-6)
    assert np.allclose(start["eighth.conv.weight"], trainer.network.eighth.conv.weight.detach(), rtol=1e-3, atol=1e-6)
    monkeypatch.setattr(transformers, "start_of", lambda architecture: tmp_path / "start.safetensors")
    network = transformer("live", "pretrained")
    assert all(torch.equal(value, start[name].to(value.dtype)) for name, value in network.state_dict().items())


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_a_cut_is_a_part_of_a_painting(seed):
    painting = read_rgb(STYLE).resize((96, 64))
    part = pretraining.cut(painting, np.random.default_rng(seed))
    assert 0.45 * 96 < part.width < 0.75 * 96 and part.width / part.height == pytest.approx(1.5, abs=0.1)
    windows = np.lib.stride_tricks.sliding_window_view(np.array(painting), (*part.size[::-1], 3))
    assert (windows == np.array(part)).all((-3, -2, -1)).any()
