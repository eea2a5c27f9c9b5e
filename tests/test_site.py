"""The page as a folder for any web host: what is exported, and that what else lies in the folder is never lost."""

import errno
import json
import os
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest
from typer.testing import CliRunner

from allaprima.commands.app import app
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned
from allaprima.infer.library import BUNDLED
from allaprima.infer.stylizer import Stylizer
from allaprima.serve.site import MARK, export_web
from conftest import make_model

STYLES = ["starry_night", "wave"]


def test_an_export_is_whole_and_replaces_only_an_export(tmp_path):
    mine = tmp_path / "photos"
    mine.mkdir()
    (mine / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(AllaprimaError, match="does not exist yet"):
        export_web(["wave"], mine)
    assert (mine / "holiday.jpg").read_bytes() == b"precious"

    events = []
    output = export_web(STYLES, tmp_path / "site")
    entries = json.loads((output / "styles.json").read_text())
    assert [entry["name"] for entry in entries] == STYLES
    assert all((output / entry["file"]).is_file() for entry in entries)
    export_web([make_model(tmp_path / "mine.onnx")], output, listener=events.append)
    assert [entry["name"] for entry in json.loads((output / "styles.json").read_text())] == ["tiny"]
    assert any(isinstance(event, Warned) and "replaced" in event.text for event in events)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.onnx", "photos", "site"]


def test_an_exported_style_paints_the_same_and_leaves_the_painting_at_home(tmp_path, photo):
    grams = {"relu1_2": np.eye(64, dtype=np.float32)}
    mine = make_model(tmp_path / "mine.onnx", painting=b"a JPEG", grams=grams)
    site = export_web([mine, "wave"], tmp_path / "site")
    for exported, whole in (
        (site / "styles" / "mine.onnx", mine),
        (site / "styles" / "wave.onnx", BUNDLED / "wave.onnx"),
    ):
        there, here = Stylizer(exported), Stylizer(whole)
        assert np.array_equal(there(photo, 0.5), here(photo, 0.5)) and np.array_equal(there(photo), here(photo))
        assert here.card.painting or here.card.grams
        assert there.card == replace(here.card, painting=b"", grams={})
        assert exported.stat().st_size < whole.stat().st_size
    assert (site / "styles" / "wave.onnx").stat().st_size < 0.8 * (BUNDLED / "wave.onnx").stat().st_size


def test_the_url_of_a_style_leads_to_its_file_whatever_its_name(tmp_path):
    site = export_web([make_model(tmp_path / "my style #1?.onnx")], tmp_path / "site")
    (entry,) = json.loads((site / "styles.json").read_text())
    assert entry["file"] == "styles/my%20style%20%231%3F.onnx"
    assert (site / unquote(entry["file"])).is_file()


def test_two_styles_of_one_file_name_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(AllaprimaError, match=r"wave\.onnx"):
        export_web(["wave", make_model(tmp_path / "a" / "wave.onnx")], tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.fixture
def tiny(tmp_path):
    return make_model(tmp_path / "tiny.onnx")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_export_did_not_write_stays(tmp_path, tiny):
    """A repository that is published, say: its history and its settings are not the page's."""
    site = export_web(["wave"], tmp_path / "site")
    theirs = {".git/HEAD": b"ref", "CNAME": b"example.org", "styles/notes.txt": b"mine", "ort/x/y": b"deep"}
    for name, content in theirs.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    (site / "link").symlink_to(tmp_path)
    (site / "icon.svg").unlink()
    export_web([tiny], site)
    assert files(site).items() >= theirs.items() and (site / "link").is_symlink()
    fresh = files(export_web([tiny], tmp_path / "fresh"))
    assert {name: content for name, content in files(site).items() if name not in theirs} == fresh
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "site", "tiny.onnx"]


def test_what_is_in_the_way_is_named_and_nothing_changes(tmp_path, tiny):
    site = export_web(["wave"], tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    (site / "styles" / "tiny.onnx").write_bytes(b"mine")
    before = files(site)
    with pytest.raises(AllaprimaError, match=r"styles/tiny\.onnx is in the way, .*move it away"):
        export_web([tiny], site)
    (site / "styles").rename(tmp_path / "elsewhere" / "styles")
    (site / "styles").symlink_to(tmp_path / "elsewhere" / "styles")
    with pytest.raises(AllaprimaError, match="styles is in the way"):
        export_web(["starry_night"], site)
    (site / "styles").unlink()
    (tmp_path / "elsewhere" / "styles").rename(site / "styles")
    assert files(site) == before


@pytest.mark.parametrize(
    "mark", ["[]", '{"files": 3}', "[" * 10**5, '{"files": ["../notes.txt", "/etc/x", "a\\u0000"]}']
)
def test_a_mark_is_not_obeyed_beyond_its_folder(tmp_path, tiny, mark):
    (tmp_path / "site").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "site" / MARK).write_text(mark)
    export_web([tiny], tmp_path / "site")
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "site" / "index.html").is_file()


def test_an_export_that_fails_half_way_leaves_the_folder_as_it_was(tmp_path, tiny, monkeypatch):
    site, rename = export_web(["wave"], tmp_path / "site"), os.rename
    (site / "CNAME").write_bytes(b"example.org")
    before = files(site)

    def refused(source, target):
        if target == site / "style.css" and source.parent.name == "new":
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(AllaprimaError, match="No permission"):
        export_web([tiny], site)
    assert files(site) == before and sorted(path.name for path in tmp_path.iterdir()) == ["site", "tiny.onnx"]


def test_a_link_is_followed(tmp_path, tiny):
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        export_web([tiny], tmp_path / "link")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / MARK).is_file()


@pytest.mark.parametrize("command, option", [("export-web", "output"), ("studio", "library")])
def test_an_empty_name_is_not_this_folder(command, option):
    done = CliRunner().invoke(app, [command, f"--{option}", ""])
    assert f"{option} is empty: give a path" in str(done.exception)
