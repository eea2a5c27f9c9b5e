"""A short run of tests/fuzz.py, and that it would find what it looks for."""

from pathlib import Path

import pytest

import fuzz
from allaprima.core.errors import AllaprimaError


def test_two_hundred_mutated_inputs_are_read_or_refused():
    outcomes, findings = fuzz.run(first=0, count=200, seconds=300, keep=None)
    assert findings == [] and outcomes["read"] + outcomes["refused"] == 200
    assert min(outcomes["read"], outcomes["refused"]) > 20


def test_an_input_follows_from_its_number_and_is_none_of_the_seeds(tmp_path):
    seeds = fuzz.make_seeds(tmp_path)
    inputs = [fuzz.mutated(seeds, number) for number in range(300)]
    assert inputs == [fuzz.mutated(seeds, number) for number in range(300)]
    assert len({Path(name).suffix for name, _ in inputs}) > 15
    assert sum(data == seeds[name] for name, data in inputs) < 15


@pytest.mark.parametrize(
    "taken, outcome",
    [
        (lambda path, output: None, "read"),
        (lambda path, output: _refuse(f"{path} is not a picture that can be read."), "refused"),
        (
            lambda path, output: (output / ".part").write_bytes(b"half") and _refuse("It is damaged, and left."),
            "leaves",
        ),
        (lambda path, output: _refuse("two\nlines that should be one"), "says"),
        (lambda path, output: [][1], "IndexError"),
    ],
)
def test_what_is_taken_wrongly_is_found(tmp_path, monkeypatch, taken, outcome):
    monkeypatch.setattr(fuzz, "read", taken)
    assert fuzz.trial("a.png", b"", tmp_path).startswith(outcome)


def _refuse(sentence):
    raise AllaprimaError(sentence)
