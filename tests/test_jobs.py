"""What `stylize` does to files: kinds by content, names of results, results of before, and nothing lost."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Started, Warned, Wrote
from allaprima.core.files import is_ours
from allaprima.infer import jobs
from allaprima.infer.jobs import stylize
from allaprima.infer.stylizer import Stylizer
from allaprima.infer.video import stylize_video
from allaprima.serve.site import export_web


@pytest.fixture
def picture(tmp_path):
    """A function that puts a small picture at a path below the test's folder."""

    def put(name, kind=None, shade=100):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20), (shade, 120, 40)).save(path, kind)
        return path

    return put


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_no_source_is_ever_written_over(picture, tmp_path, tiny_model):
    a, b = picture("a.png"), picture("b.png", shade=1)
    (tmp_path / "link.png").symlink_to(a)
    os.link(a, tmp_path / "hard.png")
    before = content(tmp_path)
    for sources, output in (
        ([a, b], b),
        (a, a),
        (a, tmp_path / "link.png"),
        (a, tmp_path / "hard.png"),
        (tmp_path, tmp_path),
    ):
        with pytest.raises(AllaprimaError):
            stylize(sources, output, tiny_model, overwrite=True)
    with pytest.raises(AllaprimaError, match="is an input"):
        stylize([a, b], tmp_path, tiny_model, overwrite=True)
    assert content(tmp_path) == before


def test_results_of_one_name_are_numbered(picture, tmp_path, tiny_model):
    sources = [picture(f"{folder}/x.png", shade=shade) for folder, shade in (("one", 0), ("two", 100), ("three", 200))]
    sources += [picture("four/X.PNG"), picture("five/x.gif")]
    written = stylize(sources, tmp_path / "out", tiny_model, strength=0)
    assert [path.name for path in written] == ["x.png", "x-2.png", "x-3.png", "X-4.PNG", "x.gif"]
    for source, path in zip(sources[:3], written):
        assert np.array_equal(np.asarray(Image.open(source)), np.asarray(Image.open(path)))


@pytest.mark.parametrize("again", [lambda a: a, lambda a: [a, a], lambda a: [a, a.parent], lambda a: [a.parent, a]])
def test_a_file_that_is_given_twice_is_done_once(picture, tmp_path, tiny_model, again):
    assert len(stylize(again(picture("in/a.png")), f"{tmp_path}/out/", tiny_model)) == 1


def test_only_own_results_are_replaced(picture, tmp_path, tiny_model):
    source, told = picture("a.png"), []
    (out,) = stylize(source, tmp_path / "out.png", tiny_model)
    stylize(source, out, tiny_model, listener=told.append)
    assert any(isinstance(event, Warned) and "will be replaced" in event.text for event in told)
    theirs = picture("theirs.png")
    before = theirs.read_bytes()
    with pytest.raises(AllaprimaError, match="already exists"):
        stylize(source, theirs, tiny_model)
    assert theirs.read_bytes() == before
    stylize(source, theirs, tiny_model, overwrite=True)
    assert is_ours(theirs)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "gif", "avif", "jp2", "tga", "bmp", "ppm"])
def test_own_results_are_not_painted_again(picture, tmp_path, tiny_model, ending):
    """In a folder and in a list, as `*.jpg` gives one; BMP and PPM have no place for the mark: there it is the name."""
    picture(f"in/a.{ending}"), picture(f"in/b.{ending}")
    folder = tmp_path / "in"
    stylize(sorted(folder.iterdir()), model=tiny_model)
    results = {f"a-tiny.{ending}", f"b-tiny.{ending}"}
    told = []
    written = stylize(sorted(folder.iterdir()), model=tiny_model, overwrite=True, listener=told.append)
    assert {path.name for path in written} == results and len(list(folder.iterdir())) == 4
    assert f"2 files are left out (results of allaprima): a-tiny.{ending}, b-tiny.{ending}" in {
        event.text for event in told if isinstance(event, Warned)
    }
    if ending not in ("bmp", "ppm"):
        assert {path.name for path in stylize(folder, tmp_path / "out", tiny_model)} == {f"a.{ending}", f"b.{ending}"}
        assert len(stylize(folder / f"a-tiny.{ending}", tmp_path / f"twice.{ending}", tiny_model)) == 1  # asked for


def test_one_name_does_not_hold_several_results(picture, tmp_path, tiny_model):
    sources = [picture("in/a.jpg"), picture("in/b.jpg")]
    for source, says in ((sources, "there are 2 sources"), (tmp_path / "in", "the source is a folder")):
        with pytest.raises(AllaprimaError, match=says):
            stylize(source, tmp_path / "one.jpg", tiny_model)
    assert not (tmp_path / "one.jpg").exists()
    assert len(stylize(sources, f"{tmp_path}/one.jpg/", tiny_model)) == 2


def test_patterns_are_expanded_where_no_shell_did(picture, tmp_path, tiny_model):
    picture("in/a.png"), picture("in/b.png"), picture("in/[c].png")
    assert [path.name for path in stylize(tmp_path / "in" / "?.png", model=tiny_model)] == ["a-tiny.png", "b-tiny.png"]
    assert [path.name for path in stylize(tmp_path / "in" / "[c].png", model=tiny_model)] == ["[c]-tiny.png"]
    with pytest.raises(AllaprimaError, match="does not exist"):
        stylize(tmp_path / "in" / "z*.png", model=tiny_model)


def test_kinds_by_content(picture, tmp_path, tiny_model):
    from clips import panned, write_clip

    write_clip(tmp_path / "clip.mp4", panned(3, 64, 48))
    (tmp_path / "in").mkdir()
    for name in ("film", "film.jpg", "film.3g2"):
        shutil.copy(tmp_path / "clip.mp4", tmp_path / "in" / name)
    picture("in/photo", "JPEG"), picture("in/photo.mp4", "PNG"), picture("in/photo.xyz", "BMP")
    (tmp_path / "in" / "notes.md").write_text("# notes")
    told = []
    written = stylize(tmp_path / "in", tmp_path / "out", tiny_model, listener=told.append)
    assert {path.name for path in written} == {
        "film.mp4",
        "film-2.mp4",
        "film-3.mp4",
        "photo.jpg",
        "photo.png",
        "photo.bmp",
    }
    assert told[0].text == "1 file is left out (neither pictures nor videos): notes.md"


@pytest.mark.parametrize(
    "name", [".", "..", "./", "../../in", "~photo.png", "12:30:05.png", "[b]x.png", "-s.png", "a b\n.png"]
)
def test_a_path_is_a_path(picture, tmp_path, tiny_model, monkeypatch, name):
    picture("in/deep/a.png")
    here = tmp_path / "in" / "deep"
    monkeypatch.chdir(here)
    if name.endswith(".png"):
        shutil.copy("a.png", name)
    (written,) = stylize(name, model=tiny_model)
    assert written.is_file() and content(here)["a.png"]
    assert written.resolve().parent == (here if name.endswith(".png") else written.resolve().parent)
    assert not list((tmp_path / "in").rglob(".*"))


def test_names_that_are_not_text_and_names_that_are_long(picture, tmp_path, tiny_model):
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.png", b"x" * 251 + b".png", "ä".encode() * 125 + b".png"):
        picture("a.png").rename(Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)))
    written = stylize(sorted((tmp_path / "in").iterdir()), model=tiny_model)
    assert len(written) == 3 and all(path.name.endswith("-tiny.png") and path.is_file() for path in written)
    assert len(stylize(tmp_path / "in", tmp_path / "out", tiny_model)) == 3


def test_an_error_of_any_library_is_a_sentence_and_the_others_are_done(picture, tmp_path, tiny_model, monkeypatch):
    for name in "abc":
        picture(f"in/{name}.png")
    read, told = jobs.read_picture, []

    def stumble(path, **options):
        if path.name == "b.png":
            raise ZeroDivisionError("division\nby zero")
        return read(path, **options)

    monkeypatch.setattr(jobs, "read_picture", stumble)
    with pytest.raises(AllaprimaError, match="1 of 3 files.*b.png. All others are written"):
        stylize(tmp_path / "in", tmp_path / "out", tiny_model, listener=told.append)
    assert sorted(content(tmp_path / "out")) == ["a.png", "c.png"]
    assert any("ZeroDivisionError: division" in event.text for event in told if isinstance(event, Warned))
    with pytest.raises(AllaprimaError, match="could not be stylized"):
        stylize(tmp_path / "in" / "b.png", tmp_path / "out.png", tiny_model)


@pytest.mark.parametrize("kind, values", [(ValueError, ["mine"]), (OSError, [errno.ENOSPC, "mine"])])
@pytest.mark.parametrize("at", [Started, Advanced, Wrote])
def test_what_a_listener_raises_is_not_blamed_on_the_work(picture, tmp_path, tiny_model, at, kind, values):
    """And no other file is painted after it."""
    from clips import panned, write_clip

    raised = kind(*values)  # made here, as its traceback keeps the frames of a video until it goes
    one, _ = picture("in/a.png"), picture("in/b.png")
    write_clip(tmp_path / "clip.mp4", panned(3, 64, 48))

    def listener(event):
        if isinstance(event, at):
            raise raised

    for work in (
        lambda: stylize(one, tmp_path / "out" / "a.png", tiny_model, listener=listener),
        lambda: stylize(tmp_path / "in", tmp_path / "out", tiny_model, listener=listener),
        lambda: stylize_video(tmp_path / "clip.mp4", tmp_path / "out.mp4", Stylizer(tiny_model), listener=listener),
        lambda: export_web([tiny_model], tmp_path / "site", listener=listener),
    ):
        with pytest.raises(type(raised)) as caught:
            work()
        assert caught.value is raised
    assert not (tmp_path / "out" / "b.png").exists()


def test_where_results_go_is_said(picture, tmp_path, tiny_model, monkeypatch):
    picture("a.png"), picture("b.png")
    monkeypatch.chdir(tmp_path)
    for output, says in ((None, "beside their sources"), ("out", "into out"), ("./", None)):
        told = []
        if says:
            stylize(["a.png", "b.png"], output, tiny_model, listener=told.append)
            assert next(e.about for e in told if isinstance(e, Started)) == f"Stylizing 2 files {says}."


@pytest.mark.parametrize("wrong", [3, 1.5, [], {}, b"a.png", [None], object(), "a\0b", np.zeros((20, 20, 3), np.uint8)])
@pytest.mark.parametrize("argument", ["source", "output", "model", "strength", "threads", "provider", "foreign"])
def test_wrong_types_are_sentences(picture, tmp_path, tiny_model, argument, wrong):
    values = {"source": picture("a.png"), "output": tmp_path / "out.png", "model": tiny_model} | {argument: wrong}
    if argument == "threads" and isinstance(wrong, int):
        return
    with pytest.raises(AllaprimaError):
        stylize(**values)
