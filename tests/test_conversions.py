"""The studio's conversions, over HTTP: the queue, what is refused, what is left on the disk."""

import asyncio
import io
import shutil
import signal
import socket
import time
import zipfile
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from PIL import Image

import clips
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.infer.stylizer import Stylizer
from allaprima.serve.apart import Readers
from allaprima.serve.conversions import SPARE, Conversion, Conversions, path_in_archive
from allaprima.serve.library import Library
from allaprima.serve.workshop import Workshop
from conftest import PHOTOS
from services import processes_apart
from studios import Studio


@pytest.fixture
def studio(tmp_path):
    studio = Studio(tmp_path / "library")
    yield studio
    studio.end(kill=True)


def send(studio, name, content, **asked):
    return studio.ask(f"studio/conversions?{urlencode({'name': name, 'style': 'wave', **asked})}", content)


def until(studio, holds, seconds=120):
    deadline = time.time() + seconds
    while not holds(found := {each["name"]: each for each in studio.ask("studio/conversions")[1]["conversions"]}):
        assert time.time() < deadline, found
        time.sleep(0.1)
    return found


def today():
    return time.localtime()[:3]


def done(found):
    return all(each["state"] in ("done", "failed") for each in found.values())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The bytes of a clip of 24 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    clips.write_clip(path, clips.panned(24, 160, 120), rate=12)
    return path.read_bytes()


def test_pictures_and_a_clip_come_out_as_python_paints_them(studio, clip, tmp_path):
    photo = np.asarray(Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize((161, 107)))
    data, began = io.BytesIO(), today()
    Image.fromarray(photo).save(data, "PNG")
    for name in ("holiday/a.png", "holiday/sub/a.png", "../../a.png"):
        assert send(studio, name, data.getvalue(), strength=50)[0] == 201
    assert send(studio, "holiday/clip.mp4", clip)[0] == 201
    found = until(studio, done)
    assert {each["state"] for each in found.values()} == {"done"}, found
    wanted = Stylizer("wave")(photo, strength=0.5)
    result = studio.ask(f"studio/conversions/{found['holiday/a.png']['id']}/result")[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(result))), wanted)
    shown = studio.ask(f"studio/conversions/{found['holiday/clip.mp4']['id']}/shown.jpg")[1]
    assert Image.open(io.BytesIO(shown)).size == (160, 120)

    archive = zipfile.ZipFile(io.BytesIO(studio.ask("studio/conversions/results.zip")[1]))
    assert archive.testzip() is None
    names = ["holiday/a-wave.png", "holiday/sub/a-wave.png", "a-wave.png", "holiday/clip-wave.mp4"]
    assert archive.namelist() == names
    assert {entry.date_time[:3] for entry in archive.infolist()} <= {today(), began}
    archive.extractall(tmp_path)
    assert len(clips.decoded(tmp_path / "holiday" / "clip-wave.mp4")[0]) == 24
    studio.end()
    assert not (tmp_path / "library" / "conversions").exists()


def test_pause_cancel_and_remove(studio, tmp_path):
    path = tmp_path / "long.mp4"
    clips.write_clip(path, clips.panned(400, 320, 240), rate=25)
    content = path.read_bytes()
    send(studio, "long.mp4", content)
    send(studio, "next.mp4", content)
    until(studio, lambda found: found["long.mp4"]["done"] > 2)
    studio.ask("studio/conversions/pause", b"")
    time.sleep(0.5)
    at = until(studio, lambda found: found["long.mp4"]["done"])["long.mp4"]["done"]
    time.sleep(1)
    found = until(studio, lambda found: True)
    assert found["long.mp4"]["done"] == at and studio.ask("studio/conversions")[1]["paused"]
    studio.ask("studio/conversions/go-on", b"")
    until(studio, lambda found: found["long.mp4"]["done"] > at)
    for each in found.values():
        assert studio.ask(f"studio/conversions/{each['id']}", method="DELETE")[0] == 204
    folder = tmp_path / "library" / "conversions"
    deadline = time.time() + 60
    while list(folder.iterdir()) and time.time() < deadline:
        time.sleep(0.1)
    assert list(folder.iterdir()) == [] and until(studio, lambda found: True) == {}


def test_what_can_not_be_painted_is_named_and_the_rest_is_done(studio, tmp_path):
    photo = (PHOTOS / "chelsea.jpg").read_bytes()
    status, said = send(studio, "notes.txt", b"words")
    assert status == 400 and said["error"] == "notes.txt is neither a picture nor a video."
    assert "no style 'gone'" in send(studio, "a.jpg", photo, style="gone")[1]["error"]
    assert "strength" in send(studio, "a.jpg", photo, strength="full")[1]["error"]
    assert send(studio, "empty.jpg", b"")[0] == 400
    send(studio, "cut.jpg", photo[: len(photo) // 3])
    send(studio, "whole.jpg", photo)
    found = until(studio, done)
    assert (found["cut.jpg"]["state"], found["whole.jpg"]["state"]) == ("failed", "done")
    assert "cut.jpg" in found["cut.jpg"]["about"] and str(tmp_path) not in found["cut.jpg"]["about"]
    assert studio.ask(f"studio/conversions/{found['cut.jpg']['id']}/result")[0] == 404
    assert studio.ask("studio/conversions/none/result")[0] == 404
    assert [len(list(folder.iterdir())) for folder in (tmp_path / "library" / "conversions").iterdir()]


def test_a_crash_is_said_of_its_file_and_the_next_is_done(studio, tmp_path):
    path = tmp_path / "long.mp4"
    clips.write_clip(path, clips.panned(400, 320, 240), rate=25)
    send(studio, "long.mp4", path.read_bytes())
    send(studio, "next.jpg", (PHOTOS / "chelsea.jpg").read_bytes())
    found = until(studio, lambda found: found["long.mp4"]["done"] > 2)
    for process in processes_apart(studio.process):
        process.send_signal(signal.SIGSEGV)
    folder = tmp_path / "library" / "conversions" / found["long.mp4"]["id"]
    found = until(studio, done)
    assert (found["long.mp4"]["state"], found["next.jpg"]["state"]) == ("failed", "done")
    assert found["long.mp4"]["about"].startswith("long.mp4 can't be read: it makes the decoder crash")
    assert list(folder.iterdir()) == []


def test_what_a_killed_studio_left_is_removed(studio, tmp_path):
    send(studio, "a.jpg", (PHOTOS / "chelsea.jpg").read_bytes())
    until(studio, done)
    studio.end(kill=True)
    folder = tmp_path / "library" / "conversions"
    assert list(folder.iterdir())
    other = Studio(tmp_path / "library")
    assert not folder.exists()
    other.end()


def test_there_is_room_for_so_much_and_no_more(tmp_path, monkeypatch):
    conversions = Conversions(Library(tmp_path), Readers(1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000_100))
    assert conversions.room() == 100
    monkeypatch.setattr("allaprima.serve.conversions.MOST", 50)
    (tmp_path / "conversions" / "file").write_bytes(bytes(30))
    assert conversions.room() == 20


def test_what_is_removed_while_the_archive_is_taken_is_left_out(tmp_path):
    conversions = Conversions(Library(tmp_path), Readers(1))
    for name in "ab":
        result = tmp_path / f"{name}.png"
        result.write_bytes(b"painted")
        conversions.all[name] = Conversion(name, f"{name}.png", "picture", "wave", result, Controls(), 7, result=result)
    pieces = conversions.archive()
    first = next(pieces)
    (tmp_path / "b.png").unlink()
    with zipfile.ZipFile(io.BytesIO(first + b"".join(pieces))) as archive:
        assert archive.namelist() == ["a-wave.png"] and archive.read("a-wave.png") == b"painted"


@pytest.mark.parametrize("path", ["conversions", "paintings", "trainings"])
def test_a_file_that_breaks_off_leaves_no_traceback_and_no_file(path, studio, tmp_path):
    host, _, port = studio.address.removeprefix("http://").rstrip("/").partition(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(
            f"POST /studio/{path}?name=x.png HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\nhalf".encode()
        )
        time.sleep(0.2)
    time.sleep(0.2)
    assert studio.ask("api/health")[0] == 200
    studio.end()
    assert not list((tmp_path / "library").rglob("*source*"))


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    workshop = Workshop(Library(tmp_path), Readers(1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SPARE))

    async def post():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(workshop.app), base_url="http://studio") as client:
            return await client.post("/conversions?name=a.png&style=wave", content=b"x")

    answer = asyncio.run(post())
    assert answer.status_code == 507 and "no room for more files" in answer.json()["error"]


@pytest.mark.parametrize(
    "name, stays",
    [
        ("../../etc/x.jpg", "etc/x-wave.png"),
        ("/abs/x.jpg", "abs/x-wave.png"),
        ("a/./b/../x.jpg", "a/b/x-wave.png"),
        ("c:\\x.jpg", "x-wave.png"),
        ("My photos/été.jpg", "My_photos/été-wave.png"),
    ],
)
def test_a_name_leads_nowhere(tmp_path, name, stays):
    path = Conversions(Library(tmp_path), Readers(1)).new_file(name)
    assert path.parent.parent == tmp_path / "conversions" and path.name == "source.jpg"
    one = Conversion("x", name, "picture", "wave", path, Controls(), 1, result=path.with_name("source.png"))
    assert path_in_archive(one) == stays


def test_an_unknown_style_is_a_sentence(tmp_path):
    conversions = Conversions(Library(tmp_path), Readers(1))
    path = conversions.new_file("a.jpg")
    shutil.copy(PHOTOS / "chelsea.jpg", path)
    with pytest.raises(AllaprimaError, match="choose another"):
        conversions.add(path, "a.jpg", "../wave", Controls())
