"""Strokes that stay on what they paint: clips whose motion is known, painted with strokes that boil."""

import cv2
import numpy as np
import pytest

import clips
from allaprima import Controls, Stylizer
from allaprima.commands.app import app
from allaprima.infer import video
from allaprima.infer.steadiness import Yardstick, paint_frames
from allaprima.infer.steady import Steady
from allaprima.infer.video import stylize_video
from conftest import PHOTOS


def photo(name="china.jpg"):
    return cv2.cvtColor(cv2.imread(str(PHOTOS / name)), cv2.COLOR_BGR2RGB)


def panned(count, dx, dy):
    """Frames of a camera that moves by whole pixels over a photo."""
    return clips.filmed(PHOTOS / "china.jpg", count, (320, 240), (dx, dy), start=(40, 40))


def boiling(frames, levels=20, seed=1):
    """The frames darkened, under other strokes in each one: blurred noise of so many grey levels."""
    random = np.random.default_rng(seed)
    for frame in frames:
        strokes = cv2.GaussianBlur(random.normal(0, 1, frame.shape[:2]), (0, 0), 2)
        yield np.clip(frame * 0.6 + 50 + levels * strokes[..., None] / strokes.std(), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("dx, dy, most", [(0, 0, 0.3), (3, 1, 0.8)])
def test_strokes_calm_down_and_are_not_blurred(dx, dy, most):
    frames = list(panned(17, dx, dy))
    painted, steady = list(boiling(frames)), Steady()
    shown = [steady(*pair) for pair in zip(frames, painted)]
    yardstick = Yardstick(frames)
    before, after = yardstick.measure(painted), yardstick.measure(shown)
    assert after.near < most * before.near and after.far < before.far
    assert after.detail > 0.9 * before.detail
    assert (shown[0] == painted[0]).all()


def test_strokes_are_held_as_well_at_the_border_of_a_still_camera():
    frames = list(panned(9, 0, 0))
    steady = Steady()
    painted = list(boiling(frames))
    shown = [steady(*pair) for pair in zip(frames, painted)]
    before, after = (np.abs(np.diff(np.array(clip, np.float32)[4:], axis=0)).mean((0, 3)) for clip in (painted, shown))
    for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        assert after[edge].mean() < 0.25 * before[edge].mean()


@pytest.mark.parametrize(
    "name, how", [("astronaut.jpg", {"start": (70, 0), "nearer": 1.004}), ("china.jpg", {"step": (1.3, 0.4)})]
)
def test_what_is_kept_for_long_is_never_drawn_harder_than_the_style_draws(name, how):
    """What is sharpened in each frame could grow where a slow camera does not blur it: lines over a face."""

    def texture(picture):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        return cv2.blur(np.abs(grey - cv2.blur(grey, (3, 3))), (15, 15))

    steady, stylizer = Steady(), Stylizer("wave", one_size=True)
    for frame in clips.filmed(PHOTOS / name, 24, (320, 240), **({"step": (0.9, 0.4)} | how)):
        painted = stylizer(frame)
        assert (texture(steady(frame, painted)) < 1.5 * texture(painted) + 8).all()


@pytest.mark.parametrize("still", [True, False])
def test_after_a_cut_nothing_is_left_of_the_old_scene(still):
    scenes = [photo("china.jpg")[:240, :320], photo("coffee.jpg")[:240, :320]]
    frames = [scenes[k // 4][0 if still else k :][:200] for k in range(8)]
    painted, steady = list(boiling(frames)), Steady()
    shown = [steady(*pair) for pair in zip(frames, painted)]
    assert (shown[4] == painted[4]).all() and not (shown[5] == painted[5]).all()


def test_still_strokes_keep_still_whatever_noise_there_is_and_whatever_moves_beside_them():
    """Flow fits noise, and spreads from what moves over what is plain: strokes would be dragged along, and wear."""
    wall, random = np.full((240, 320, 3), 150.0), np.random.default_rng(0)
    strokes, steady = next(boiling([wall])), Steady()
    for k in range(30):
        left, frame = 30 + round(14 * np.sin(k / 4)), wall.copy()
        frame[:, left : left + 90] = photo()[100:340, 200:290]
        painted = strokes.copy()
        painted[:, left : left + 90] = 255 - frame[:, left : left + 90]
        shown = steady(np.clip(frame + random.normal(0, 2, frame.shape), 0, 255).round().astype(np.uint8), painted)
        assert np.abs(shown[:, 200:].astype(int) - strokes[:, 200:]).mean() < 1


def test_what_is_plain_goes_with_the_camera():
    strokes = next(boiling([np.full((300, 400, 3), 150.0)]))
    plain, steady = np.full((240, 320, 3), 150, np.uint8), Steady()
    for k in range(6):
        there = strokes[2 * k : 240 + 2 * k, 3 * k : 320 + 3 * k]  # as the first painting lies after so many steps
        painted = there if k == 0 else strokes[::-1, ::-1][:240, :320]
        shown = steady(plain, painted, (3 * bool(k), 2 * bool(k)))
        apart = [np.abs(shown[:220, :290].astype(int) - each[:220, :290]).mean() for each in (there, painted)]
        assert k == 0 or (apart[0] < apart[1] and (k > 2 or apart[0] < 0.5 * apart[1]))


def test_where_specks_leave_no_place_that_holds_the_new_painting_shows():
    plain = np.full((240, 320, 3), 90, np.uint8)
    specks, steady = plain.copy(), Steady()
    for row, column in np.ndindex(2, 2):
        specks[row::4, column::4] = 255
    steady(plain, plain)
    painted = next(boiling([plain], levels=2))
    assert (steady(specks, painted) == painted).all()


def test_what_moves_leaves_nothing_behind():
    """A bright box runs over a calm street: where it was and where it is, the new painting shows."""
    background, steady = photo()[:240, :320], Steady()
    for k in range(10):
        frame = background.copy()
        left = 20 + 24 * k
        frame[100:140, left : left + 20] = 250
        painted = 255 - frame
        shown = steady(frame, painted)
        for column in (left, left - 24):
            place = slice(100, 140), slice(max(column, 0), column + 20)
            assert np.abs(shown[place].astype(int) - painted[place]).mean() < 4, k


def test_a_change_of_light_is_not_held_back():
    """The photo darkens slowly; the painting of it must follow, and is at most a few frames behind."""
    frames = [(photo()[:240, :320] * (1 - 0.02 * k)).astype(np.uint8) for k in range(25)]
    steady = Steady()
    shown = [steady(frame, 255 - frame) for frame in frames]
    assert np.abs(shown[-1].mean() - (255 - frames[-1]).mean()) < 30


@pytest.mark.parametrize("change", ["by", "size"])
def test_another_style_or_size_begins_anew(change):
    frames, steady = list(panned(2, 0, 0)), Steady()
    first, second = boiling(frames)
    steady(frames[0], first, by="wave")
    if change == "size":
        frames[1], second = frames[1][:200], second[:200]
    assert (steady(frames[1], second, by="udnie" if change == "by" else "wave") == second).all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 400), (400, 5), (16, 16), (33, 47), (101, 640)])
def test_any_size_is_taken(shape):
    steady = Steady()
    for seed in range(3):
        picture = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
        assert steady(picture, 255 - picture).shape == picture.shape


@pytest.mark.parametrize("options, controls", [([], Controls(steady=True)), (["--no-steady"], Controls(steady=False))])
def test_videos_are_steady_unless_told_otherwise(tmp_path, tiny_model, options, controls):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(6, 96, 64))
    app(
        ["stylize", str(source), "-m", str(tiny_model), "-o", str(tmp_path / "out.mp4"), *options],
        standalone_mode=False,
    )
    stylize_video(source, tmp_path / "expected.mp4", Stylizer(tiny_model), controls)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "expected.mp4").read_bytes()


def test_a_video_by_several_workers_is_that_of_one_order(tmp_path, tiny_model, monkeypatch):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(20, 320, 240), crf="1")
    stylizer, controls = Stylizer(tiny_model, threads=4), Controls()
    seen = []

    class Watched(Steady):
        def __call__(self, photo, *painted):
            seen.append(photo)
            return super().__call__(photo, *painted)

    monkeypatch.setattr(video, "Steady", Watched)
    stylize_video(source, tmp_path / "out.mp4", stylizer)
    frames, shown = clips.decoded(source)[0], clips.decoded(tmp_path / "out.mp4")[0]
    assert all((a == b).all() for a, b in zip(seen, frames, strict=True))
    expected, without = (paint_frames(stylizer, frames, how) for how in (controls, Controls(steady=False)))
    assert len(shown) == 20

    def distance(others):
        return np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(shown, others)])

    assert distance(expected) < 0.8 * distance(without)
