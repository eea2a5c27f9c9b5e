"""A Trainer, small: a few steps at 64 pixels. What a long training is good for is measured in benchmarks/."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from allaprima.core.errors import AllaprimaError
from allaprima.models.perceptual import weighted_sum
from allaprima.models.transformer import start_of, transformer
from allaprima.train.loss import Cut, added_weights, grid_cost, second_view, view_cost
from allaprima.train.schedule import ABREAST
from allaprima.train.settings import change
from allaprima.train.trainer import Diverged, Trainer
from training import SMALL, STYLE

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(**changes) -> Trainer:
    """A Trainer that has made all of its steps."""
    trainer = Trainer(STYLE, change(SMALL, changes), "cpu")
    while trainer.done < trainer.settings.steps:
        trainer.step()
    return trainer


def test_costs_go_down():
    """On photos that were not trained on: those of single steps differ too much from crop to crop."""
    trainer = Trainer(STYLE, change(SMALL, {"steps": 40, "start": "scratch", "stylization": 0.0}), "cpu")
    J = []
    for steps in (0, 40):
        while trainer.done < steps:
            trainer.step()
        J.append(np.mean([costs["J"] for costs in trainer.held_out_costs().values()]))
    assert J[1] < 0.8 * J[0]


def test_the_loss_is_a_sum_of_named_terms():
    """J is the sum of its terms times their weights, at each step; what has no weight is not computed."""
    trainer = Trainer(STYLE, change(SMALL, {"tv": 0.5}), "cpu")
    for step in range(6):
        if step % ABREAST == 0:
            weights = trainer.objective.weights  # those of all steps that are computed side by side
        row = trainer.step()
        view = [] if trainer.done < 2 else ["noise" if trainer.done % 2 else "motion"]  # from a tenth of the steps on
        assert list(row) == ["J", "content", "style", "tv", *view, "grid"] and row == trainer.history[-1]
        assert row["J"] == pytest.approx(weighted_sum(weights, row), rel=1e-6)
    assert added_weights(SMALL, 3) == {"motion": SMALL.motion, "grid": SMALL.evenness}
    assert added_weights(SMALL, 4) == {"noise": SMALL.stability, "grid": SMALL.evenness}
    bare = Trainer(STYLE, change(SMALL, {"stability": 0.0, "motion": 0.0, "evenness": 0.0}), "cpu")
    assert list(bare.step()) == ["J", "content", "style"]


@pytest.mark.parametrize(
    "name, term, low, high",
    [
        ("tv", "tv", 1e-9, 1e3),
        ("stability", "noise", 1e-9, 30.0),
        ("motion", "motion", 1e-9, 3.0),
        ("evenness", "grid", 1e-9, 30.0),
        ("alpha", "content", 0.1, 20.0),
        ("beta", "style", 0.1, 60.0),
    ],
)
def test_every_weight_changes_what_is_learned(name, term, low, high):
    """More weight, less cost."""
    costs = []
    for weight in (low, high):
        rows = trained(steps=25, stylization=0.0, batch=1, **{name: weight}).history
        costs.append(np.mean([row[term] for row in rows[-7:] if term in row]))
    assert costs[1] < costs[0]


def test_beta_is_steered_to_the_stylization():
    """Too near to the photos: beta grows; too far: it shrinks; not at the end; the loss has it."""
    for stylization in (0.001, 100.0, 0.0):
        trainer = Trainer(STYLE, change(SMALL, {"steps": 10, "stylization": stylization}), "cpu")
        found = [trainer.objective.beta, *(trainer.objective.beta for _ in range(10) if trainer.step())]
        assert found[0] == 5 and found[8] == found[9] == found[10]
        assert trainer.loss.objective.beta == found[-1] == trainer.state()[1]["objective"]["beta"]
        assert {0.001: found[-1] < 4.9, 100.0: found[-1] > 5.1, 0.0: found[-1] == 5}[stylization]


@pytest.mark.parametrize("layers", [{}, {"relu2_2": 0.0}], ids=str)
def test_what_has_no_style_is_not_steered(layers):
    trainer = Trainer(STYLE, change(SMALL, {"steps": 4, "style_layers": layers}), "cpu")
    assert [trainer.objective.beta for _ in range(4) if trainer.step()] == [5.0] * 4


def test_a_picture_in_training_has_more_of_its_photo_around_it():
    """Not a reflection, by which a network would know where a crop ends; on smaller crops and odd sizes too."""
    trainer = Trainer(STYLE, replace(SMALL, size=100), "cpu")
    for part, side in ((1.0, 96), (0.75, 72)):
        photos = trainer.crops(2, 1, part)
        before, after = trainer.network.around(side)
        shown = trainer.network.middle(photos)
        assert shown.shape[2:] == (side, side) and photos.shape[2:] == (side + before + after,) * 2
        assert torch.equal(shown, photos[..., before:-after, before:-after])
        reflected = shown.flip(3)[..., -1 - before : -1]
        assert (photos[:, :, before:-after, :before] - reflected).abs().mean() > 0.02


def test_a_picture_is_cut_and_led_back_into_its_range():
    """A value beyond 0..1 has the gradient that leads back alone, by hand; the others have all of theirs."""
    pictures = torch.tensor([-0.5, -0.5, 0.0, 0.4, 1.0, 1.5, 1.5], dtype=torch.float64, requires_grad=True)
    cut, uphill = Cut.apply(pictures), torch.tensor([1.0, -1.0, 2.0, 3.0, -2.0, 1.0, -1.0], dtype=torch.float64)
    assert cut.tolist() == [0, 0, 0, 0.4, 1, 1, 1]
    assert torch.autograd.grad(cut, pictures, uphill)[0].tolist() == [0, -1, 2, 3, -2, 1, 0]


@pytest.mark.parametrize("step", [2, 28, 29], ids=["one view", "noise", "motion"])
def test_the_costs_are_those_of_pictures_as_files_have_them(step, monkeypatch):
    """What a network paints beyond 0..1 is not seen: it would buy style that no file has."""
    trainer = Trainer(STYLE, change(SMALL, {"steps": 30}), "cpu")
    photos, targets, view = trainer.views(step)

    def costs(painted):
        monkeypatch.setattr(trainer.network, "forward", lambda inputs, framed: painted(trainer.network.middle(inputs)))
        return trainer.costs(trainer.network, photos, targets, view)

    beyond_costs, cut_costs = costs(lambda x: 3 * x - 1), costs(lambda x: (3 * x - 1).clamp(0, 1))
    assert list(beyond_costs) == list(cut_costs) and (view is None) == (step == 2)
    for name, cost in beyond_costs.items():
        torch.testing.assert_close(cost, cut_costs[name])


def test_a_second_view_is_a_function_of_the_seed_and_the_step():
    photos = torch.full((2, 3, 64, 64), 0.5)
    for term in ("noise", "motion"):
        view, again = (second_view(term, photos, (64, 64), SMALL, 5) for _ in range(2))
        others = (second_view(term, photos, (64, 64), *each) for each in ((SMALL, 6), (replace(SMALL, seed=1), 5)))
        assert view.photos.shape == photos.shape and 1.95 < 255 * view.photos.std() < 2.05
        assert torch.equal(view.photos, again.photos) and torch.equal(view.rows, again.rows)
        assert not any(torch.equal(view.photos, other.photos) for other in others)


@given(step=st.integers(0, 10**6), height=st.integers(32, 90), width=st.integers(32, 90))
@settings(max_examples=60)
def test_what_a_second_view_shows_is_known_to_the_pixel(step, height, width):
    """Every pixel of a photo has a colour of its own here; a moved view has it where it says, brighter or darker."""
    photos = 0.2 + 0.6 * torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(step))
    for term in ("noise", "motion"):
        view = second_view(term, photos, (height, width), SMALL, step)
        assert view.photos.shape == photos.shape and min(view.rows[0], view.columns[0]) >= 0
        assert view.rows[-1] < height and view.columns[-1] < width
        seen = view.photos[:, :, view.rows][..., view.columns]
        top, left = (height - len(view.rows)) // 2, (width - len(view.columns)) // 2
        shown = photos[..., top : top + len(view.rows), left : left + len(view.columns)]
        exposure = (seen * shown).sum() / shown.square().sum()
        assert (seen - exposure * shown).abs().max() < 6 * 2 / 255
        assert abs(exposure - 1) < (0.11 if term == "motion" else 0.005)


def test_views_move_in_all_directions():
    photos = torch.zeros(2, 3, 64, 64)
    firsts = {
        (int(v.rows[0]), int(v.columns[0]))
        for v in (second_view("motion", photos, (64, 64), SMALL, i) for i in range(400))
    }
    assert len(firsts) > 150
    assert all((min(side), max(side)) == (4, 20) for side in zip(*firsts, strict=True))  # 8 px each way
    assert second_view("noise", photos, (64, 64), SMALL, 0).rows.tolist() == list(range(12, 52))


def test_a_view_costs_what_its_picture_shows_of_the_noise():
    """A network that leaves a third of its photo's contrast, all within 0..1, shows a ninth of the noise's energy."""
    trainer = Trainer(STYLE, replace(SMALL, architecture="johnson"), "cpu")  # which looks at nothing around a picture
    trainer.network.body = lambda x: x / 3
    photos, targets = trainer.batches.at(0)
    view = second_view("noise", photos, (64, 64), SMALL, 0)
    costs = trainer.costs(trainer.network, photos, targets, view)
    noise = (view.photos - photos)[..., 12:-12, 12:-12].double()
    assert costs["noise"].item() == pytest.approx(noise.square().mean().item() / (2 / 255) ** 2 / 9, rel=1e-3)
    assert costs["noise"].item() == pytest.approx(view_cost(photos / 3, view.photos / 3, view).item(), rel=1e-3)
    assert costs["grid"].item() == pytest.approx(grid_cost(2 / 3 * photos).item(), rel=1e-3)
    alone = trainer.costs(trainer.network, photos, targets, None)
    assert "noise" not in alone and torch.allclose(alone["style"], costs["style"])


def test_a_picture_that_moves_with_its_photo_costs_nothing_and_one_that_stays_does():
    photos = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    view = second_view("motion", photos, (64, 64), SMALL, 1)
    shift = [int(index[0]) - 12 for index in (view.rows, view.columns)]
    assert any(shift) and view_cost(photos, torch.roll(photos, shift, (2, 3)), view) == 0
    assert view_cost(photos, photos, view) > 1000


@given(
    period=st.sampled_from((2, 4, 8)),
    height=st.integers(16, 40),
    width=st.integers(16, 40),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30)
def test_the_grid_cost_is_that_of_what_repeats(period, height, width, seed):
    """A pattern of random numbers all over: its variance in each colour; a flat picture of any colour has none."""
    random = np.random.default_rng(seed)
    pattern = random.uniform(0, 1, (3, period, period))
    rows, columns = np.arange(height) % period, np.arange(width) % period
    pictures = torch.from_numpy(pattern[:, rows][:, :, columns])[None]
    assert grid_cost(pictures).item() == pytest.approx(255**2 * pattern.var((1, 2)).mean(), rel=1e-9)
    assert grid_cost(torch.full((2, 3, height, width), 0.3, dtype=torch.float64)) < 1e-20
    other = torch.from_numpy(random.uniform(0, 1, (1, 3, 8, 8))).repeat(
        1, 1, 40, 40
    )  # one of another place, upside down
    assert grid_cost(torch.cat([other, 1 - other], 3)) < 1e-20


def test_stability_makes_pictures_that_show_less_noise():
    flickers = []
    for stability in (0.0, 10.0):
        trainer = trained(steps=30, stability=stability, evenness=0.0)
        random = torch.Generator().manual_seed(0)
        photo = trainer.photos.held_out[0].float()
        noisy = photo + 2 * torch.randn(photo.shape, generator=random)
        flickers.append((trainer.stylize(photo) - trainer.stylize(noisy)).square().mean().item())
    assert flickers[1] < 0.7 * flickers[0]


def test_a_training_begins_with_the_pretrained_weights_unless_told_otherwise():
    begun = {start: Trainer(STYLE, replace(SMALL, start=start), "cpu") for start in ("pretrained", "scratch")}
    bundled = load_file(start_of("live"))
    for name, value in begun["pretrained"].network.state_dict().items():
        assert torch.equal(value, bundled[name].to(value.dtype))
    mean = {
        start: np.mean([costs["J"] for costs in trainer.held_out_costs().values()]) for start, trainer in begun.items()
    }
    assert mean["pretrained"] < 0.75 * mean["scratch"]


def test_a_network_without_a_pretrained_start_begins_at_random():
    assert start_of("johnson") is None
    torch.manual_seed(0)
    ours = transformer("johnson", "pretrained").state_dict()
    torch.manual_seed(0)
    assert all(torch.equal(value, ours[name]) for name, value in transformer("johnson").state_dict().items())


def test_a_restored_training_makes_the_same_steps():
    whole = trained()
    begun, resumed = (Trainer(STYLE, SMALL, "cpu") for _ in range(2))
    for _ in range(ABREAST):
        begun.step()
    resumed.restore(*begun.state())
    while resumed.done < 6:
        resumed.step()
    (tensors, values), (again, same) = whole.state(), resumed.state()
    assert whole.history == resumed.history and values == same
    assert tensors.keys() == again.keys() and all(torch.equal(tensors[key], again[key]) for key in tensors)


def test_steps_side_by_side_have_the_gradients_of_the_weights_that_they_began_with():
    """Of a network that is stepped alone twice from there, in one thread or in two."""
    alone = Trainer(STYLE, SMALL, "cpu")
    before = [value.clone() for value in (*alone.network.parameters(), *alone.network.averages())]
    photos = [alone.views(step) for step in range(ABREAST)]
    wanted = [alone.gradient(alone.network, step, views) for step, views in enumerate(photos)]
    assert all(map(torch.equal, (*alone.network.parameters(), *alone.network.averages()), before))
    torch.set_num_threads(2)
    beside = Trainer(STYLE, SMALL, "cpu")
    found = beside.look_ahead()
    assert torch.get_num_threads() == 2 and len(found) == ABREAST
    for one, other in zip(wanted, found, strict=True):
        assert one.names == other.names and torch.allclose(one.means, other.means, rtol=0.01)
        flat = [torch.cat([g.flatten() for g in each.gradients]) for each in (one, other)]
        assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.99
        assert all(torch.allclose(a, b, rtol=0.02, atol=1e-5) for a, b in zip(one.averages, other.averages))
    averages = [average.clone() for average in beside.network.averages()]
    for _ in range(ABREAST):
        beside.step()
    changed = [average - old for average, old in zip(beside.network.averages(), averages)]
    for difference, *parts in zip(changed, *(each.averages for each in found), strict=True):
        assert torch.allclose(difference, sum(parts), rtol=1e-3, atol=1e-5)


def test_a_step_that_diverges_leaves_the_parameters_as_they_were():
    trainer = Trainer(STYLE, SMALL, "cpu")
    for _ in range(ABREAST):
        trainer.step()
    parameters = list(trainer.network.parameters())
    with torch.no_grad():
        parameters[0].fill_(float("nan"))
    before = [parameter.detach().clone() for parameter in parameters]
    with pytest.raises(Diverged):
        trainer.step()
    assert trainer.done == ABREAST and all(torch.equal(a, b) for a, b in zip(before[1:], parameters[1:], strict=True))


@pytest.mark.parametrize("device", ["cuda:7", "meta", "gpu", "", 3.5])
def test_a_device_that_is_not_there_is_one_sentence(device):
    with pytest.raises(AllaprimaError, match="This machine has no device .* It has: cpu"):
        Trainer(STYLE, SMALL, device)
