"""Live from a pipe and from the net, into a pipe and into a virtual camera: with FFmpeg itself at the other ends."""

import io
import shutil
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest
import pyvirtualcam

import clips
import streams
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned
from allaprima.infer import live
from allaprima.infer.live import run_live
from allaprima.media.mailbox import Mailbox
from allaprima.media.sinks import VirtualCamera
from test_live import Camera, negative, same

COMMAND = "import sys; from allaprima.commands.app import main; sys.argv[0] = 'allaprima'; main()"
TO_NUT = "-f nut -c:v rawvideo -pix_fmt rgb24"


def allaprima(*arguments, **how):
    return subprocess.run([sys.executable, "-c", COMMAND, *map(str, arguments)], capture_output=True, timeout=60, **how)


def through_ffmpeg(source, how, model, target):
    """FFmpeg, allaprima and FFmpeg in a row, as a shell connects them."""
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    ffmpeg = ["ffmpeg", "-v", "error", "-nostdin"]
    commands = [
        [*ffmpeg, "-i", source, "-an", *how.split(), "-"],
        [sys.executable, "-c", COMMAND, "live", "--pipe", "-q", "-m", model],
        [*ffmpeg, "-i", "-", "-c:v", "ffv1", target],
    ]
    processes, before = [], None
    for command in commands:
        process = subprocess.Popen(list(map(str, command)), stdin=before, stdout=subprocess.PIPE)
        if before:
            before.close()
        before = process.stdout
        processes.append(process)
    processes[-1].communicate(timeout=60)
    assert [process.wait(timeout=10) for process in processes] == [0, 0, 0]


@pytest.mark.parametrize("how", [TO_NUT, "-f yuv4mpegpipe -pix_fmt yuv420p", "-f mpegts -c:v libx264"])
def test_every_frame_goes_through_a_pipe_at_its_time(tmp_path, tiny_model, how):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(20, 96, 64), rate=24, sound=[("aac", 44100, "mono")])
    through_ffmpeg(source, how, tiny_model, tmp_path / "out.mkv")
    frames, times = clips.decoded(tmp_path / "out.mkv")
    assert len(frames) == 20 and times == pytest.approx([n / 24 for n in range(20)], abs=0.001)
    assert frames[0].shape == (64, 96, 3)


def test_what_comes_out_of_the_pipe_is_what_the_style_paints(tmp_path, tiny_model):
    from allaprima.infer.stylizer import Stylizer

    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(3, 95, 63))
    piped = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, *TO_NUT.split(), "-"], capture_output=True, check=True
    ).stdout
    done = allaprima("live", "--pipe", "-q", "-m", tiny_model, "--no-steady", input=piped)
    assert (done.returncode, done.stderr) == (0, b"")
    with av.open(io.BytesIO(piped)) as sent, av.open(io.BytesIO(done.stdout)) as got:
        assert got.format.name == "nut" and got.streams.video[0].codec_context.pix_fmt == "rgb24"
        pairs = list(zip(sent.decode(video=0), got.decode(video=0), strict=True))
    stylizer = Stylizer(tiny_model)
    for before, after in pairs:
        assert np.array_equal(stylizer(before.to_ndarray(format="rgb24")), after.to_ndarray(format="rgb24"))


def test_a_reader_that_has_had_enough_ends_the_run(tmp_path, tiny_model):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(25, 96, 64))
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "live", source, "--loop", "--pipe", "-q", "-m", tiny_model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(100_000)
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("sent, words", [(b"", "Standard input"), (b"hello\n", "Standard input"), (None, "--loop")])
def test_a_pipe_without_a_video_is_a_sentence(sent, words):
    done = allaprima("live", "--pipe", *(["--loop"] if sent is None else []), input=sent or b"")
    assert done.returncode == 2 and done.stdout == b""
    assert (
        done.stderr.decode().startswith("error: ") and words in done.stderr.decode() and done.stderr.count(b"\n") == 1
    )


def test_a_mailbox_that_keeps_all_waits_for_its_reader():
    box, got = Mailbox(keeps_all=True), []

    def read():
        while (letter := box.get()) is not None:
            time.sleep(0.01)
            got.append(letter)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(10):
        box.put(n)
    box.close()
    reader.join(timeout=10)
    assert got == list(range(10))
    box.put("nobody waits for a closed one")


@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_a_stream_that_drops_is_taken_up_again_and_the_newest_frame_wins(kind, monkeypatch):
    monkeypatch.setattr(live, "_RETRY", 0.1)
    port, events, seen = streams.free_port(), [], []
    address, dropped, enough = f"{kind}://127.0.0.1:{port}/live", threading.Event(), threading.Event()

    def server():
        with getattr(streams, kind)(port):
            dropped.wait(60)
        with getattr(streams, kind)(port):
            enough.wait(60)

    def slow(rgb, controls):
        seen.append((int(rgb.mean()), time.perf_counter()))
        if len(seen) == 8:
            dropped.set()
        time.sleep(0.12)
        return rgb

    thread = threading.Thread(target=server)
    thread.start()
    try:
        once_served(lambda: run_live([slow], address, display=False, frames=30, listener=events.append))
    finally:
        dropped.set()
        enough.set()
        thread.join()
    assert sum(isinstance(event, Warned) for event in events) == 1
    # Of 25 frames a second about 8 are painted, and they advance by the clock all the same: no queue builds up.
    (first, began), (last, ended) = seen[-14], seen[-1]
    behind = ((ended - began) * 25 * 4 - (last - first)) % 200  # in grey levels, 4 a frame, which begin anew at 200
    assert min(behind, 200 - behind) < 40


def once_served(run, seconds=20):
    """Call `run` again as long as nobody answers at its address."""
    until = time.monotonic() + seconds
    while True:
        try:
            return run()
        except AllaprimaError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class Loopback:
    """A backend of pyvirtualcam's that keeps what it is sent."""

    made = []

    def __init__(self, *, width, height, fps, fourcc, device, **how):
        self.size, self.frames, self.closed = (height, width), [], False
        self.made.append(self)

    def send(self, frame):
        self.frames.append(frame.reshape(*self.size, 3).copy())

    def close(self):
        self.closed = True

    def device(self):
        return "loopback"

    def native_fourcc(self):
        return None


@pytest.fixture
def loopback(monkeypatch):
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    monkeypatch.setattr(Loopback, "made", [])
    pyvirtualcam.register_backend("loopback", Loopback)
    return Loopback.made


def test_a_virtual_camera_gets_what_is_painted(loopback):
    camera = Camera(size=(65, 49))
    run_live(
        [negative], camera.open, controls=Controls(steady=False), display=False, sinks=[VirtualCamera()], frames=12
    )
    (device,) = loopback
    assert device.closed and device.size == (48, 64) and len(device.frames) == 12
    levels = [int(frame[0, 0, 0]) for frame in device.frames]
    assert all(np.ptp(frame) == 0 for frame in device.frames) and levels == sorted(set(levels), reverse=True)


def test_a_virtual_camera_keeps_its_size_when_another_camera_comes_back(loopback):
    sizes = iter([(64, 48)] * 3 + [(96, 80)] * 50)

    class Changing(Camera):
        def read(self):
            self.size = next(sizes)
            return super().read()

    run_live([same], Changing().open, display=False, sinks=[VirtualCamera()], frames=8)
    assert {frame.shape for frame in loopback[0].frames} == {(48, 64, 3)}


def test_without_a_virtual_camera_there_is_a_sentence_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    for system, fix in (("linux", "sudo modprobe v4l2loopback"), ("win32", "OBS Studio")):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", system)
            with pytest.raises(AllaprimaError, match=fix) as caught:
                run_live([same], Camera().open, display=False, sinks=[VirtualCamera()])
            assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(AllaprimaError, match=r"pip install '\.\[virtual-camera\]'"):
        VirtualCamera()
