"""Frames on a canvas that goes along with the camera: what is painted moves as the photo does."""

import cv2
import numpy as np
import pytest

import clips
from allaprima import Controls, Stylizer
from allaprima.core.contract import GRID, PERIOD
from allaprima.infer.canvas import Camera
from allaprima.infer.library import BUNDLED
from allaprima.infer.steadiness import Yardstick, paint_frames
from conftest import PHOTOS

JOHNSON = BUNDLED.parent / "reference" / "johnson.onnx"  # which has no grain
SIZE = 240, 320


def photo(name="china.jpg"):
    return cv2.cvtColor(cv2.imread(str(PHOTOS / name)), cv2.COLOR_BGR2RGB)


def seen(y, x, name="china.jpg", noise=0.0, seed=0):
    """What a camera sees whose first pixel is at (y, x) of a photo."""
    frame = photo(name)[y : y + SIZE[0], x : x + SIZE[1]]
    noisy = frame + np.random.default_rng(seed).normal(0, noise, frame.shape) if noise else frame
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("model", ["starry_night", "udnie", JOHNSON], ids=str)
def test_strokes_move_with_the_photo(model):
    """Also by what is not a multiple of the steps in which a network halves its picture."""
    stylizer, first, second = Stylizer(model), seen(40, 40), seen(45, 43)

    def apart(**place):
        before = stylizer(first, **(place and {"place": (0, 0)}))[69:-64, 67:-64].astype(int)
        return np.abs(stylizer(second, **place)[64:-69, 64:-67] - before).mean()

    assert apart(place=(5, 3)) < 0.4 * apart()


def test_a_place_changes_the_canvas_and_not_how_it_is_painted():
    stylizer, frame = Stylizer("wave"), seen(40, 40)
    larger = cv2.copyMakeBorder(frame, 0, PERIOD, 0, PERIOD, cv2.BORDER_REFLECT)
    plain = stylizer(larger)[: SIZE[0], : SIZE[1]]
    for place in ((0, 0), (GRID, -GRID)):  # the grain repeats itself
        assert (stylizer(frame, place=place) == plain).all()
    assert (stylizer(frame, place=(PERIOD, 0)) != plain).any()
    assert (stylizer(frame, Controls(0.0), place=(3, 3)) == frame).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (16, 16), (33, 47)])
@pytest.mark.parametrize("stroke", [None, 2])
def test_any_size_has_a_place(shape, stroke):
    frame = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    assert Stylizer("udnie")(frame, Controls(stroke=stroke), place=(1001, -77)).shape == frame.shape
    camera = Camera()
    for picture in (*frame, frame[0, ::-1]):
        camera(picture)


def test_what_has_no_place_is_painted_without(tiny_model, monkeypatch):
    monkeypatch.setattr("allaprima.infer.tiles.WHOLE", 200 * 200)
    stylizer, frame = Stylizer(tiny_model), seen(40, 40)
    assert (stylizer(frame, place=(3, 5)) == stylizer(frame)).all()


@pytest.mark.parametrize("step", [(0, 0), (1, 0), (2, -3), (0, 9)])
def test_a_camera_that_moves_by_whole_pixels_is_followed_exactly(step):
    """Over half of the frame, so that corners are chosen anew."""
    camera, (dy, dx) = Camera(), step
    for k in range(12):
        y, x = k * dy, 60 + k * dx
        moved = (k * dy, k * dx)
        assert camera(seen(y, x, noise=2.0, seed=k)) == (moved if any(moved) else None)


def test_noise_and_things_that_move_are_not_taken_for_the_camera():
    camera = Camera()
    for k in range(12):
        frame = seen(40, 40, noise=3.0, seed=k)
        frame[60:200, 10 * k : 10 * k + 90] = seen(0, 0, "coffee.jpg")[60:200, 60:150]
        assert camera(frame) is None


def somebody_before_a_wall(count):
    """Frames of a still camera: who sways before a plain wall has nearly all corners of the picture."""
    person, random = photo("astronaut.jpg")[: SIZE[0], 80:340], np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : person.shape[1]]
    shape = ((rows - 75) / 70) ** 2 + ((columns - 145) / 60) ** 2 < 1
    shape |= ((rows - 260) / 120) ** 2 + ((columns - 130) / 105) ** 2 < 1
    for k in range(count):
        frame = np.full((*SIZE, 3), 165.0) + np.linspace(0, 20, SIZE[1])[:, None]
        left = round(30 + 16 * np.sin(k / 6))
        frame[:, left : left + person.shape[1]][shape] = person[shape]
        yield np.clip(frame + random.normal(0, 1, frame.shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("moves", ["somebody", "light", "zoom", "turn"])
def test_the_camera_stands_still_where_it_does_not_pan(moves):
    if moves == "somebody":
        frames = somebody_before_a_wall(40)
    elif moves == "light":
        frames = (np.uint8(seen(40, 40, noise=1.0, seed=k) * (1 - 0.02 * k)) for k in range(35))
    elif moves == "zoom":
        frames = clips.filmed(PHOTOS / "china.jpg", 30, SIZE[::-1], (0, 0), start=(100, 60), nearer=1.006)
    else:
        turns = (cv2.getRotationMatrix2D((320, 213), 0.5 * k, 1) for k in range(30))
        frames = (cv2.warpAffine(photo(), turn, (640, 427))[94:334, 160:480] for turn in turns)
    camera = Camera()
    assert all(camera(frame) is None for frame in frames)


def test_a_slow_camera_is_never_further_off_than_a_pixel():
    whole, camera, gone = photo(), Camera(), np.zeros(2)
    for k in range(30):
        matrix = np.array([[1, 0, 40 + 0.37 * k], [0, 1, 40 + 0.21 * k]])
        frame = cv2.warpAffine(whole, matrix, SIZE[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        assert np.abs(np.array(camera(frame) or (0, 0)) - [0.21 * k, 0.37 * k]).max() < 0.8
        gone = gone + camera.step
        assert np.abs(gone - [0.37 * k, 0.21 * k]).max() < 0.6


def test_a_camera_that_stands_takes_no_step():
    camera = Camera()
    for k in range(20):
        camera(seen(40, 40, noise=3.0, seed=k))
        assert not camera.step.any()


def test_after_a_cut_or_where_nothing_is_seen_the_camera_goes_on_from_its_place():
    camera = Camera()
    assert camera(np.full((*SIZE, 3), 90, np.uint8)) is None
    assert [camera(seen(40, 40 + 3 * k)) for k in range(3)][-1] == (0, 6)
    assert [camera(seen(20, 20 + 3 * k, "coffee.jpg")) for k in range(3)] == [(0, 6), (0, 9), (0, 12)]
    assert [camera(np.full((*SIZE, 3), 90, np.uint8)) for _ in range(3)] == [(0, 12)] * 3
    assert [camera(seen(20, 20 + 3 * k, "coffee.jpg")[:200]) for k in range(2)] == [(0, 12), (0, 15)]
    assert camera(np.zeros((1, 1, 3), np.uint8)) == (0, 15)


def test_strokes_keep_still_in_a_pan(monkeypatch):
    frames = [seen(20 + k, 20 + 3 * k, noise=1.0, seed=k) for k in range(12)]
    stylizer, yardstick, how = Stylizer("starry_night", one_size=True), Yardstick(frames), Controls(steady=True)
    after = yardstick.measure(paint_frames(stylizer, frames, how))
    monkeypatch.setattr(Camera, "_way", lambda *_: None)
    before = yardstick.measure(paint_frames(stylizer, frames, how))
    assert after.near < 0.6 * before.near and after.far < 0.8 * before.far and after.detail > 0.95 * before.detail
