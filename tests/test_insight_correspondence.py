"""`allaprima inspect correspondence`: faces that are aligned, disagreement by hand, the user's parts."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima.insight.correspondence import FACES, align, disagreement, load_parts, scores
from allaprima.models.loss_network import LossNetwork
from allaprima.models.tensors import to_image
from conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("one_thread")


def test_correspondence(inspect):
    code, error, page, sheet = inspect(
        "correspondence", "--layers", "relu1_2,relu2_1", "--window", "64", "--square", "16", "--draws", "2"
    )
    assert code == 0 and "left eye, right eye, nose hidden in 4 pictures" in error
    assert "chelsea.jpg" not in error and "relu2_1" in page and "±" in page and sheet.shape[0] > 4 * 160


def test_correspondence_of_the_users_parts(inspect, copied):
    parts = {"top": [20, 20], "bottom": [24, 40]}
    names = sorted(file.name for file in copied.iterdir())[:2]
    (copied / "parts.json").write_text(json.dumps([{"photo": name, "parts": parts} for name in names]))
    arguments = ["--layers", "relu1_1", "--window", "48", "--draws", "2"]
    code, error, page, _ = inspect("correspondence", "--parts", copied / "parts.json", *arguments)
    assert code == 0 and "top, bottom hidden in 2 pictures" in error


@pytest.mark.parametrize(
    "text, sentence",
    [
        (None, "does not exist"),
        ("{", "is not a list of parts: write it as"),
        ('[{"photo": "a.png", "parts": {"nose": 3}}]', "is not a list of parts"),
        ('[{"photo": "a.png", "parts": {"nose": [3, 3], "eye": [5, 5]}}]', "must have at least two photos"),
        (json.dumps([{"photo": "a.png", "parts": p} for p in ({"a": [9, 9], "b": [5, 5]}, {"a": [9, 9]})]), "same"),
        (
            json.dumps([{"photo": "a.png", "parts": {"a": [9, 9], "b": [60, 70]}}] * 2),
            "a.png (64x64) lie outside the photo",
        ),
        (json.dumps([{"photo": "no.png", "parts": {"a": [9, 9], "b": [6, 7]}}] * 2), "no.png does not exist"),
    ],
)
def test_parts_that_cannot_be_used(inspect, copied, text, sentence):
    next(copied.iterdir()).rename(copied / "a.png")
    if text:
        (copied / "parts.json").write_text(text)
    code, error, *_ = inspect("correspondence", "--parts", copied / "parts.json")
    assert code == 2 and sentence in error


def test_parts_of_faces_come_to_the_same_places():
    """The eyes of all four lie at about the same height, left and right, and the nose below, inside of the window."""
    faces = [align(entry, 100) for entry in FACES]
    for face in faces:
        (y1, x1), (y2, x2), (y3, x3) = (face.parts[name] for name in ("left eye", "right eye", "nose"))
        assert x1 < x3 < x2 and max(y1, y2) < y3 and all(10 < v < 90 for v in (x1, y1, x2, y2, x3, y3))
        assert face.window.shape == (1, 3, 100, 100)
    file = np.asarray(Image.open(PHOTOS / "chelsea.jpg"))
    y, x = (round(v) for v in faces[1].parts["nose"])
    nose = to_image(faces[1].window)[y, x].astype(int)
    assert np.abs(nose - file[235:246, 260:271].reshape(-1, 3).mean(0)).max() < 40


def test_pictures_that_change_alike_have_no_disagreement():
    """The same picture twice: equal where the same part is hidden, and different where another is."""
    network = LossNetwork()
    face = align(FACES[1], 64)
    found = scores(network, ["relu2_1"], [face, face], square=16, draws=3)["relu2_1"]
    assert all(found[name] == [0.0] for name in face.parts) and found["the same place in all"] == [0.0] * 3
    assert min(found["elsewhere in each"]) > 0.01


def test_disagreement_by_hand():
    a, b, c = (torch.tensor(row) for row in ([1, 0, -1, 0], [1, 1, -1, 0], [0, 0, 1, 0]))
    assert disagreement([a, b, c]) == pytest.approx((1 + 2 + 3) / 4 / 3)


def test_parts_may_be_named_in_any_order(tmp_path):
    """They are compared by their places in the list."""
    entries = [
        {"photo": "a.jpg", "parts": {"eye": [1, 2], "nose": [3, 4]}},
        {"photo": "b.jpg", "parts": {"nose": [5, 6], "eye": [7, 8]}},
    ]
    (tmp_path / "parts.json").write_text(json.dumps(entries))
    assert [list(entry["parts"].items()) for entry in load_parts(tmp_path / "parts.json")] == [
        [("eye", (1, 2)), ("nose", (3, 4))],
        [("eye", (7, 8)), ("nose", (5, 6))],
    ]
