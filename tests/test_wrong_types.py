"""Every parameter of every public function of train, baseline and insight, given a value of a wrong type: one sentence."""

import inspect

import pytest

from allaprima.baseline.compare import compare
from allaprima.baseline.files import optimize_files
from allaprima.baseline.optimizer import optimize
from allaprima.core.errors import AllaprimaError
from allaprima.insight.correspondence import correspondence
from allaprima.insight.costs import costs
from allaprima.insight.evolution import evolution
from allaprima.insight.features import features
from allaprima.insight.invariance import invariance
from allaprima.insight.occlusion import occlusion
from allaprima.insight.reconstruct import reconstruct
from allaprima.insight.report import write_report
from allaprima.train.run import train_style
from conftest import PHOTOS

PHOTO, PAINTING = PHOTOS / "fig.jpg", PHOTOS / "brushes.jpg"
GIVEN = {  # function: what it is given besides the wrong value
    train_style: {"style": PAINTING, "output": "out.onnx"},
    optimize: {"content": PHOTO, "styles": [PAINTING]},
    optimize_files: {"content": PHOTO, "styles": [PAINTING], "output": "out.png"},
    compare: {"photos": [PHOTO], "style": PAINTING},
    features: {},
    evolution: {"run": PHOTOS},
    invariance: {},
    occlusion: {"photos": [PHOTO]},
    correspondence: {},
    reconstruct: {"photo": PHOTO, "painting": PAINTING},
    costs: {"photo": PHOTO, "style": PAINTING},
    write_report: {"trainer": None, "style": PAINTING, "model": "model.onnx", "path": "report.html"},
}
UNCHECKED = {"listener", "each", "options", "stop", "changes", "wall_seconds"}  # callables, a number
CASES = [
    pytest.param(function, name, id=f"{function.__name__}-{name}")
    for function in GIVEN
    for name in inspect.signature(function).parameters
    if name not in UNCHECKED
]


@pytest.mark.parametrize("function, name", CASES)
def test_a_wrong_type_is_one_sentence_that_names_the_parameter(function, name, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = GIVEN[function] | ({"model": tiny_model} if function in (compare, costs) else {})
    with pytest.raises(AllaprimaError) as caught:
        function(**given | {name: object()})
    sentence = str(caught.value)
    assert name in sentence and sentence.endswith(".") and "\n" not in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["resume", "overwrite", "painting"])
def test_a_switch_of_a_training_is_not_a_text(name, tmp_path):
    """By "no", a finished training would be replaced, and the painting put into the model file."""
    with pytest.raises(AllaprimaError, match=f"{name} must be True or False, not 'no'"):
        train_style(PAINTING, tmp_path / "x.onnx", **{name: "no"})
    assert not list(tmp_path.iterdir())
