"""What crashes in the libraries that read pictures ends a process apart: the server and the studio go on."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import numpy as np
import psutil
import pytest

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced
from allaprima.media.pictures import read_picture
from allaprima.serve.apart import Apart, Readers
from conftest import PHOTOS
from services import processes_apart, server
from studios import Studio
from training import STYLE

PHOTO = (PHOTOS / "chelsea.jpg").read_bytes()
SLEEPER = """
import os, time
from functools import partial
from allaprima.serve.apart import Apart
if __name__ == "__main__":
    apart = Apart()
    print(apart.do(os.getpid, "x"), flush=True)
    apart.do(partial(time.sleep, 60), "x")
"""


@pytest.fixture
def apart():
    apart = Apart()
    yield apart
    apart.kill()


def advance(listener):
    """A work that tells how far it is: when each time it went on."""
    times = [time.monotonic()]
    for done in range(3):
        listener(Advanced("steps", done))
        times.append(time.monotonic())
    return times


@pytest.mark.parametrize("crash", [os.abort, partial(signal.raise_signal, signal.SIGSEGV), partial(os._exit, 0)])
def test_a_crash_is_a_sentence_and_the_next_picture_is_read(apart, crash):
    with pytest.raises(AllaprimaError, match=r"^x.jpg can't be read: it makes the decoder crash"):
        apart.do(crash, "x.jpg")
    read = partial(read_picture, "x.jpg", content=PHOTO)
    there, here = apart.do(read, "x.jpg"), read()
    assert np.array_equal(there.frames[0].pixels, here.frames[0].pixels)
    assert (there.about, there.kind) == (here.about, here.kind)


def test_sentences_are_those_of_the_work_and_the_process_lives_on(apart):
    pid = apart.do(os.getpid, "x")
    with pytest.raises(AllaprimaError, match="x.jpg is not a picture"):
        apart.do(partial(read_picture, "x.jpg", content=b"words"), "x.jpg")
    assert apart.do(os.getpid, "x") == pid != os.getpid()


def test_another_exception_is_printed_and_ends_the_process(apart, capfd):
    with pytest.raises(AllaprimaError, match="crash"):
        apart.do(partial(int, "words"), "x.jpg")
    assert "ValueError: invalid literal" in capfd.readouterr().err


def test_work_that_takes_too_long_is_ended(apart):
    pid = apart.do(os.getpid, "x")
    with pytest.raises(AllaprimaError, match=r"x.jpg can't be read within 0.2 s"):
        apart.do(partial(time.sleep, 600), "x.jpg", 0.2)
    assert not psutil.pid_exists(pid) and apart.do(os.getpid, "x") != pid


def test_a_listener_hears_of_the_work_and_holds_it(apart):
    heard = []

    def listener(event):
        time.sleep(0.1)
        heard.append(event.done)

    assert np.diff(apart.do(advance, "x", listener=listener)).min() >= 0.1 and heard == [0, 1, 2]


def test_a_listener_that_raises_gives_the_work_up(apart):
    with pytest.raises(KeyError):
        apart.do(advance, "x", listener=lambda event: {}[event.done])
    assert apart.do(os.getpid, "x") != os.getpid()


def test_there_are_no_more_processes_than_work_at_a_time():
    readers = Readers(2)
    assert len({readers.do(os.getpid, "x") for _ in range(4)}) == 1
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: readers.do(partial(time.sleep, 0.2), "x"), range(6)))
    assert len(processes_apart(psutil.Process())) == 2
    for process in processes_apart(psutil.Process()):
        process.kill()


def struck_while(ask, process):
    """The answer to `ask`, whose picture is with the one process apart when that is killed."""
    (reader,) = processes_apart(process)
    reader.suspend()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(ask)
        time.sleep(1)  # until it has the picture
        assert not answer.done()
        reader.kill()
        return answer.result(30)


def test_a_crash_in_the_middle_of_a_request_is_answered_and_the_next_succeeds():
    with server("--seconds", "60") as (address, _, process):
        ask = partial(httpx.post, f"{address}api/stylize", content=PHOTO, timeout=60)
        assert ask().status_code == 200
        answer = struck_while(ask, process)
        assert answer.status_code == 422 and answer.json()["error"].startswith("The picture can't be read: it makes")
        assert ask().status_code == 200


def test_a_painting_that_crashes_its_reader_is_a_sentence_of_the_studio(tmp_path):
    studio = Studio(tmp_path / "library")
    try:
        look = partial(studio.ask, "studio/paintings", STYLE.read_bytes())
        assert look()[0] == 200
        status, said = struck_while(look, studio.process)
        assert status == 400 and said["error"].startswith("This file can't be read: it makes the decoder crash")
        assert look()[0] == 200
    finally:
        studio.end()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_server_ends(how):
    with server() as (address, _, process):
        assert httpx.post(f"{address}api/stylize", content=PHOTO, timeout=60).status_code == 200
        left = psutil.Process(process.pid).children(recursive=True)
        assert len(processes_apart(process)) == 1
        process.send_signal(how)
        process.wait(20)
        assert not psutil.wait_procs(left, 10)[1]


def test_a_process_at_work_ends_with_a_server_that_is_killed(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    sleeper = subprocess.Popen([sys.executable, tmp_path / "sleeper.py"], stdout=subprocess.PIPE)
    with sleeper:
        process = psutil.Process(int(sleeper.stdout.readline()))
        time.sleep(0.5)  # until it is at work
        sleeper.kill()
    assert not psutil.wait_procs([process], 10)[1]
