"""Archives painted by many workers: the same results, once each, whatever the workers are and whenever they end."""

import json
import multiprocessing
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

import clips
from allaprima.commands.app import app
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned, Wrote
from allaprima.core.files import is_ours
from allaprima.infer.cluster import FOLDER, stylize_archive
from allaprima.infer.jobs import stylize
from memory import PEAK

ANEW = Controls(steady=False)  # each frame: then a video can be cut into parts

fsspec = pytest.importorskip("fsspec")


def archive(folder, pictures=3, frames=130):
    """A folder with pictures, one of them deeper, a video that is cut in five, and a text."""
    (folder / "deep").mkdir(parents=True)
    for number in range(pictures):
        Image.new("RGB", (40, 30), (80 * number % 256, 120, 40)).save(folder / f"{number}.png")
    (folder / "0.png").rename(folder / "deep" / "0.png")
    clips.write_clip(folder / "clip.mp4", clips.panned(frames, 64, 48), sound=[("aac", 48000, "stereo")])
    (folder / "notes.txt").write_text("notes")
    return folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def results(folder):
    return [name for name in names(folder) if not name.startswith(FOLDER)]


def lines(folder):
    """What the manifest says, but for its first line, which is of the work."""
    pieces = sorted((folder / FOLDER).glob("manifest-*"))
    return [json.loads(line) for piece in pieces for line in piece.read_text().splitlines()][1:]


def painted(source, output, model, **how):
    return stylize_archive(source, output, model, seconds=1, **{"workers": 1} | how)


def test_an_archive_is_what_stylize_makes_of_it(tmp_path, tiny_model):
    source, told = archive(tmp_path / "in"), []
    written = painted(source, tmp_path / "out", tiny_model, listener=told.append)
    stylize(source, tmp_path / "expected", tiny_model)
    assert results(tmp_path / "out") == names(tmp_path / "expected") == ["1.png", "2.png", "clip.mp4", "deep/0.png"]
    assert written == [str(event.path) for event in told if isinstance(event, Wrote)] and len(written) == 4
    for name in ("1.png", "deep/0.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert [event.text for event in told if isinstance(event, Warned)] == [
        "1 file is left out (neither pictures nor videos): notes.txt"
    ]
    assert {line["target"]: line["frames"] for line in lines(tmp_path / "out")} == {
        str(tmp_path / "out" / name): 130 if name == "clip.mp4" else 1 for name in results(tmp_path / "out")
    }


def test_processes_paint_the_same_and_nothing_is_left_behind(tmp_path, tiny_model):
    source = archive(tmp_path / "in")
    painted(source, tmp_path / "one", tiny_model)
    painted(source, tmp_path / "two", tiny_model, workers=2)
    assert {name: (tmp_path / "one" / name).read_bytes() for name in results(tmp_path / "one")} == {
        name: (tmp_path / "two" / name).read_bytes() for name in results(tmp_path / "two")
    }
    assert len({line["worker"] for line in lines(tmp_path / "two")}) == 2
    assert names(tmp_path / "two") == [f"{FOLDER}/manifest-000001.jsonl", *results(tmp_path / "one")]


def test_a_run_that_ends_early_goes_on_and_does_nothing_twice(tmp_path, tiny_model):
    source, out = archive(tmp_path / "in"), tmp_path / "out"

    class Stop(BaseException):
        pass

    def stop_in_the_video(event):
        if len(list(out.glob(f"{FOLDER}/parts/*/*.mp4"))) == 2:
            raise Stop

    with pytest.raises(Stop):
        painted(source, out, tiny_model, strength=ANEW, listener=stop_in_the_video)
    before = {path: path.stat() for path in out.rglob("*.*") if "manifest" not in path.name and path.is_file()}
    assert len(before) == 4 and not (out / "clip.mp4").exists()  # two pictures, two parts
    told = []
    written = painted(source, out, tiny_model, strength=ANEW, listener=told.append)
    assert sorted(written) == [str(out / name) for name in ("clip.mp4", "deep/0.png")]
    assert f"2 of 4 files are done already, as {out / FOLDER} says." in [e.text for e in told if isinstance(e, Warned)]
    for path, status in before.items():
        if "parts" not in str(path):
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert painted(source, out, tiny_model, strength=ANEW) == []
    painted(source, tmp_path / "undisturbed", tiny_model, strength=ANEW)
    assert (out / "clip.mp4").read_bytes() == (tmp_path / "undisturbed" / "clip.mp4").read_bytes()


def test_results_of_other_work_are_replaced_and_other_files_are_not(tmp_path, tiny_model):
    source, out = archive(tmp_path / "in"), tmp_path / "out"
    painted(source, out, tiny_model)
    first = (out / "1.png").read_bytes()
    assert len(painted(source, out, tiny_model, strength=0.5)) == 4 and (out / "1.png").read_bytes() != first
    assert len([line for line in lines(out) if "replaces" in line]) == 4
    assert painted(source, out, tiny_model, strength=0.5) == []
    (tmp_path / "theirs").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "theirs" / "1.png")
    with pytest.raises(AllaprimaError, match="1.png already exists"):
        painted(source, tmp_path / "theirs", tiny_model)
    assert results(tmp_path / "theirs") == ["1.png"] and not is_ours(tmp_path / "theirs" / "1.png")


def test_paths_are_those_of_the_program_and_not_of_the_worker(tmp_path, tiny_model, monkeypatch):
    archive(tmp_path / "in", frames=5)
    monkeypatch.chdir(tmp_path)
    assert painted("in", "out", tiny_model)[0] == str(tmp_path / "out" / "1.png")


def test_a_worker_that_is_killed_loses_nothing(tmp_path, tiny_model):
    """Its file is given to another one; the process that paints is ended while it does."""
    source, out, told = archive(tmp_path / "in", pictures=8), tmp_path / "out", []

    def listener(event):
        told.append(event)
        written = [e for e in told if isinstance(e, Wrote)]
        if isinstance(event, Wrote) and len(written) == 2:
            multiprocessing.active_children()[-1].kill()

    painted(source, out, tiny_model, workers=2, listener=listener)
    assert any(isinstance(e, Warned) and "A worker was lost" in e.text for e in told)
    assert len(results(out)) == 9 and len([e for e in told if isinstance(e, Wrote)]) == 9
    assert len(lines(out)) == 9


def test_what_can_not_be_read_is_named_and_the_rest_is_done(tmp_path, tiny_model):
    source = archive(tmp_path / "in")
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(
        AllaprimaError, match="1 of 5 files could not be stylized: .*broken.jpg. All others are written"
    ):
        painted(source, tmp_path / "out", tiny_model)
    assert len(results(tmp_path / "out")) == 4


def test_with_steady_strokes_a_video_is_not_cut(tmp_path, tiny_model):
    """Each frame needs the one before: the result is that of one machine."""
    source = archive(tmp_path / "in", pictures=1)
    painted(source / "clip.mp4", tmp_path / "out", tiny_model, strength=Controls())
    stylize(source / "clip.mp4", tmp_path / "one.mp4", tiny_model)
    (found, times), (expected, expected_times) = (
        clips.decoded(tmp_path / "out/clip.mp4"),
        clips.decoded(tmp_path / "one.mp4"),
    )
    assert times == expected_times and all(np.array_equal(a, b) for a, b in zip(found, expected))


@pytest.fixture
def memory():
    """fsspec's file system in memory, which is one for the whole process: emptied afterwards."""
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_from_one_store_to_another(tmp_path, tiny_model, memory):
    source = archive(tmp_path / "in")
    memory.put(str(source), "/films", recursive=True)
    memory.pipe("/films/.hidden.png", b"x")
    written = painted("memory://films", "memory://painted/here", tiny_model)
    painted(source, f"file://{tmp_path / 'out'}", tiny_model)
    assert sorted(written) == [f"memory://painted/here/{name}" for name in results(tmp_path / "out")]
    for name in results(tmp_path / "out"):
        assert memory.cat(f"/painted/here/{name}") == (tmp_path / "out" / name).read_bytes()
    assert painted("memory://films/", "memory://painted/here/", tiny_model) == []
    with pytest.raises(AllaprimaError, match="no manifest says that this work wrote them"):
        painted("memory://films", "memory://painted/here", tiny_model, strength=0.5)
    assert len(painted("memory://films", "memory://painted/here", tiny_model, strength=0.5, overwrite=True)) == 4
    assert not [name for name in memory.find("/painted") if "parts" in name or name.endswith("allaprima-")]


def test_from_a_store_into_a_folder_and_back(tmp_path, tiny_model, memory):
    source = archive(tmp_path / "in")
    memory.put(str(source), "/films", recursive=True)
    memory.pipe("/films/../../escaped.png", memory.cat("/films/1.png"))
    painted("memory://films", tmp_path / "down", tiny_model)
    painted(source, "memory://up", tiny_model)
    assert results(tmp_path / "down") == ["1.png", "2.png", "clip.mp4", "deep/0.png"]
    assert not list(tmp_path.rglob("escaped*")) and memory.cat("/up/deep/0.png")
    assert painted("memory://films/clip.mp4", tmp_path / "single", tiny_model) == [str(tmp_path / "single/clip.mp4")]
    with av.open(str(tmp_path / "single/clip.mp4")) as clip:
        assert clip.streams.video[0].frames == 130


@pytest.mark.parametrize(
    "source, says",
    [("memory://nothing", "no picture and no video"), ("nosuch://bucket/x.png", "nosuch://bucket/x.png can't be used")],
)
def test_addresses_that_lead_nowhere_are_a_sentence(tmp_path, tiny_model, memory, source, says):
    with pytest.raises(AllaprimaError, match=says):
        painted(source, tmp_path / "out", tiny_model)


RUN = (
    PEAK
    + """
import sys
from allaprima.infer.cluster import stylize_archive
stylize_archive(sys.argv[1], sys.argv[2], sys.argv[3], workers=1, seconds=1)
print(round(peak_megabytes()))
"""
)


def test_the_memory_of_a_worker_does_not_grow_with_the_length(tmp_path, tiny_model):
    def peak(count):  # MB
        source = clips.write_clip(tmp_path / f"{count}.mp4", clips.panned(count, 320, 240), preset="ultrafast")
        command = [sys.executable, "-c", RUN, source, tmp_path / f"out-{count}", tiny_model]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak(600) - peak(200) < 60  # 400 frames more are 92 MB of RGB


@pytest.mark.parametrize("workers", [0, 1025, 10**9, True])
def test_a_number_of_workers_that_no_machine_has_is_refused(tmp_path, tiny_model, workers):
    with pytest.raises(AllaprimaError, match="workers must be a whole number from 1 to 1024"):
        painted(archive(tmp_path / "in", frames=5), tmp_path / "out", tiny_model, workers=workers)


def test_on_the_command_line(tmp_path, tiny_model):
    from typer.testing import CliRunner

    source = archive(tmp_path / "in", frames=5)
    command = ["stylize", str(source), "-m", str(tiny_model), "--workers", "1"]
    said = CliRunner().invoke(app, command)
    assert isinstance(said.exception, AllaprimaError) and "a folder with --output" in str(said.exception)
    said = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out")])
    assert said.exit_code == 0 and sorted(said.stdout.split()) == [
        str(tmp_path / "out" / n) for n in results(tmp_path / "out")
    ]
