"""What can be turned beside the network: the photo's colours, the size of strokes."""

import inspect

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allaprima import Controls, Stylizer, stylize
from allaprima.commands import baseline, styles
from allaprima.core.errors import AllaprimaError
from allaprima.infer import live, overlay
from allaprima.infer.strokes import paint_strokes
from allaprima.media.luminance import REC601, keep_colors_of, luminance, return_detail
from allaprima.media.pictures import read_rgb

YIQ = np.array([REC601, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@given(seed=st.integers(0, 99), spread=st.integers(1, 60), shape=st.sampled_from([(9, 7, 3), (16, 31, 3)]))
def test_y_is_the_paintings_i_and_q_are_the_photos(seed, spread, shape):
    random = np.random.default_rng(seed)
    photo, painted = (random.integers(128 - spread, 128 + spread, shape).astype(np.uint8) for _ in range(2))
    kept = keep_colors_of(photo, painted)
    inside = ((kept > 0) & (kept < 255)).all(-1)
    y, i, q = np.moveaxis(kept @ YIQ.T, -1, 0)
    assert np.abs(y - painted @ YIQ[0])[inside].max() <= 1.01  # two luminances are rounded
    assert np.abs(np.stack([i, q], -1) - photo @ YIQ[1:].T).max() < 0.1 + 300 * (not inside.all())
    assert kept.shape == shape and kept.dtype == np.uint8


def test_a_stylizer_keeps_the_colours_of_every_picture_of_a_batch(tiny_model, photo):
    stylizer, batch = Stylizer(tiny_model), np.stack([photo, photo[::-1], photo[:, ::-1]])
    kept = stylizer(batch, Controls(keep_colors=True))
    for one, image, painted in zip(kept, batch, stylizer(batch)):
        assert (one == stylizer(image[:, :], Controls(keep_colors=True))).all()
        inside = ((one > 0) & (one < 255)).all(2)
        assert np.ptp((one.astype(int) - image)[inside], axis=1).max() == 0
        grey = [
            cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(int) for picture in (one, painted)
        ]
        assert np.abs(grey[0] - grey[1])[inside].max() <= 1
    assert (stylizer(photo, Controls(0, keep_colors=True)) == photo).all()


def test_stylize_keeps_colours_in_files(tmp_path, tiny_model, photo):
    cv2.imwrite(str(tmp_path / "in.png"), photo[..., ::-1])
    (path,) = stylize(tmp_path / "in.png", model=tiny_model, strength=Controls(keep_colors=True))
    assert (np.asarray(read_rgb(path)) == Stylizer(tiny_model)(photo, Controls(keep_colors=True))).all()


def test_one_option_for_networks_and_the_optimizer():
    options = {
        inspect.signature(command).parameters["keep_colors"].annotation
        for command in (styles.stylize, styles.live, baseline.baseline)
    }
    assert len(options) == 1


@pytest.mark.parametrize("value", [1, None, "yes", np.array([True])], ids=repr)
@pytest.mark.parametrize("name", ["keep_colors", "steady"])
def test_a_switch_is_true_or_false(name, value):
    with pytest.raises(AllaprimaError, match=f"{name} must be True or False, not"):
        Controls(**{name: value})


class Window:
    """Presses one key after another, a picture each; `lines` of the status are seen by whoever writes them."""

    def __init__(self, keys):
        self.keys = list(keys)

    def show(self, rgb, size):
        pass

    def key(self):
        return self.keys.pop(0) if self.keys else "q"

    def close(self):
        pass


def pressed(keys, monkeypatch):
    """The controls that a style was called with while the keys were pressed, each once, and the status lines."""
    seen, lines = [], []
    monkeypatch.setattr(live, "Window", lambda: Window(keys))
    monkeypatch.setattr(overlay, "write_on", lambda rgb, top, bottom, recording: lines.append(top[0]))

    class Camera:
        def read(self):
            return np.zeros((32, 32, 3), np.uint8)

        def close(self):
            pass

    def paint(rgb, controls, place=None):
        if controls not in seen[-1:]:
            seen.append(controls)
        return rgb

    live.run_live([paint], Camera)
    return seen, lines


def test_c_turns_the_photos_colours_on_and_off(monkeypatch):
    seen, lines = pressed(["", *"c" + 20 * " ", *"c" + 20 * " "], monkeypatch)
    assert [controls.keep_colors for controls in seen][:3] == [False, True, False]
    assert any("photo's colours" in line for line in lines) and "colours" not in lines[0]


def test_b_goes_through_the_brushes_and_back_to_none(monkeypatch):
    seen, lines = pressed([*("b" + 20 * " ") * 6], monkeypatch)
    assert [controls.stroke for controls in seen][:7] == [None, 0.5, 0.7, 1, 1.4, 2, None]
    assert any("stroke 0.7" in line for line in lines) and "stroke" not in lines[0]


@pytest.mark.parametrize("value", [0.4, 2.1, float("nan"), "1", [1], True], ids=repr)
def test_a_stroke_has_a_range(value):
    with pytest.raises(AllaprimaError, match="stroke must be a number from 0.5 to 2, or None, not"):
        Controls(stroke=value)


def test_a_stroke_of_1_is_the_network_itself_at_640x480(tiny_model, photo):
    large, stylizer = cv2.resize(photo, (640, 480)), Stylizer(tiny_model)
    assert (stylizer(large, Controls(stroke=1)) == stylizer(large)).all()


@pytest.mark.parametrize("stroke, side", [(0.5, 1280), (1, 640), (2, 320)])
@pytest.mark.parametrize("height", [240, 480, 1200, 1800])
def test_the_network_paints_at_the_size_that_the_stroke_asks_for(stroke, side, height, photo):
    """Whatever the picture's size, and whichever way it is held."""
    seen = []

    def same(batch):
        seen.append(batch.shape)
        return batch

    for picture in (cv2.resize(photo, (height * 4 // 3, height)), cv2.resize(photo, (height, height * 4 // 3))):
        assert paint_strokes(same, picture[None], stroke).shape == (1, *picture.shape)
    assert seen == [(1, side * 3 // 4, side, 3), (1, side, side * 3 // 4, 3)]


def test_pictures_of_a_batch_are_enlarged_one_by_one(tiny_model, photo, monkeypatch):
    seen, stylizer = [], Stylizer(tiny_model)
    forward = stylizer._forward

    def watched(session, batch, *others):
        seen.append(len(batch))
        return forward(session, batch, *others)

    monkeypatch.setattr(stylizer, "_forward", watched)
    batch = np.stack([photo[:64, :64]] * 3)
    painted = stylizer(batch, Controls(stroke=1))
    assert seen == [1, 1, 1] and np.array_equal(painted[0], painted[2])


@pytest.mark.parametrize("stroke", [0.5, 1, 1.7])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (37, 5), (301, 203)])
def test_any_size_and_strength_has_strokes(stroke, shape, tiny_model, photo):
    picture, stylizer = cv2.resize(photo, shape), Stylizer(tiny_model)
    assert stylizer(picture, Controls(stroke=stroke)).shape == picture.shape
    assert (stylizer(picture, Controls(0, stroke)) == picture).all()
    pair = stylizer(np.stack([picture, picture[::-1]]), Controls(0.5, stroke))
    assert (pair[0] == stylizer(picture, Controls(0.5, stroke))).all()


def sharpness(picture):
    return np.abs(cv2.Laplacian(luminance(picture).astype(np.float32), -1)).mean()


@pytest.mark.parametrize("painting", ["the photo", "its negative", "darker"])
def test_edges_are_as_sharp_as_the_photos_and_point_the_same_way(painting, photo):
    """A painting that follows the photo comes back from a third of the size with the photo's own edges."""
    paint = {"the photo": lambda x: x, "its negative": lambda x: 255 - x, "darker": lambda x: x // 2}[painting]
    grey = np.repeat(luminance(photo)[..., None], 3, 2)
    small = cv2.resize(grey, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
    enlarged, whole = cv2.resize(paint(small), (320, 240), interpolation=cv2.INTER_CUBIC), paint(grey)
    back = return_detail(enlarged, grey, paint(small), small)
    assert sharpness(enlarged) < 0.5 * sharpness(whole) and sharpness(back) > 0.8 * sharpness(whole)
    error = [((picture.astype(float) - whole) ** 2).mean() for picture in (enlarged, back)]
    assert error[1] < 0.2 * error[0]


def test_the_photos_texture_stays_out_where_the_painting_is_flat(photo):
    small = cv2.resize(photo, (160, 120), interpolation=cv2.INTER_AREA)
    flat = np.full_like(photo, 90)
    assert (return_detail(flat, photo, flat[:120, :160], small) == 90).all()


def test_t_lets_strokes_go_and_holds_them_still(monkeypatch):
    seen, lines = pressed([*("t" + 20 * " ") * 2], monkeypatch)
    assert [controls.steady for controls in seen][:3] == [True, False, True]
    assert any("steady" not in line for line in lines) and "steady" in lines[0]
