"""Names that are made to mislead: newlines, dashes, dots, links; nothing is read or written outside, nothing is obeyed."""

import asyncio
import errno
import os
import subprocess
import sys
from functools import partial
from urllib.parse import unquote

import pytest
from PIL import Image
from typer.testing import CliRunner

from allaprima.commands.app import app
from allaprima.commands.terminal import visible
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned
from allaprima.core.remote import is_url
from allaprima.infer.jobs import stylize
from allaprima.media.clips import is_video, open_container
from allaprima.serve.site import export_web
from allaprima.serve.studio import studio_app
from clips import panned, write_clip
from conftest import PHOTOS, make_model

ROUTES = [
    "/styles/{}.onnx",
    "/styles/{}",
    "/studio/photos/{}",
    "/studio/trainings/{}/report.html",
    "/studio/conversions/{}/result",
]
ROUTES += ["/{}", "/ort/{}", "/api/{}", "/studio/trainings/x/{}"]
WAYS_OUT = [
    "../secret.txt",
    "..%2fsecret.txt",
    "..\\secret.txt",
    "../../secret.txt",
    "{folder}/secret.txt",
    "/{folder}/secret.txt",
]
WAYS_OUT += ["....//secret.txt", "..;/secret.txt", "secret.txt\0.onnx", "link", "./../library/../secret.txt"]
NAMES = [
    "-rf.png",
    "--output.png",
    "two\nlines.png",
    "\x1b[2Jred.png",
    " .png",
    "%03d.png",
    "..png",
    "a;b|c&d.png",
    "C:x.png",
]


def picture(path, size=(48, 36)):
    Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize(size).save(path, "PNG")
    return path


def tree(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


def test_a_folder_of_strange_names(tmp_path, tiny_model):
    """Each is painted under its own name, and the command line takes each, after --."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name in NAMES:
        picture(folder / name)
    stylize(folder, tmp_path / "out", tiny_model)
    assert tree(tmp_path / "out") == {name for name in NAMES if not name.startswith(".")}
    os.chdir(folder)
    for name in NAMES[:3]:
        done = CliRunner().invoke(app, ["stylize", "-m", str(tiny_model), "--", name])
        assert done.exit_code == 0, done.stderr
    write_clip(tmp_path / "clip.mp4", panned(3, 48, 36))
    (tmp_path / "clip.mp4").rename(folder / "-i.mp4")
    assert stylize("-i.mp4", "-y.mp4", tiny_model)[0].exists()


@pytest.fixture(autouse=True)
def stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_link_out_of_a_folder_is_left_out(tmp_path, tiny_model):
    told, secret, folder = [], tmp_path / "secret", tmp_path / "album"
    for made in (secret, folder, folder / "deep"):
        made.mkdir()
    picture(secret / "private.png")
    picture(folder / "own.png")
    (folder / "deep" / "out.png").symlink_to(secret / "private.png")
    (folder / "elsewhere").symlink_to(secret)
    (folder / "deep" / "in.png").symlink_to("../own.png")  # the same file again, which is done once
    stylize(folder, tmp_path / "out", tiny_model, listener=told.append)
    assert tree(tmp_path / "out") <= {"own.png", "deep/in.png"} and len(tree(tmp_path / "out")) == 1
    assert Warned("2 files are left out (links that lead out of the folder): out.png, elsewhere") in told


@pytest.mark.skipif(os.name != "posix", reason="modes and pipes as of POSIX")
def test_what_is_no_file_in_a_folder_is_listed_and_no_folder_is_passed_over_silently(tmp_path, tiny_model):
    told, folder = [], tmp_path / "album"
    for made in (folder, folder / "deep"):
        made.mkdir()
    picture(folder / "own.png")
    (folder / "again").symlink_to("deep")
    (folder / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    stylize(folder, tmp_path / "out", tiny_model, listener=told.append)
    assert tree(tmp_path / "out") == {"own.png"}
    listed = "3 files are left out (links to folders and what is not an ordinary file): again, gone.png, pipe.png"
    assert Warned(listed) in told
    with pytest.raises(AllaprimaError, match="pipe.png is neither a file nor a folder: pipe it in"):
        stylize(folder / "pipe.png", tmp_path / "out2", tiny_model)


def test_a_folder_that_can_not_be_read_is_listed(tmp_path, tiny_model, monkeypatch):
    """As another user would find it: scandir refuses."""
    told, folder = [], tmp_path / "album"
    (folder / "locked").mkdir(parents=True)
    picture(folder / "own.png")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    stylize(folder, tmp_path / "out", tiny_model, listener=told.append)
    assert Warned("1 file is left out (folders that can't be read): locked") in told
    with pytest.raises(AllaprimaError, match="No permission for .*locked"):
        stylize(folder / "locked", tmp_path / "out2", tiny_model)


LONG = "x" * 300


@pytest.mark.parametrize("name", [LONG + ".png", LONG, f"{LONG}/", f"{LONG}/a.png"])
def test_a_name_that_is_too_long_is_a_sentence(tmp_path, tiny_model, name):
    (tmp_path / "album").mkdir()
    one = picture(tmp_path / "album" / "a.png")
    for source, output in ((name, None), (one if name.endswith(".png") else tmp_path / "album", name)):
        with pytest.raises(AllaprimaError, match="longer than its disk allows"):
            stylize(source, output, tiny_model)
    for model in (name, f"{name}.onnx"):
        with pytest.raises(AllaprimaError, match="longer than its disk allows|There is no style"):
            stylize(one, None, model)
    assert not is_url(f"s3:/{name}") and is_url(f"https://example.org/{name}")  # a signed address is as long
    assert tree(tmp_path) == {"album/a.png"}


def test_a_closed_folder_is_a_sentence(tmp_path, tiny_model, monkeypatch):
    """As another user would find it: stat refuses."""
    one = picture(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()

    def refuse(real, path, **how):
        if "locked/" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path, **how)

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, partial(refuse, getattr(os, name)))
    locked = {"source": "locked/a.png", "output": "locked/b.png", "model": "locked/a.onnx"}
    for what, path in locked.items():
        with pytest.raises(AllaprimaError, match=f"No permission for {path}"):
            stylize(**{"source": one, "model": tiny_model, what: path})


def test_links_that_lead_to_each_other_are_a_sentence(tmp_path, tiny_model):
    (tmp_path / "album").mkdir()
    picture(tmp_path / "album" / "a.png")
    (tmp_path / "loop").symlink_to("loop")
    for source, output in (("album", "loop"), ("loop", None)):
        with pytest.raises(AllaprimaError, match="loop"):
            stylize(source, output, tiny_model)


@pytest.mark.parametrize("empty", ["source", "output"])
def test_an_empty_name_is_not_this_folder(tmp_path, tiny_model, empty):
    names = {"source": picture(tmp_path / "a.png"), "output": tmp_path / "b.png"} | {empty: ""}
    with pytest.raises(AllaprimaError, match=f"{empty} is empty: give a path"):
        stylize(names["source"], names["output"], tiny_model)
    assert tree(tmp_path) <= {"a.png", "tiny.onnx"}


def test_a_folder_that_is_a_link_itself_is_meant(tmp_path, tiny_model):
    (tmp_path / "album").mkdir()
    picture(tmp_path / "album" / "a.png")
    (tmp_path / "link").symlink_to("album")
    assert stylize(tmp_path / "link", tmp_path / "out", tiny_model) == [tmp_path / "out" / "a.png"]


def test_nothing_is_written_through_a_link_in_the_output(tmp_path, tiny_model):
    for made in ("album/deep", "home", "out"):
        (tmp_path / made).mkdir(parents=True)
    picture(tmp_path / "album" / "deep" / "a.png")
    (tmp_path / "out" / "deep").symlink_to(tmp_path / "home")
    with pytest.raises(AllaprimaError, match="out/deep leads out of .*out: remove the link"):
        stylize(tmp_path / "album", tmp_path / "out", tiny_model)
    assert tree(tmp_path / "home") == set()
    (tmp_path / "out" / "deep").unlink()
    (tmp_path / "home" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "deep").mkdir()
    (tmp_path / "out" / "deep" / "a.png").symlink_to(tmp_path / "home" / "notes.txt")
    stylize(tmp_path / "album", tmp_path / "out", tiny_model, overwrite=True)
    assert (tmp_path / "home" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "out" / "deep" / "a.png").is_symlink()  # the link was replaced, and not what it leads to


LISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\n../secret.ts\n#EXT-X-ENDLIST\n",
    "list.mp4": "ffconcat version 1.0\nfile secret.ts\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_other_files_is_not_a_video(tmp_path, tiny_model, name):
    """FFmpeg would read what the list names, wherever that is."""
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        write_clip(folder / "secret.ts", panned(3, 48, 36), codec="mpeg2video")
    path = tmp_path / "in" / name
    path.write_text(LISTS[name])
    with pytest.raises(AllaprimaError, match="seems to be a picture, or a list of other files. Give a video"):
        open_container(path)
    assert is_video(path) == (path.suffix == ".mp4")  # by its ending, so that it is named
    with pytest.raises(AllaprimaError):
        stylize(path, tmp_path / "out.mp4", tiny_model)
    assert not (tmp_path / "out.mp4").exists()


def test_a_terminal_does_not_obey_a_name(tmp_path):
    assert visible("a\nb\x1b[2J\x9b\r é 猫") == "a\\nb\\x1b[2J\\x9b\\r é 猫"
    (tmp_path / "x\x1b]0;title\x07\ny.png").write_bytes(b"no picture")
    done = CliRunner().invoke(app, ["stylize", "x\x1b]0;title\x07\ny.png"])
    assert isinstance(done.exception, AllaprimaError)
    code = "import sys; from allaprima.commands.app import main; sys.argv[0] = 'allaprima'; main()"
    command = [sys.executable, "-c", code, "stylize", "x\x1b]0;title\x07\ny.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr


def test_a_page_on_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(AllaprimaError, match="The disk is full: .*site was not written"):
        export_web(["wave"], tmp_path / "site")
    assert tree(tmp_path) == set()


def test_an_exported_page_stays_in_its_folder(tmp_path):
    name = "..%2f..\n<img src=x>.onnx"
    make_model(tmp_path / name, credit="</script><script>alert(1)</script>")
    site = export_web([tmp_path / name], tmp_path / "site")
    assert (site / "styles" / name).is_file() and tree(tmp_path) == {name, *(f"site/{one}" for one in tree(site))}


def asked(app, path):
    """(status, body) of an answer to a path as it is: clients would tidy it up."""
    got, sent = {"status": 0, "body": b""}, [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return sent.pop() if sent else await asyncio.Event().wait()  # who asks stays there

    async def send(message):
        got["status"] = message.get("status", got["status"])
        got["body"] += message.get("body", b"")

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
    }
    scope |= {
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "http_version": "1.1",
        "server": ("localhost", 80),
    }
    asyncio.run(app(scope, receive, send))
    return got["status"], got["body"]


def test_no_route_of_the_studio_leads_out_of_its_folders(tmp_path):
    (tmp_path / "library").mkdir()
    (tmp_path / "secret.txt").write_text("my secret")
    (tmp_path / "library" / "link").symlink_to(tmp_path / "secret.txt")
    app = studio_app(tmp_path / "library")
    assert asked(app, "/styles/wave.onnx")[0] == 200
    for route in ROUTES:
        for way in WAYS_OUT:
            path = route.format(way.format(folder=tmp_path))
            for asked_for in (path, unquote(path)):
                status, body = asked(app, asked_for)
                assert status in (400, 404, 405) and b"my secret" not in body, asked_for
