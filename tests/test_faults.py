"""Faults of the machine: a killed process, a full disk, a folder that may no longer be written, files that vanish."""

import os
import shutil
import subprocess
import sys
import textwrap
import time

import av
import numpy as np
import pytest
from PIL import Image

from allaprima.core import files
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Warned
from allaprima.core.files import write_atomically
from allaprima.infer.jobs import stylize
from allaprima.infer.live import run_live
from allaprima.media import sources
from allaprima.media.sources import SourceLost, Webcam
from clips import decoded, panned, write_clip
from conftest import PHOTOS
from kills import KINDS, Trials


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "studio"])  # which test_studio.py kills once
def test_killed_work_run_again_ends_as_undisturbed_work(tmp_path, kind):
    trials = Trials(kind, tmp_path)
    moments = [1] if kind == "training" else [0, 1, 2]  # 1 is an event, which comes however fast the machine is
    assert sum(map(trials.trial, moments)) > 0


def test_only_what_a_killed_process_left_is_swept(tmp_path):
    """Not the parts of a process at work, nor what has another name."""
    files._sweep.cache_clear()
    left, others = (
        tmp_path / ".a.allaprima-0123abcd.jpg",
        [tmp_path / name for name in (".a-0123abcd.jpg", ".b.allaprima-")],
    )
    for path in (left, *others):
        path.write_bytes(b"half")
    (tmp_path / ".site.allaprima-0123abce").mkdir()
    (tmp_path / ".site.allaprima-0123abce" / "page.html").write_text("half")
    (tmp_path / ".link.allaprima-0123abcf").symlink_to(tmp_path / ".b.allaprima-")
    begin = "from allaprima.core.files import atomic\nwith atomic('x.png') as part:\n print(part, flush=True)\n input()"
    with subprocess.Popen(
        [sys.executable, "-c", begin], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as working:
        assert working.stdin and working.stdout
        part = working.stdout.readline().strip()
        assert not left.exists() and all(path.exists() for path in others)  # swept by the other process
        left.write_bytes(b"half")
        write_atomically(tmp_path / "y.png", b"whole")
        assert not left.exists() and (tmp_path / part).exists()
        working.stdin.write("\n")
    assert working.returncode == 0
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"x.png", "y.png", ".a-0123abcd.jpg", ".b.allaprima-", ".link.allaprima-0123abcf"}


def album(folder, count=4, size=(64, 48)):
    folder.mkdir()
    for number in range(count):
        photo = Image.open(sorted(PHOTOS.glob("*.jpg"))[number]).convert("RGB").resize(size)
        photo.save(folder / f"{number}.png")
    return folder


def test_a_file_that_vanishes_between_listing_and_reading_is_named(tmp_path, tiny_model):
    folder, told = album(tmp_path / "album"), []

    def listen(event):
        told.append(event)
        if event == Advanced("pictures", 1, note="1.png"):
            (folder / "1.png").unlink()
            (folder / "2.png").unlink()

    with pytest.raises(
        AllaprimaError, match="2 of 4 files could not be stylized: .*1.png, .*2.png. All others are written"
    ):
        stylize(folder, tmp_path / "out", tiny_model, listener=listen)
    assert sorted(os.listdir(tmp_path / "out")) == ["0.png", "3.png"]
    assert f"{folder / '1.png'} does not exist" in " ".join(event.text for event in told if isinstance(event, Warned))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB, and a way to make it read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    subprocess.run(["umount", "-l", disk], check=True)


def noise(folder, count=4):
    """Pictures that can't be packed, 100 kB each once painted."""
    folder.mkdir()
    for number in range(count):
        Image.effect_noise((160, 200), 90).convert("RGB").save(folder / f"{number}.png")
    return folder


def test_a_full_disk_ends_the_work_and_keeps_what_is_finished(tmp_path, small_disk, tiny_model):
    disk, _ = small_disk
    with pytest.raises(AllaprimaError, match="The disk is full: .* was not written. Free some space"):
        stylize(noise(tmp_path / "album", 8), disk / "out", tiny_model)
    names = sorted(os.listdir(disk / "out"))
    assert names == [f"{number}.png" for number in range(len(names))] and 0 < len(names) < 8
    for name in names:
        assert Image.open(disk / "out" / name).convert("RGB").size == (160, 200)


def test_a_video_for_a_full_disk_leaves_nothing(tmp_path, small_disk, tiny_model):
    disk, _ = small_disk
    clip = write_clip(tmp_path / "clip.mp4", panned(150, 320, 240))
    with pytest.raises(AllaprimaError, match="The disk is full"):
        stylize(clip, disk / "out.mp4", tiny_model)
    assert os.listdir(disk) == []


def test_a_disk_that_becomes_read_only_ends_the_work(tmp_path, small_disk, tiny_model):
    disk, make_read_only = small_disk

    def listen(event):
        if event == Advanced("pictures", 1, note="1.png"):
            make_read_only()

    with pytest.raises(AllaprimaError, match="is on a read-only disk"):
        stylize(album(tmp_path / "album"), disk / "out", tiny_model, listener=listen)
    assert os.listdir(disk / "out") == ["0.png"]


LIMITED = """
import os, resource, signal, sys
from allaprima.core.errors import AllaprimaError
from allaprima.infer.jobs import stylize
from allaprima.infer.live import run_live
from allaprima.media import sources
from allaprima.media.sources import SourceLost, Webcam
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_{limit}, ({amount}, {amount}))
try:
    stylize({source!r}, {output!r}, {model!r}, threads=1)
except AllaprimaError as error:
    print(error)
"""


def limited(limit, amount, source, output, model):
    """What `stylize` says in a process that has so much of a resource."""
    code = LIMITED.format(limit=limit, amount=amount, source=str(source), output=str(output), model=str(model))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["picture", "video"])
def test_a_file_that_grows_beyond_what_the_disk_takes(tmp_path, tiny_model, kind):
    """One sentence, and nothing half-written; what was finished before is kept."""
    if kind == "picture":
        source = album(tmp_path / "album", 2, (40, 30))
        Image.effect_noise((400, 300), 90).convert("RGB").save(source / "1.png")
        output, kept = tmp_path / "out", ["0.png"]
    else:
        source = write_clip(tmp_path / "clip.mp4", panned(60, 320, 240))
        output, kept = tmp_path / "out" / "clip.mp4", []
    said = limited("FSIZE", 30_000, source, output, tiny_model)
    assert said.count("\n") == 1 and "file too large" in said.lower() or "1 of 2 files" in said
    assert os.listdir(tmp_path / "out") == kept


def test_memory_that_runs_out_is_a_sentence(tmp_path, tiny_model):
    source = album(tmp_path / "album", 1)
    Image.new("RGB", (9000, 9000), "teal").save(source / "large.png", compress_level=1)
    said = limited("AS", 900 * 2**20, source / "large.png", tmp_path / "out.png", tiny_model)
    assert said.count("\n") == 1 and "memory" in said and not (tmp_path / "out.png").exists()


class Camera:
    """A camera that changes size, stalls, is lost and comes back: `frames` are pictures, seconds to wait, and None."""

    def __init__(self, frames):
        self._frames = frames

    def read(self):
        for frame in self._frames:
            if isinstance(frame, float):
                time.sleep(frame)
            elif frame is None:
                raise SourceLost("Camera 0 gives no picture.")
            else:
                return frame
        return None

    def close(self):
        pass


def test_a_camera_that_stalls_changes_size_and_is_lost(tmp_path, tiny_model, photo):
    """The recording goes on in its first size; nothing ends before the source does."""
    frames = [photo[:120, :160], 0.4, photo[:64, :48], None, photo, 0.2, photo[:17, :33], photo[:120, :160]]
    paced = iter([part for frame in frames for part in (frame, 0.15)])
    told = []
    run_live([tiny_model], lambda: Camera(paced), display=False, record=tmp_path / "out.mp4", listener=told.append)
    recorded = [frame.shape for frame in decoded(tmp_path / "out.mp4")[0]]
    assert len(recorded) == 5 and set(recorded) == {(120, 160, 3)}
    assert [event.text for event in told if isinstance(event, Warned)] == [
        "Camera 0 gives no picture. Waiting for it to come back."
    ]


@pytest.mark.parametrize(
    "sent", [None, np.zeros((0, 0, 3), np.uint8), np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.uint16)]
)
def test_garbage_from_a_camera_is_no_picture(monkeypatch, sent):
    class Capture:
        def __init__(self, number):
            pass

        def isOpened(self):
            return True

        def set(self, *_):
            pass

        def read(self):
            return True, sent

    monkeypatch.setattr(sources.cv2, "VideoCapture", Capture)
    with pytest.raises(SourceLost, match="Camera 0 gives no picture"):
        Webcam(0).read()


def test_a_clock_that_jumps_changes_no_picture_and_no_time(tmp_path, tiny_model, monkeypatch):
    """Frames are paced and recorded by a clock that can't be set."""
    clip = write_clip(tmp_path / "clip.mp4", panned(10, 64, 48))
    jumps = iter(range(0, -(10**9), -(10**5)))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    run_live([tiny_model], clip, display=False, record=tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert times == sorted(times) and 0 <= times[-1] < 5
