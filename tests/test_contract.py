"""What all parts of the house agree on: the card of a model file, and what can be turned."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allaprima.core.contract import FORMAT, Card, Controls, parse_size
from allaprima.core.errors import AllaprimaError


@given(
    name=st.text(),
    credit=st.text(),
    painting=st.binary(max_size=200),
    settings=st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans()),
)
@example(name="", credit="", painting=b"", settings={"objective": None, "style_path": ""})
def test_a_card_goes_through_metadata(name, credit, painting, settings):
    card = Card(name, "live", credit, painting=painting, settings=settings, losses={"trained_seconds": 1.5})
    metadata = card.to_metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    assert Card.of_metadata(metadata | {"added by somebody": "else"}) == card


@given(
    channels=st.integers(1, 40),
    places=st.integers(1, 30),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    relu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gram_matrices_keep_their_diagonal_and_their_angles(channels, places, scale, relu, seed):
    """Within half a step of 256; of channels that never fire, and of those before a ReLU, too."""
    activations = np.random.default_rng(seed).normal(size=(channels, places)).astype(np.float32)
    activations = (np.maximum(activations, 0) if relu else activations) * np.float32(scale)
    gram = activations @ activations.T / places
    kept = Card.of_metadata(Card(grams={"conv": gram}).to_metadata()).grams["conv"]
    assert kept.dtype == np.float32 and (kept == kept.T).all()
    np.testing.assert_allclose(kept.diagonal(), gram.diagonal(), rtol=0.01)
    length = np.sqrt(gram.diagonal())
    assert (np.abs(kept - gram) <= np.outer(length, length) * (2 / 510 + 1e-5)).all()


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"settings": "{"}, "style.onnx is damaged: its settings can't be read"),
        ({"settings": "[1]"}, "its settings can't be read"),
        ({"thumbnail": "!"}, "its thumbnail can't be read"),
        ({"grams": '{"relu1_2": [1]}'}, "its grams can't be read"),
        ({"grams": '{"relu1_2": ["AACAPw==", 0.0, "AAAA"]}'}, "its grams can't be read"),
        ({"format": "two"}, "its format can't be read"),
        ({"format": "3"}, "style.onnx has format 3, and allaprima .* reads up to 2: update allaprima"),
    ],
)
def test_a_damaged_card_is_a_sentence(change, sentence):
    with pytest.raises(AllaprimaError, match=sentence):
        Card.of_metadata(Card("style").to_metadata() | change, "style.onnx")


def test_a_card_of_format_1_has_the_objective_among_its_settings():
    settings = {"steps": 5, "objective": {"beta": 2.0}, "style_path": "/home/me/painting.jpg"}
    card = Card.of_metadata({"name": "old", "version": "0.1.0", "settings": json.dumps(settings)})
    assert card == Card("old", settings={"steps": 5}, objective={"beta": 2.0}, version="0.1.0", format=1)
    assert FORMAT == 2


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf"), "1", None])
def test_controls_have_ranges(strength):
    with pytest.raises(AllaprimaError, match="strength must be a number from 0 to 1, not"):
        Controls(strength)


@pytest.mark.parametrize("strength", [0, 0.5, 1, np.float32(0.25)])
def test_controls_take_numbers(strength):
    assert Controls(strength).strength == strength


@given(width=st.integers(0, 3000), height=st.integers(0, 3000))
def test_a_size_is_width_and_height(width, height):
    if min(width, height) >= 16:
        assert parse_size(f"{width}X{height}") == (width, height)
    else:
        with pytest.raises(AllaprimaError, match="16 to 999999"):
            parse_size(f"{width}x{height}")
