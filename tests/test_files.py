"""Output files: what may be written where, and that they appear whole or not at all."""

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allaprima.core import files
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import ignore
from allaprima.core.files import (
    MARK,
    atomic,
    check_output,
    check_outputs,
    fit_name,
    is_ours,
    write_atomically,
)
from allaprima.insight.sheet import check_page
from allaprima.media.pictures import check_picture_output
from allaprima.media.writer import check_video_output
from allaprima.train.run import checked_output


def page(path):
    return check_page(path, [], False, ignore)


def model(path):
    return checked_output(path, "painting.jpg", False)


def linked(kind, original, link):
    """`link` leads to the file `original`, in one of the ways that there are."""
    link.parent.mkdir(exist_ok=True)
    match kind:
        case "itself":
            return original
        case "another spelling":
            return original.parent / ".." / original.parent.name / original.name
        case "link":
            link.symlink_to(original)
        case "hard link":
            os.link(original, link)
        case "folder link":
            link.symlink_to(original.parent)
            return link / original.name
    return link


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["itself", "another spelling", "link", "hard link", "folder link"])
def test_an_output_is_never_an_input(tmp_path, kind, overwrite):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"my only copy")
    output = linked(kind, photo, tmp_path / "elsewhere" / "out.jpg")
    with pytest.raises(AllaprimaError, match="is an input"):
        check_output(output, [tmp_path / "not there.jpg", photo], overwrite=overwrite)
    assert photo.read_bytes() == b"my only copy"


@pytest.mark.parametrize("check", [check_output, check_picture_output, check_video_output, page, model])
def test_a_slash_at_its_end_makes_it_no_file(tmp_path, check):
    for ending in (".png", ".mp4", ".html", ".onnx"):
        with suppress(AllaprimaError):  # not an ending of its kind
            check(tmp_path / f"new{ending}")
            with pytest.raises(AllaprimaError, match=rf"new{ending}/ is a folder. Give a file name inside it."):
                check(f"{tmp_path}/new{ending}/")


def test_no_output_is_named_twice(tmp_path):
    """Nor in two spellings that some file systems take for one: case, and accents in one code point or two."""
    for one, other in (("a.jpg", "a.jpg"), ("a.jpg", "A.JPG"), ("caf\u00e9.jpg", "cafe\u0301.jpg")):
        with pytest.raises(AllaprimaError, match="two outputs"):
            check_outputs([tmp_path / one, tmp_path / "b.jpg", tmp_path / other])
    check_outputs([tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.jpg"])


def test_only_results_of_ours_are_replaced_and_the_user_is_told(tmp_path):
    ours, theirs, told = tmp_path / "ours.jpg", tmp_path / "theirs.jpg", []
    ours.write_bytes(b"\xff\xd8 Exif" + MARK.encode() + bytes(100_000))
    theirs.write_bytes(b"\xff\xd8 Exif")
    check_outputs([ours, tmp_path / "new.jpg"], listener=told.append)
    assert len(told) == 1 and "ours.jpg will be replaced, an earlier result" in told[0].text
    with pytest.raises(AllaprimaError, match="theirs.jpg already exists. Give another output, or add --overwrite"):
        check_outputs([ours, theirs])
    assert check_outputs([ours, theirs], overwrite=True, listener=told.append) == [ours, theirs]
    assert "2 files will be replaced, 1 of them earlier results" in told[1].text
    check_output(theirs, overwrite=True, listener=told.append)
    assert told[2].text.endswith("theirs.jpg will be replaced.")


def test_the_mark_is_found_at_both_ends_of_a_file(tmp_path):
    for before, after in ((0, 0), (0, 10**6), (10**6, 0), (60_000, 60_000), (100_000, 10)):
        (tmp_path / "file").write_bytes(bytes(before) + MARK.encode() + bytes(after))
        assert is_ours(tmp_path / "file"), (before, after)
    (tmp_path / "file").write_bytes(bytes(10**6))
    assert not any(map(is_ours, (tmp_path / "file", tmp_path, tmp_path / "none", Path(os.devnull))))


def test_what_is_not_a_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (os.devnull, tmp_path / "pipe"):
        with pytest.raises(AllaprimaError, match="not an ordinary file"):
            check_output(path, overwrite=True)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(AllaprimaError, match="is a folder"):
        check_output(tmp_path, overwrite=True)


@pytest.mark.parametrize("wrong", [None, 3, 1.5, ["a"], {}, b"a.jpg", object(), "a\0b"])
def test_what_is_not_a_path(wrong):
    for function in (check_output, lambda path: write_atomically(path, b"")):
        with pytest.raises(AllaprimaError, match="output must be a path"):
            function(wrong)


def test_where_permissions_cannot_be_changed_the_file_is_kept(tmp_path, monkeypatch):
    """SMB, FUSE and S3 mounts refuse chmod, and links of times and owners with it."""

    def refuse(*arguments, **named):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in ("chmod", "fchmod", "chown", "utime"):
        monkeypatch.setattr(os, name, refuse)
    write_atomically(tmp_path / "a.txt", "kept")
    assert (tmp_path / "a.txt").read_text() == "kept" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_an_ordinary_new_file(tmp_path, umask):
    """And the umask, which all threads of a process share, is never touched: their files would be open to everyone."""
    before = os.umask(umask)
    try:
        for number in range(100):
            other = threading.Thread(target=(tmp_path / f"other{number}").touch)
            other.start()
            write_atomically(tmp_path / f"ours{number}", b"")
            other.join()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for error in (KeyboardInterrupt, ValueError, OSError(errno.ENOSPC, "full")):
        with pytest.raises(AllaprimaError if isinstance(error, OSError) else error), atomic(path) as part:
            part.write_text("half")
            raise error
        assert list(path.parent.iterdir()) == []
    write_atomically(path, "whole")
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"] and path.read_text() == "whole"


def test_names_as_long_as_the_file_system_allows(tmp_path):
    long = tmp_path / ("x" * 251 + ".jpg")
    write_atomically(long, b"there")
    assert long.read_bytes() == b"there"
    with pytest.raises(AllaprimaError, match="longer than its disk allows"):
        check_output(tmp_path / ("x" * 252 + ".jpg"))


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0."), min_size=1, max_size=300)
BYTES = st.binary(min_size=1, max_size=300).map(os.fsdecode).filter(lambda name: not {"/", "\0", "."} & set(name))


@given(NAMES | BYTES, st.sampled_from([".jpg", ".mp4", ""]))
def test_a_name_is_cut_to_what_fits(stem, ending):
    folder = Path("/tmp")
    fitted = fit_name(folder, stem, ending)
    assert len(os.fsencode(fitted.name)) <= 255 and fitted.parent == folder and fitted.name.endswith(ending)
    assert stem.startswith(fitted.name.removesuffix(ending))
    if len(os.fsencode(stem + ending)) <= 255:
        assert fitted.name == stem + ending


def test_names_that_are_not_text(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    assert write_atomically(path, b"there").read_bytes() == b"there" and b"caf\xe9.jpg" in os.listdir(
        os.fsencode(tmp_path)
    )


def test_a_file_system_without_numbers_of_files(tmp_path, monkeypatch):
    """Some network file systems give every file the number 0: then their names tell them apart."""
    real = os.stat
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")

    def stat_without_number(path, **named):
        return os.stat_result([0 if i == 1 else v for i, v in enumerate(real(path, **named))])

    monkeypatch.setattr(files.os, "stat", stat_without_number)
    assert files.same_file(tmp_path / "a.jpg", tmp_path / "A.JPG")
    assert not files.same_file(tmp_path / "a.jpg", tmp_path / "b.jpg")
