"""Steadiness in video: clips whose motion and flicker are known, measured."""

import sys

import cv2
import numpy as np
import pytest

import clips
from allaprima import Stylizer
from allaprima.commands.app import main
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.infer.steadiness import Steadiness, Yardstick, bench_video, paint_frames
from allaprima.media import motion
from allaprima.media.luminance import luminance
from allaprima.media.pictures import read_rgb
from conftest import PHOTOS


def moving(count, dx, dy, size=(96, 128), noise=0.0):
    """Frames of a window that moves by whole pixels over a photo."""
    photo = cv2.cvtColor(cv2.imread(str(PHOTOS / "china.jpg")), cv2.COLOR_BGR2RGB)
    random = np.random.default_rng(0)
    for k in range(count):
        top, left = 60 + k * dy, 60 + k * dx
        frame = photo[top : top + size[0], left : left + size[1]].astype(float)
        yield np.clip(frame + random.normal(0, noise or 1e-9, frame.shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("dx, dy", [(0, 0), (3, 0), (0, -2), (4, 3)])
def test_the_flow_is_the_way_to_where_it_was(dx, dy):
    before, now = (luminance(frame) for frame in moving(2, dx, dy))
    flow, forward = motion.flow_to(before, now), motion.flow_to(now, before)
    sure = motion.agree(flow, forward) & motion.inside(flow)
    assert sure.mean() > 0.6
    assert (
        np.abs(np.median(flow[sure], 0) - (dx, dy)).max() < 0.15
    )  # the window moves right: what is seen was right of it
    assert np.abs(motion.warp(before.astype(np.float32), flow) - now)[sure].mean() < 3


def test_what_comes_into_the_picture_has_no_past():
    flow = np.full((20, 30, 2), (4, -3), np.float32)
    inside = motion.inside(flow)
    assert inside[3:, :26].all() and not inside[:3].any() and not inside[:, 26:].any()
    assert motion.inside(np.zeros((20, 30, 2), np.float32)).all()


@pytest.fixture(scope="module")
def yardstick():
    return Yardstick(list(moving(17, 3, 1)))


@pytest.mark.parametrize("levels", [4, 10])
def test_a_flicker_of_so_many_levels_is_measured_as_such(levels, yardstick):
    """Every second frame is brighter: neighbours differ by that, and frames that are 8 apart do not."""
    dark = [frame // 2 + 40 for frame in yardstick.frames]
    steady = yardstick.measure(dark)
    found = yardstick.measure([frame + levels * (k % 2) for k, frame in enumerate(dark)])
    assert found.near == pytest.approx((steady.near**2 + levels**2) ** 0.5, rel=0.05)
    assert found.far == pytest.approx(steady.far, rel=0.05)
    assert found.detail == pytest.approx(steady.detail) == pytest.approx(yardstick.own.detail / 2, rel=0.05)


def test_the_clip_itself_is_the_measure(yardstick):
    assert yardstick.own.over(yardstick.own) == Steadiness(1, 1, 1)
    assert Steadiness(3, 0, 1).over(Steadiness(1.5, 0, 2)) == Steadiness(2, 1, 0.5)


def test_strokes_that_stay_on_the_screen_flicker_and_strokes_that_move_along_do_not(yardstick):
    """A texture as strong in both cases; only what it is fixed to differs."""
    texture = np.random.default_rng(1).normal(0, 12, (300, 300, 1))
    texture = cv2.GaussianBlur(texture, (0, 0), 1.5)[..., None] * 4
    base = [frame // 2 + 60.0 for frame in yardstick.frames]
    fixed = [(one + texture[:96, :128]).clip(0, 255).astype(np.uint8) for one in base]
    along = [
        (one + texture[k : 96 + k, 3 * k : 128 + 3 * k]).clip(0, 255).astype(np.uint8) for k, one in enumerate(base)
    ]
    assert yardstick.measure(fixed).near > 3 * yardstick.measure(along).near


def test_the_map_shows_where(yardstick):
    pictures = [frame.copy() for frame in yardstick.frames]
    for k, picture in enumerate(pictures):
        picture[:, 64:] = picture[:, 64:] // 2 + 60 * (k % 2)
    heat = yardstick.flicker_map(pictures)
    assert heat.shape == pictures[0].shape and heat.dtype == np.uint8
    assert heat[:, 70:].mean() > 3 * heat[20:, 20:60].mean()


def test_bench_video_measures_a_model_and_draws(tmp_path, tiny_model):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(12, 96, 64))
    painted, yardstick = bench_video(tiny_model, source, tmp_path / "map.png", frames=10)
    assert len(yardstick.frames) == 10 and 0 < yardstick.certain <= 1
    by_hand = yardstick.measure(paint_frames(Stylizer(tiny_model), yardstick.frames, Controls()))
    assert painted == by_hand and painted.near > 0 and painted.far > 0
    anew, _ = bench_video(tiny_model, source, controls=Controls(steady=False), frames=10)
    assert anew == yardstick.measure([Stylizer(tiny_model)(frame) for frame in yardstick.frames])
    assert anew.near > 2 * painted.near
    assert read_rgb(tmp_path / "map.png").size == (3 * 96, 64)
    photo, _ = bench_video(tiny_model, source, controls=Controls(0, steady=False))
    assert photo.over(Yardstick(yardstick.frames).own).near == pytest.approx(1, rel=0.3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "map.png"]


def test_bad_clips_are_sentences(tmp_path, tiny_model):
    one = clips.write_clip(tmp_path / "one.mp4", clips.panned(1, 64, 48))
    strobe = clips.write_clip(
        tmp_path / "strobe.mp4", [np.full((48, 64, 3), 255 * (k % 2), np.uint8) for k in range(4)]
    )
    thin = clips.write_clip(tmp_path / "thin.mp4", clips.panned(4, 200, 8))
    (tmp_path / "mine.png").write_text("mine")
    for source, how, words in [
        (one, {}, "single frame"),
        (strobe, {}, "can't be followed"),
        (thin, {}, "too small"),
        (tmp_path / "none.mp4", {}, "does not exist"),
        (one, {"frames": 1}, "frames must be a whole number of at least 2"),
        (one, {"output": tmp_path / "map.mp3"}, "mp3"),
        (one, {"output": tmp_path / "mine.png"}, "--overwrite"),
    ]:
        with pytest.raises(AllaprimaError, match=words) as caught:
            bench_video(tiny_model, source, **how)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "mine.png").read_text() == "mine"


def test_the_command_prints_the_multiples_and_names_the_picture(tmp_path, tiny_model, monkeypatch, capsys):
    source = clips.write_clip(tmp_path / "pan.mp4", clips.panned(6, 64, 48))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["allaprima", "bench", "--video", str(source), "-m", str(tiny_model)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr()
    assert "multiple" in said.out and "nan" not in said.out and "pan-tiny-flicker.png" in said.err
    assert (tmp_path / "pan-tiny-flicker.png").exists()
