"""The studio's trainings, over HTTP: the line, stopping, a server that is killed, and who is not answered."""

import asyncio
import io
import json
import subprocess
import sys

import psutil
import pytest
from PIL import Image, ImageOps

from allaprima.commands.worker import POINTS
from allaprima.core.errors import AllaprimaError
from allaprima.infer.stylizer import Stylizer
from allaprima.serve.library import Library, free_name, safe_stem
from allaprima.serve.trainings import WORKER, Trainings
from allaprima.serve.workshop import HELD_OUT
from allaprima.train.checkpoint import checkpoint_of, read_checkpoint
from studios import Studio
from training import STYLE


def as_bytes(picture):
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def open_studio(tmp_path):
    """open_studio() is a studio on one library; all are ended with the test."""
    studios = []

    def open_one(*options):
        studios.append(Studio(tmp_path / "library", *options))
        return studios[-1]

    yield open_one
    for studio in studios:
        studio.end(kill=True)


def test_a_painting_is_looked_at_before_it_is_trained_on(open_studio):
    studio = open_studio()
    status, seen = studio.ask("studio/paintings", STYLE.read_bytes())
    assert status == 200 and seen["faults"] == [] and seen["shown"].startswith("data:image/jpeg;base64,")
    small = ImageOps.expand(Image.open(STYLE).resize((90, 70)), 5, "white")
    seen = studio.ask("studio/paintings?style_size=512", as_bytes(small))[1]
    assert (seen["width"], seen["height"]) == (100, 80)
    assert "only 100x80" in seen["faults"][0] and "crop it off" in seen["faults"][1]
    blank = studio.ask("studio/paintings", as_bytes(Image.new("RGB", (800, 600), "red")))[1]
    assert "single colour" in blank["faults"][0]
    for body, words in {b"not a picture": "This file", b"": "empty"}.items():
        status, said = studio.ask("studio/paintings", body)
        assert status == 400 and words in said["error"], said


def test_nothing_is_kept_until_there_is_something_to_keep(open_studio, tmp_path):
    studio = open_studio()
    assert studio.ask("studio/trainings")[1]["trainings"] == []
    assert not (tmp_path / "library").exists()


def test_a_line_of_trainings_outlives_a_killed_studio(open_studio, tmp_path):
    studio = open_studio()
    for _ in range(2):
        status, said = studio.ask("studio/trainings?name=my+wave.jpg&minutes=0.9&style_size=128", STYLE.read_bytes())
        assert status == 201, said
    found = studio.until(lambda found: found["my_wave"]["done"] > 2 and found["my_wave"]["moment"])
    assert (found["my_wave"]["state"], found["my_wave-2"]["state"]) == ("training", "waiting")
    first = found["my_wave"]["id"]
    assert len(studio.ask(f"studio/trainings/{first}/moment.onnx")[1]) > 100_000
    assert "stop it first" in studio.ask(f"studio/trainings/{first}", method="DELETE")[1]["error"]
    with pytest.raises(AssertionError, match="Another studio, process"):
        open_studio()
    studio.end(kill=True)

    folder = tmp_path / "library" / "trainings" / first
    kept = json.loads((folder / "training.json").read_text())
    process = psutil.Process(kept["process"])  # hears of the end, and saves
    psutil.wait_procs([process], timeout=60)
    kept["steps"] = steps = len(read_checkpoint(checkpoint_of(folder / "my_wave.onnx"))[0]["history"]) + 20
    (folder / "training.json").write_text(json.dumps(kept))
    studio = open_studio()
    found = studio.until(lambda found: found["my_wave"]["done"] > 2)
    assert found["my_wave"]["state"] == "training" and found["my_wave-2"]["state"] == "waiting"
    studio.ask(f"studio/trainings/{found['my_wave-2']['id']}/stop", b"")
    studio.until(lambda found: found["my_wave"]["style"])
    assert Stylizer(tmp_path / "library" / "my_wave.onnx").name == "my_wave"
    assert "my_wave" in [style["name"] for style in studio.ask("styles.json")[1]]
    curves = studio.ask(f"studio/trainings/{first}/costs.json")[1]
    each = -(-steps // POINTS)
    assert curves["step"] == [
        min(steps, last) for last in range(each, steps + each, each)
    ]  # none was lost, none made twice
    assert len(curves["J"]) == len(curves["step"])

    studio.ask(f"studio/trainings/{first}/stop", b"")  # while it writes the report
    studio.until(lambda found: not found["my_wave"]["process"])
    assert studio.ask(f"studio/trainings/{first}/longer?minutes=0.1", b"")[1]["steps"] > steps
    studio.until(lambda found: found["my_wave"]["done"] > steps)
    studio.end()
    assert not (tmp_path / "library" / ".studio").exists()
    kept = json.loads((folder / "training.json").read_text())
    assert kept["state"] == "training"  # and goes on with the next studio


def test_a_process_that_has_said_all_may_take_its_time_to_end(tmp_path, monkeypatch):
    """Also one that made no step, since all were made before the studio was killed."""
    (tmp_path / "ends_slowly.py").write_text("import os, time\nos.close(1)\ntime.sleep(0.5)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("allaprima.serve.trainings.WORKER", "ends_slowly")

    async def train():
        line = Trainings(Library(tmp_path / "library"))
        training = line.add("first", b"painting", b"shown", 0.1, 64)
        working = asyncio.create_task(line.work())
        while training.state in ("waiting", "training"):
            await asyncio.sleep(0.02)
        working.cancel()
        return training

    training = asyncio.run(train())
    assert training.state == "done", training.about


def test_a_full_disk_does_not_end_the_line(tmp_path, monkeypatch):
    (tmp_path / "ends_at_once.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("allaprima.serve.trainings.WORKER", "ends_at_once")

    def full(path, text):
        raise AllaprimaError(f"{path} can't be written: no space is left.")

    async def train():
        line = Trainings(Library(tmp_path / "library"))
        training = line.add("first", b"painting", b"shown", 0.1, 64)
        with monkeypatch.context() as change:
            change.setattr("allaprima.serve.trainings.write_atomically", full)
            working = asyncio.create_task(line.work())
            while training.state in ("waiting", "training"):
                await asyncio.sleep(0.02)
        assert training.state == "failed" and "no space is left" in training.about
        line.go_on(training)
        while training.state in ("waiting", "training"):
            await asyncio.sleep(0.02)
        working.cancel()
        return training

    assert asyncio.run(train()).state == "done"


def test_a_process_whose_studio_is_gone_when_it_begins_writes_nothing(tmp_path):
    """The next studio may not know of it, and trains in the same folder."""
    line = Trainings(Library(tmp_path))
    folder = line.folder(line.add("first", STYLE.read_bytes(), b"shown", 0.01, 64))
    before = sorted(folder.iterdir())
    command = [sys.executable, "-m", WORKER, folder]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0 and sorted(folder.iterdir()) == before, done.stderr


def test_a_training_that_was_being_added_when_the_studio_was_killed_is_forgotten(tmp_path):
    line = Trainings(Library(tmp_path))
    kept = line.folder(line.add("kept", b"painting", b"shown", 0.1, 64))
    half, other = line.library.trainings / ("0" * 16), line.library.trainings / "notes"
    for folder in (half, other):
        folder.mkdir()
        (folder / "painting").write_bytes(b"painting")
    line.load()
    assert kept.exists() and other.exists() and not half.exists()


def test_what_can_not_be_trained_on_is_a_sentence(open_studio):
    studio = open_studio()
    for query, body, words in [
        ("name=x.jpg", b"nothing", "This file"),
        ("name=x.jpg&style_size=8", STYLE.read_bytes(), "style_size must be"),
        ("name=x.jpg&minutes=soon", STYLE.read_bytes(), "minutes must be a number"),
    ]:
        status, said = studio.ask(f"studio/trainings?{query}", body)
        assert status == 400 and words in said["error"], said
    assert studio.trainings() == {}
    for path in (
        "trainings/none/moment.onnx",
        "trainings/none/../../x",
        "photos/..%2f..%2frun.py",
        "photos/chelsea.jpg",
    ):
        assert studio.ask(f"studio/{path}")[0] == 404


def test_another_sites_page_is_not_answered(open_studio):
    studio = open_studio()
    assert studio.ask("studio/trainings?name=x", STYLE.read_bytes(), Origin="http://evil.example")[0] == 403
    assert studio.ask("studio/trainings", Host="evil.example")[0] == 400
    assert studio.ask("studio/trainings", Origin=studio.address[:-1])[0] == 200


def test_the_photos_that_are_shown_are_those_that_no_training_sees():
    from allaprima.train.settings import BUNDLED_HELD_OUT

    assert HELD_OUT == BUNDLED_HELD_OUT


@pytest.mark.parametrize(
    "name, stem",
    [
        ("The Wave (1831).jpg", "The_Wave_1831"),
        ("../../etc/passwd.png", "passwd"),
        ("C:\\Users\\me\\a.b.jpeg", "a_b"),
        ("波.png", "波"),
        ("...", "style"),
        ("", "style"),
        ("x" * 300 + ".jpg", "x" * 60),
    ],
)
def test_a_files_name_becomes_a_safe_one(name, stem):
    assert safe_stem(name, "style") == stem


def test_names_are_told_apart_where_a_file_system_does_not():
    assert free_name("Wave", ["wave", "WAVE-2"]) == "Wave-3"


def test_a_library_that_can_not_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AllaprimaError, match="file"):
        Library(tmp_path / "file" / "styles").claim()


def test_minutes_become_steps_by_the_rate_of_this_machine(tmp_path):
    trainings = Trainings(Library(tmp_path))
    first = trainings.add("a", b"painting", b"shown", 20, 512)
    assert first.steps == 0 and trainings.to_dict(first)["left"] == 1200  # its process measures the machine
    first.steps, first.done, first.rate = 4000, 4000, 5.0
    assert trainings.add("b", b"painting", b"shown", 20, 512).steps == 6000
    first.state = "done"
    trainings.go_on(first, 5)
    assert first.steps == 4000 + 1500
    with pytest.raises(AllaprimaError, match="minutes must be"):
        trainings.add("c", b"painting", b"shown", 0, 512)
