"""Live in processes of their own: on a real screen with real keys, without one, stopped, and on a full disk."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import clips
from allaprima.core.errors import AllaprimaError
from allaprima.infer.live import run_live
from test_live import Camera, one_sentence, same


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 is the window system of Linux")
@pytest.mark.parametrize("screen", [None, ":4242"])
def test_without_a_screen_it_says_so(monkeypatch, screen):
    monkeypatch.delenv("DISPLAY", raising=False)
    if screen:
        monkeypatch.setenv("DISPLAY", screen)
    with pytest.raises(AllaprimaError, match="--no-display") as caught:
        run_live([same], Camera().open)
    one_sentence(caught)


RUN = """
import resource, signal, sys
from allaprima.core.errors import AllaprimaError
from allaprima.infer.live import run_live
if len(sys.argv) > 3:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    run_live([lambda rgb, controls: rgb], sys.argv[1], display=False, record=sys.argv[2], loop=True)
except AllaprimaError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_finishes_the_recording(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(25, 96, 64))
    output = tmp_path / "out.mp4"
    process = subprocess.Popen([sys.executable, "-c", RUN, source, output], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not list(tmp_path.glob(".out.*")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.0)
    assert not output.exists()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert len(clips.decoded(output)[0]) >= 5
    assert sorted(tmp_path.iterdir()) == [source, output]


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files as POSIX does")
def test_a_disk_that_fills_up_ends_a_recording_run(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(25, 640, 480))
    done = subprocess.run(
        [sys.executable, "-c", RUN, source, tmp_path / "out.mp4", "1000"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "out.mp4" in done.stdout and done.stdout.count("\n") == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == [source]


WINDOW = """
import sys
from allaprima.infer.live import run_live
run_live([sys.argv[1], sys.argv[1]], sys.argv[2], loop=True, snapshots=sys.argv[3])
print("ended")
"""


@pytest.fixture
def screen():
    """The name of an X server's display that nobody else uses.

    With a window manager, as every desktop has one: without, Qt 5 on a busy machine misses now and then that its window
    was mapped, and never paints it.
    """
    missing = [tool for tool in ("Xvfb", "xdotool", "openbox") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: install xvfb, xdotool and openbox to test the real window")
    ours, theirs = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(theirs), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[theirs],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        name = f":{pipe.readline().strip()}"
    manager = subprocess.Popen(
        ["openbox"], env={**os.environ, "DISPLAY": name}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    ready = ["xdotool", "get_num_desktops"]  # a key for the window manager that comes before it is ready is lost
    eventually(lambda: not subprocess.run(ready, env={**os.environ, "DISPLAY": name}, capture_output=True).returncode)
    yield name
    for process in (manager, server):
        process.terminate()
        process.wait(timeout=10)


def eventually(condition, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    raise AssertionError("it never came")


GRAB = """
import sys, av
with av.open(sys.argv[1], format="x11grab", options={"video_size": "800x600"}) as grabbed:
    print((next(grabbed.decode(video=0)).to_ndarray(format="rgb24").max(2) > 8).sum())
"""


def lit(screen):
    """How many pixels of the screen are not black, through FFmpeg's X11 input; 0 where it could not look.

    In a process of its own: it reads memory that the X server shares, and dies with it now and then.
    """
    done = subprocess.run([sys.executable, "-c", GRAB, screen], capture_output=True, text=True)
    return int(done.stdout or 0)


@pytest.mark.parametrize("ending", ["q", "Escape", "alt+F4"])  # the last: the window manager closes it
def test_a_real_window(tmp_path, tiny_model, screen, ending):
    environment = {**os.environ, "DISPLAY": screen}
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(50, 320, 240))
    snaps = tmp_path / "snaps"
    process = subprocess.Popen(
        [sys.executable, "-c", WINDOW, tiny_model, source, snaps],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def xdotool(*words):
        done = subprocess.run(["xdotool", *words], env=environment, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        number = eventually(lambda: xdotool("search", "--name", "^allaprima$").split("\n")[-1])
        eventually(lambda: lit(screen) > 0.9 * 320 * 240)  # there is a picture in it
        xdotool("windowfocus", "--sync", number)
        if ending == "q":
            eventually(lambda: "320x240" in xdotool("getwindowgeometry", number))
            eventually(lambda: xdotool("key", "s") or list(snaps.glob("*.png")))
            xdotool("key", "r")
            eventually(lambda: list(snaps.glob(".allaprima-*.mp4")))
            time.sleep(1)
            xdotool("key", "r")
            eventually(lambda: list(snaps.glob("allaprima-*.mp4")))
            xdotool("windowsize", "--sync", number, "500", "300")
            eventually(lambda: lit(screen) > 0.9 * 400 * 300)  # and the bars to its left and right are bright
            xdotool("key", "o")
            # two pictures of half the size, with black above and below, in a window of its own size
            eventually(lambda: 0 < lit(screen) < 0.9 * 400 * 300)
            assert "500x300" in xdotool("getwindowgeometry", number)
            xdotool("key", "f")
            eventually(lambda: "800x600" in xdotool("getwindowgeometry", number))
            xdotool("key", "f")
            eventually(lambda: "500x300" in xdotool("getwindowgeometry", number))
        xdotool("key", ending)
        out, told = process.communicate(timeout=30)
    except AssertionError as error:
        process.kill()
        raise AssertionError(f"{error}; the window's process said: {process.communicate()}") from error
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and "ended" in out, told
    if ending == "q":
        assert clips.decoded(next(snaps.glob("allaprima-*.mp4")))[0]
