"""Live: real clips, cameras that come and go, and a real window where there is an X server to be had."""

import os
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import clips
from allaprima.commands.terminal import Terminal
from allaprima.core.contract import Controls, parse_size
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Started, Warned, Wrote
from allaprima.infer import live, overlay
from allaprima.infer.live import run_live
from allaprima.media import sources
from allaprima.media.clips import Clip
from allaprima.media.mailbox import Mailbox
from allaprima.media.sources import Player, SourceLost


def same(rgb, controls=None):
    return rgb


def negative(rgb, controls=None):
    return 255 - rgb


class Camera:
    """A camera of the tests' own: frame k is grey level k % 256. Plugged out while `gone(k)`."""

    def __init__(self, rate=100, size=(64, 48), last=10_000, gone=lambda k: False):
        self.rate, self.size, self.last, self.gone = rate, size, last, gone
        self.count = self.opened = 0

    def open(self):
        self.opened += 1
        self.count += 1
        if self.gone(self.count):
            raise SourceLost("There is no camera 0.")
        return self

    def read(self):
        time.sleep(1 / self.rate)
        self.count += 1
        if self.gone(self.count):
            raise SourceLost("Camera 0 gives no picture.")
        return np.full((self.size[1], self.size[0], 3), self.count % 256, np.uint8) if self.count < self.last else None

    def close(self):
        pass


class FakeWindow:
    """Types what `script` says: {number of pictures shown: keys}; keeps what it was shown."""

    def __init__(self, script):
        self.script, self.pictures, self.waiting, self.full_screen = script, [], [], False

    def show(self, rgb, size):
        self.pictures.append(rgb)
        self.waiting += self.script.get(len(self.pictures), "")

    def key(self):
        return self.waiting.pop(0) if self.waiting else ""

    def toggle_full_screen(self):
        self.full_screen = not self.full_screen

    def close(self):
        self.closed = True


@pytest.fixture
def typing(monkeypatch):
    """typing(script) puts a FakeWindow in the place of the real one."""

    def script(keys):
        window = FakeWindow(keys)
        monkeypatch.setattr(live, "Window", lambda: window)
        return window

    return script


@pytest.fixture
def written(monkeypatch):
    """All lines that were written on pictures."""
    lines = []
    write = overlay.write_on
    monkeypatch.setattr(
        overlay,
        "write_on",
        lambda rgb, top, bottom, recording: (lines.extend(top + bottom), write(rgb, top, bottom, recording)),
    )
    return lines


def test_a_mailbox_holds_the_newest_letter():
    box = Mailbox()
    assert box.get(timeout=0.01) is Mailbox.EMPTY
    box.put("old"), box.put("new")
    assert box.get() == "new" and box.get(timeout=0.01) is Mailbox.EMPTY
    threading.Timer(0.05, lambda: (box.put("last"), box.close())).start()
    assert box.get() == "last" and box.get() is None and box.get() is None


def test_a_clip_plays_at_its_own_pace_to_its_end(tmp_path, capfd):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(25, 64, 48))
    began = time.perf_counter()
    events = []
    run_live([same], source, display=False, listener=events.append)
    assert time.perf_counter() - began >= 24 / 25
    assert capfd.readouterr() == ("", "")
    assert isinstance(events[0], Started) and str(source) in events[0].about
    assert events[-1].done == events[-1].total >= 5 and "frames/s" in events[-1].note


def test_a_recording_has_the_painted_frames_at_their_times(tmp_path, tiny_model):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(50, 96, 64))
    run_live([tiny_model], source, display=False, record=tmp_path / "out.mp4")
    frames, times = clips.decoded(tmp_path / "out.mp4")
    assert len(frames) >= 5 and times[0] == 0 and times == sorted(set(times))
    assert times[-1] == pytest.approx(49 / 25, abs=0.5)  # two seconds stay two seconds, whatever was left out
    assert frames[0].shape == (64, 96, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_recording_shows_no_overlay(tmp_path, typing):
    window = typing({})
    run_live([same], Camera(last=20, size=(320, 240)).open, record=tmp_path / "out.mp4")
    recorded, _ = clips.decoded(tmp_path / "out.mp4")
    assert all(rgb.std() < 3 for rgb in recorded)  # flat, as the camera gave it
    assert window.pictures[-1].std() > 3  # and in the window there was something written on it


def test_frames_is_the_number_of_frames(tmp_path):
    run_live([same], Camera().open, display=False, frames=7, record=tmp_path / "out.mkv")
    assert len(clips.decoded(tmp_path / "out.mkv")[0]) == 7


def test_the_delay_does_not_grow_when_the_network_is_slow():
    camera, seen = Camera(rate=200), []

    def slow(rgb, controls):
        seen.append((int(rgb[0, 0, 0]), camera.count % 256))
        time.sleep(0.04)
        return rgb

    run_live([slow], camera.open, display=False, frames=40)
    lags = [(newest - frame) % 256 for frame, newest in seen]
    assert camera.count > 2 * len(seen)  # it was slow: most frames were dropped
    assert np.median(lags[-10:]) <= 3  # and still the last ones were painted fresh, not a queue of 100 behind


def test_mirror_and_size(tmp_path):
    frames = list(clips.panned(3, 96, 64))
    source, seen = clips.write_clip(tmp_path / "in.mp4", frames, crf="1"), []
    run_live([lambda rgb, controls: seen.append(rgb) or rgb], source, display=False, mirror=True)
    assert np.abs(seen[0][:, ::-1].astype(int) - clips.decoded(source)[0][0]).mean() < 3
    player = Player(source, size=(48, 48))
    assert player.read().shape == (32, 48, 3)
    player.close()
    player = Player(source, size=(960, 640))
    assert player.read().shape == (64, 96, 3)  # never enlarged
    player.close()


def test_loop_starts_again(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(5, 64, 48))
    player = Player(source, loop=True)
    assert all(player.read() is not None for _ in range(12))
    player.close()
    player = Player(source)
    assert [player.read() is None for _ in range(6)] == [False] * 5 + [True]
    player.close()


def test_a_camera_that_was_unplugged_is_taken_up_again(typing, written, monkeypatch):
    monkeypatch.setattr(live, "_RETRY", 0.1)
    camera = Camera(gone=lambda k: 20 < k < 26, last=60)
    window = typing({})
    seen, events = [], []
    run_live([lambda rgb, controls: seen.append(int(rgb[0, 0, 0])) or rgb], camera.open, listener=events.append)
    assert camera.opened >= 5 and window.closed
    assert min(seen) < 20 and max(seen) > 50  # it went on afterwards
    told = [n for n, line in enumerate(written) if line.endswith("Waiting for it to come back.")]
    assert told and "Waiting" not in written[-1]
    assert sum(isinstance(event, Warned) for event in events) == 1


def test_an_unplugged_camera_can_be_quit(typing, monkeypatch):
    monkeypatch.setattr(live, "_RETRY", 0.05)
    window = typing({30: "q"})
    run_live([same], Camera(gone=lambda k: k > 10).open)
    assert len(window.pictures) == 30


def test_keys_change_style_strength_and_view(typing, written):
    used = []

    def style(name):
        def paint(rgb, controls):
            used.append((name, controls.strength))
            return rgb

        paint.name = name
        return paint

    window = typing({10: "n", 20: "n", 30: "p", 40: "1", 50: "3--", 60: "[+", 70: "o", 80: "h", 90: "x9", 100: "q"})
    run_live([style("red"), style("green"), style("blue")], Camera(rate=200).open, controls=Controls(0.5))
    order = [pair for k, pair in enumerate(used) if k == 0 or used[k - 1] != pair]
    assert [name for name, _ in order] == ["red", "green", "blue", "green", "red", *["blue"] * (len(order) - 5)]
    assert order[0] == ("red", 0.5) and order[-1] == ("blue", 0.3)
    assert window.pictures[65].shape == (48, 64, 3) and window.pictures[75].shape == (96, 128, 3)
    assert "q\tquit" in written and any(line.startswith("blue  30%") for line in written)


def test_strength_stays_between_photo_and_style(typing):
    used = []
    typing({5: "+++", 15: "-" * 14, 60: "q"})
    run_live(
        [lambda rgb, controls: used.append(controls.strength) or rgb], Camera(rate=200).open, controls=Controls(0.9)
    )
    assert max(used) == 1.0 and min(used) == 0.0


def test_snapshot_and_recording_by_key(tmp_path, typing, written):
    typing({10: "s", 20: "r", 50: "r", 60: "q"})
    events = []
    run_live([negative], Camera(rate=200, size=(320, 240)).open, snapshots=tmp_path, listener=events.append)
    (picture,) = tmp_path.glob("allaprima-*.png")
    (recording,) = tmp_path.glob("allaprima-*.mp4")
    assert cv2.imread(str(picture)).shape == (240, 320, 3)
    assert np.ptp(cv2.imread(str(picture))) == 0  # flat: nothing is written on it
    assert 5 <= len(clips.decoded(recording)[0]) <= 31
    assert len(list(tmp_path.iterdir())) == 2
    assert any(str(picture) in line for line in written) and any(str(recording) in line for line in written)
    assert {event.path for event in events if isinstance(event, Wrote)} == {picture, recording}


def test_a_folder_that_takes_no_snapshots_is_said_in_the_window(tmp_path, typing, written):
    (tmp_path / "file").write_text("not a folder")
    typing({5: "sr", 10: "q"})
    run_live([same], Camera().open, snapshots=tmp_path / "file")
    assert any(str(tmp_path / "file") in line for line in written)


def test_a_style_that_can_not_be_opened_leaves_the_old_one_on(typing, written, tmp_path, tiny_model):
    window = typing({5: "n", 20: "q"})
    run_live([tiny_model, tmp_path / "gone.onnx"], Camera().open)
    assert len(window.pictures) == 20
    assert any("gone.onnx" in line and line.endswith(".") for line in written)
    assert written[-2].startswith("tiny") or written[-1].startswith("tiny")


def test_an_error_in_the_network_ends_the_run_and_comes_out():
    def breaks(rgb, controls):
        raise AllaprimaError("The paint is dry.")

    with pytest.raises(AllaprimaError, match="The paint is dry."):
        run_live([breaks], Camera().open, display=False)


def one_sentence(caught):
    text = str(caught.value)
    assert "\n" not in text and text.endswith("."), text
    return text


def test_bad_sources_and_outputs(tmp_path):
    cases = [
        ({"source": 97, "display": False}, "There is no camera 97"),
        ({"source": tmp_path / "none.mp4", "display": False}, "does not exist"),
        ({"source": Camera(gone=lambda k: True).open, "display": False}, "There is no camera 0"),
        ({"source": Camera().open, "display": False, "record": tmp_path / "out.txt"}, ".mp4"),
    ]
    for given, words in cases:
        with pytest.raises(AllaprimaError) as caught:
            run_live([same], **given)
        assert words in one_sentence(caught)
    with pytest.raises(AllaprimaError):
        run_live([], Camera().open)
    with pytest.raises(AllaprimaError):
        run_live([tmp_path / "no.onnx"], Camera().open, record=tmp_path / "out.mp4")
    with pytest.raises(AllaprimaError):
        run_live([same], source=97, display=False, record=tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_a_raw_stream_without_times_and_length_is_paced_by_its_rate_and_ends(tmp_path):
    source = clips.write_clip(tmp_path / "in.h264", clips.panned(25, 64, 48))
    began = time.perf_counter()
    run_live([same], source, display=False)
    assert 0.9 <= time.perf_counter() - began < 5


def test_a_browsers_recording_without_length_ends(tmp_path):
    clips.write_streamed(tmp_path / "in.webm", clips.panned(25, 64, 48))
    with Clip(tmp_path / "in.webm") as clip:
        assert not clip.duration
    began = time.perf_counter()
    run_live([same], tmp_path / "in.webm", display=False)
    assert 0.9 <= time.perf_counter() - began < 5


def test_a_photo_stays_in_the_window_and_comes_once_without_one(tmp_path, typing):
    photo = tmp_path / "photo.png"
    Image.fromarray(next(clips.panned(1, 64, 48))).save(photo)
    seen, window = [], typing({25: "q"})
    run_live([lambda rgb, controls: seen.append(rgb) or rgb], photo)
    assert len(window.pictures) == 25 and seen[0].shape == (48, 64, 3)
    run_live([same], photo, display=False, record=tmp_path / "out.mp4")
    assert len(clips.decoded(tmp_path / "out.mp4")[0]) == 1


def test_an_animation_plays_at_its_pace(tmp_path):
    pictures = [Image.new("RGB", (32, 32), (level, 0, 0)) for level in (10, 120, 240)]
    pictures[0].save(tmp_path / "in.gif", save_all=True, append_images=pictures[1:], duration=200)
    seen, began = [], time.perf_counter()
    run_live([lambda rgb, controls: seen.append(int(rgb[0, 0, 0])) or rgb], tmp_path / "in.gif", display=False)
    assert seen == [10, 120, 240] and time.perf_counter() - began >= 0.4


def test_a_loop_over_a_file_that_goes_away_ends_in_a_sentence(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(10, 64, 48))
    threading.Timer(0.2, source.unlink).start()
    with pytest.raises(AllaprimaError, match="does not exist") as caught:
        run_live([same], source, display=False, loop=True, record=tmp_path / "out.mp4")
    one_sentence(caught)
    assert clips.decoded(tmp_path / "out.mp4")[0]  # what was recorded is kept


def test_a_camera_in_other_hands_and_one_without_permission_have_their_sentences(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_DEVICE", str(tmp_path / "video{}"))
    (tmp_path / "video97").touch()
    with pytest.raises(AllaprimaError, match="another program") as caught:
        run_live([same], "97", display=False)
    one_sentence(caught)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may open everything
    with pytest.raises(AllaprimaError, match="No permission"):
        run_live([same], "/dev/video97", display=False)


def test_a_recording_over_its_source_is_refused_before_any_work(tmp_path):
    source = clips.write_clip(tmp_path / "a.mp4", clips.panned(5, 64, 48))
    before = source.read_bytes()
    for other in (source, tmp_path / "link.mp4"):
        if other != source:
            other.symlink_to(source)
        with pytest.raises(AllaprimaError, match="is an input"):
            run_live([tmp_path / "no.onnx"], source, display=False, record=other)
    assert source.read_bytes() == before


def test_a_recording_takes_the_place_of_another_file_only_when_asked(tmp_path):
    (tmp_path / "out.mp4").write_text("somebody's film")
    with pytest.raises(AllaprimaError, match="--overwrite"):
        run_live([same], Camera(last=10).open, display=False, record=tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_text() == "somebody's film"
    for overwrite in (True, False):  # and its own
        run_live([same], Camera(last=10).open, display=False, record=tmp_path / "out.mp4", overwrite=overwrite)
        assert clips.decoded(tmp_path / "out.mp4")[0]


def test_pixels_that_are_not_square_are_squared(tmp_path):
    source = clips.write_clip(tmp_path / "in.mkv", clips.panned(3, 96, 64), aspect=Fraction(4, 3))
    run_live([same], source, display=False, record=tmp_path / "out.mp4")
    assert clips.decoded(tmp_path / "out.mp4")[0][0].shape == (64, 128, 3)


@pytest.mark.parametrize("name", [b"12:30:05.mp4", b"caf\xe9.mp4", b"[bold]x[/x].mp4", b"http:a.mp4", b"-.mp4"])
def test_a_file_may_have_any_name(tmp_path, name):
    source = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    try:
        clips.write_clip(tmp_path / "in.mp4", clips.panned(2, 64, 48)).rename(source)
    except OSError:
        pytest.skip("not a name on this file system")
    with Terminal() as listener:
        run_live([same], source, display=False, record=tmp_path / "out.mp4", listener=listener)
    assert clips.decoded(tmp_path / "out.mp4")[0]


@pytest.mark.parametrize("text", ["640", "640x", "x480", "axb", "0x0", "640x8", "-640x480", "640x480x3", ""])
def test_sizes(text):
    assert parse_size("640x480") == (640, 480) and parse_size("1280X720") == (1280, 720)
    with pytest.raises(AllaprimaError, match="640x480"):
        parse_size(text)
