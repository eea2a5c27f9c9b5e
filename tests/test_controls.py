"""What can be turned beside the network: the photo's colours."""

import inspect

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allaprima import Controls, Stylizer, stylize
from allaprima.commands import baseline, styles
from allaprima.core.errors import AllaprimaError
from allaprima.infer import live
from allaprima.media.luminance import REC601, keep_colors_of
from allaprima.media.pictures import read_rgb

YIQ = np.array([REC601, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@given(seed=st.integers(0, 99), spread=st.integers(1, 60), shape=st.sampled_from([(9, 7, 3), (2, 5, 8, 3)]))
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
def test_a_switch_is_true_or_false(value):
    with pytest.raises(AllaprimaError, match="keep_colors must be True or False, not"):
        Controls(keep_colors=value)


class Window:
    """Presses one key after another, a picture each; `lines` of the status are seen by whoever writes them."""

    def __init__(self, keys):
        self.keys = list(keys)

    def take(self, shot):
        pass

    def key(self):
        return self.keys.pop(0) if self.keys else "q"

    def close(self):
        pass


def pressed(keys, monkeypatch):
    """The controls that a style was called with while the keys were pressed, each once, and the status lines."""
    seen, lines = [], []
    monkeypatch.setattr(live, "Window", lambda: Window(keys))
    monkeypatch.setattr(live, "write_on", lambda rgb, top, bottom, recording: lines.append(top[0]))

    class Camera:
        def read(self):
            return np.zeros((32, 32, 3), np.uint8)

        def close(self):
            pass

    def paint(rgb, controls):
        if controls not in seen[-1:]:
            seen.append(controls)
        return rgb

    live.run_live([paint], Camera)
    return seen, lines


def test_c_turns_the_photos_colours_on_and_off(monkeypatch):
    seen, lines = pressed(["", *"c" + 20 * " ", *"c" + 20 * " "], monkeypatch)
    assert [controls.keep_colors for controls in seen][:3] == [False, True, False]
    assert any("photo's colours" in line for line in lines) and "colours" not in lines[0]
