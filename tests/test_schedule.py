"""train/schedule.py: functions of the step, with no training in sight."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allaprima.train import schedule
from allaprima.train.settings import Settings

LONG = Settings(steps=1000, warmup=30, learning_rate=0.005, stylization=0.6, beta=5.0)


def test_the_learning_rate_warms_up_and_falls_to_zero():
    rates = [schedule.learning_rate(LONG, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.005 / 30, rel=1e-4) and np.argmax(rates) == 29 and rates[29] > 0.995 * 0.005
    assert rates[500] == pytest.approx(0.0025) and 0 < rates[-1] < 1e-7 and (np.diff(rates[29:]) < 0).all()
    assert schedule.learning_rate(LONG, 500, 0.5) == rates[500] / 2
    assert (
        schedule.learning_rate(replace(LONG, steps=6, warmup=30), 0) == 0.005
    )  # never more than a quarter of the steps


def test_ever_more_steps_are_made_with_settled_norms():
    found = [schedule.settled(LONG, step) for step in range(1000)]
    assert not any(found[:100]) and all(found[700:])
    parts = [np.mean(found[start : start + 200]) for start in (100, 300, 500)]
    assert np.allclose(parts, (1 / 6, 3 / 6, 5 / 6), atol=0.1)
    assert [schedule.settled(LONG, step) for step in range(1000)] == found
    assert [schedule.settled(replace(LONG, seed=1), step) for step in range(1000)] != found


COSTS = st.floats(1e-6, 1e3)


@given(
    step=st.integers(1, 999), rows=st.lists(st.tuples(COSTS, COSTS), min_size=60, max_size=60), beta=st.floats(0.5, 60)
)
def test_beta_is_steered_to_three_times_the_style_and_not_beyond_the_stylization(step, rows, beta):
    """Too far from the photos: beta shrinks; else it grows; by 2 % at most, within bounds, in the middle only."""
    history = [{"content": content, "style": style} for content, style in (rows * 20)[:step]]
    after = schedule.steered(LONG, history, beta)
    assert 0.5 <= after <= 60 and abs(math.log(after / beta)) <= 0.02 + 1e-9
    content, style = np.mean([list(row.values()) for row in history[-50:]], 0)
    if not 1000 * schedule.STEER[0] <= step < 1000 * schedule.STEER[1]:
        assert after == beta
    elif content > min(0.6, 3 * style) * (1 + 1e-9):
        assert after < beta or after == 0.5
    elif content < min(0.6, 3 * style) * (1 - 1e-9):
        assert after > beta or after == 60
    assert schedule.steered(replace(LONG, stylization=0.0), history, beta) == beta


@pytest.mark.parametrize("batch, ready", [(1, 64), (4, 16), (64, 4)])
def test_batches_come_back_in_random_order(batch, ready):
    numbers = [schedule.batch_number(replace(LONG, batch=batch), step) for step in range(1000)]
    assert all(step // 4 <= number < step // 4 + ready for step, number in enumerate(numbers))
    assert 3 < 1000 / len(set(numbers)) <= 4.5 and (np.diff(numbers) < 0).any()


def test_the_first_crops_are_smaller():
    """The middle one of those that choose from the last of them is at 0.7 of the training."""
    parts = [schedule.crop_part(LONG, number) for number in range(250)]
    assert parts == [0.75] * (175 + 32) + [1.0] * (75 - 32)


@given(steps=st.integers(1, 3000), batch=st.integers(1, 100), seed=st.integers(0, 9))
def test_what_is_planned_for_is_what_chance_brings(steps, batch, seed):
    settings = replace(LONG, steps=steps, batch=batch, seed=seed)
    numbers = [schedule.batch_number(settings, step) for step in range(steps)]
    early, late = schedule.planned(settings)
    assert early[0] + late[0] == pytest.approx(steps)
    for (expected, made), part in ((early, 0.75), (late, 1.0)):
        used = [number for number in numbers if schedule.crop_part(settings, number) == part]
        assert len(used) == pytest.approx(expected, rel=0.05, abs=40)
        assert len(set(used)) == pytest.approx(made, rel=0.05, abs=40)


def test_j_has_exploded_when_it_is_ten_times_that_of_the_first_steps():
    rows = [{"J": 1.0}] * 9 + [{"J": 2.0}]
    assert not schedule.exploded(rows, 1e9) and not schedule.exploded([], 1e9)
    rows.append({"J": 15.0})
    assert schedule.exploded(rows, 20.1) and not schedule.exploded(rows, 20.0)
