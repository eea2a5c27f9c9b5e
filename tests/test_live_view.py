"""What the live window shows by key: the list of styles, the mirror image, full screen, and no status line."""

import re

import cv2
import numpy as np
import pytest
from PIL import Image

from allaprima.core.errors import AllaprimaError
from allaprima.infer import live
from allaprima.infer.library import BUNDLED
from allaprima.infer.live import Styles, run_live
from allaprima.infer.modelfile import read_card
from allaprima.infer.overlay import HELP, View
from allaprima.infer.stylizer import Stylizer
from allaprima.media.mailbox import Shot
from conftest import ROOT, make_model
from test_live import Camera, FakeWindow, same


@pytest.fixture
def shown(monkeypatch):
    """shown(keys, **how): run live with these keys typed; the window with what it was shown."""

    def run(keys, camera, styles=(same,), **how):
        window = FakeWindow(keys)
        monkeypatch.setattr(live, "Window", lambda: window)
        run_live(list(styles), camera.open, **how)
        return window

    return run


class Ramp(Camera):
    """Darker on the left than on the right."""

    def read(self):
        grey = super().read()
        return grey if grey is None else np.broadcast_to(np.arange(grey.shape[1], dtype=np.uint8)[:, None], grey.shape)


def test_the_mirror_key_flips_what_comes_after_it(shown):
    pictures = shown({10: "m", 20: "m", 30: "q"}, Ramp(rate=200)).pictures
    bottoms = [picture[-1, :, 0] for picture in pictures if picture.any()]  # it is black before the first frame
    ways = "".join("><"[int(bottom[-1] > bottom[0])] for bottom in bottoms)
    assert re.fullmatch("<+>+<+", ways), ways


def test_the_status_line_goes_and_comes_back(shown):
    window = shown({10: "i", 20: "i", 30: "q"}, Camera(rate=200, size=(320, 240)))
    written = [picture.std() > 3 for picture in window.pictures]
    assert written == [True] * 10 + [False] * 10 + [True] * 10


def test_the_full_screen_key(shown):
    assert shown({5: "f", 10: "q"}, Camera()).full_screen is True
    assert shown({5: "ff", 10: "q"}, Camera()).full_screen is False


def shot_of(height, width):
    grey = np.full((height, width, 3), 100, np.uint8)
    return Shot(grey, 0, 0, grey)


def listed(styles, chosen, height=480, width=640):
    view = View(status=False, list=True)
    return view.picture(shot_of(height, width), styles, chosen, "", "", False)


def test_the_list_has_a_row_with_a_thumbnail_for_each_style(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    models = []
    for number, colour in enumerate(colours):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "thumbnail.jpg", quality=95)
        thumbnail = (tmp_path / "thumbnail.jpg").read_bytes()
        models.append(make_model(tmp_path / f"style{number}.onnx", seed=number, thumbnail=thumbnail))
    picture = listed(Styles(models), 1)
    rows = [np.argwhere(np.abs(picture.astype(int) - colour).max(2) < 12) for colour in colours]
    assert all(len(row) > 500 for row in rows)
    tops = [row[:, 0].min() for row in rows]
    assert tops == sorted(tops) and len(set(np.diff(tops))) == 1
    assert np.all(picture[:, :300] == 100)  # it stays at its border


def test_the_chosen_style_stands_out_and_the_list_follows_it():
    def paint(rgb, controls):
        return rgb

    styles = Styles([paint] * 30)
    styles.names = [f"style {n}" for n in range(30)]

    def frame_of(chosen):
        white = np.argwhere(np.all(listed(styles, chosen, 240, 320) == 255, 2))
        rows, counts = np.unique(white[:, 0], return_counts=True)
        lines = rows[counts > 60]  # the upper and the lower edge of the frame
        assert len(lines) == 2
        return lines[0]

    places = [frame_of(chosen) for chosen in range(30)]
    assert places == sorted(places) and places[10] == places[20] and places[29] < 240 - 14


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (96, 2000)])
def test_the_list_fits_any_picture(size):
    assert listed(Styles(["wave", "starry_night"]), 0, *size).shape == (*size, 3)


def test_a_style_without_a_thumbnail_or_a_file_is_listed_too(tmp_path, tiny_model):
    styles = Styles([same, tmp_path / "gone.onnx", tiny_model, Stylizer(tiny_model)])
    thumbnails = [styles.thumbnail(index) for index in range(4)]
    assert thumbnails[0] is None and thumbnails[1] is None
    assert np.array_equal(thumbnails[2], thumbnails[3]) and thumbnails[2].shape == (32, 32, 3)
    listed(styles, 0)


def test_a_card_is_read_without_a_session(tiny_model):
    for path in [tiny_model, *BUNDLED.glob("*.onnx")]:
        card, wanted = read_card(path.read_bytes(), path), Stylizer(path).card
        assert card.thumbnail and all(
            np.array_equal(a, b) if key != "grams" else a.keys() == b.keys()
            for (key, a), b in zip(vars(card).items(), vars(wanted).values(), strict=True)
        )
    whole = tiny_model.read_bytes()
    for damaged in (b"", whole[:200], whole + b"\x72\x02\x12\x00", whole + b"\x72\x03\x0a\x01\xff"):  # in the last
        with pytest.raises(AllaprimaError, match=r"style\.onnx"):  # two an entry without a key, and one of no text
            read_card(damaged, "style.onnx")


def test_a_snapshot_has_the_style_in_its_name(shown, tmp_path):
    def paint(rgb, controls):
        return rgb

    paint.name = "Café / am Fluß"
    shown({10: "s", 20: "ns", 40: "s", 50: "q"}, Camera(rate=200), [paint, same], snapshots=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert re.fullmatch(r"allaprima-Café_am_Fluß-\d{8}-\d{6}-\d{6}\.png", names[0])
    assert len(names) == 3 and all(cv2.imread(str(tmp_path / name)) is not None for name in names if name.isascii())


def test_every_key_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [line for line in HELP for key in line.split("\t")[0].split() if f"`{key}`" not in readme]
    assert not missing, missing
