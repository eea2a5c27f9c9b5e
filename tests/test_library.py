"""Styles by name, and the `stylize` and `models` commands around them."""

import io

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import artifacts
from allaprima.commands.app import app
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Started, Warned, Wrote
from allaprima.infer import library
from allaprima.infer.jobs import stylize
from allaprima.infer.library import find_style, list_styles, live_styles
from allaprima.infer.stylizer import Stylizer
from conftest import PACKAGE, PHOTOS, make_model


@pytest.fixture
def styles(own_styles_folder, tmp_path, monkeypatch):
    """Two bundled styles, two of the user's own; `wave` is in both folders."""
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    monkeypatch.setattr(library, "BUNDLED", bundled)
    own = own_styles_folder
    for folder, name in ((bundled, "starry"), (bundled, "wave"), (own, "wave"), (own, "mine")):
        make_model(folder / f"{name}.onnx", name=name, credit=f"{name} by [i]Nobody[/i]")
    return own_styles_folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_names_files_and_who_comes_first(styles, tmp_path, monkeypatch):
    assert live_styles() == list_styles()
    assert [(style.name, style.where) for style in list_styles()] == [
        ("mine", "yours"),
        ("starry", "bundled"),
        ("wave", "yours"),
    ]
    assert find_style("wave") == styles / "wave.onnx" and find_style("starry") == tmp_path / "bundled" / "starry.onnx"
    assert find_style(styles / "mine.onnx") == styles / "mine.onnx"
    assert Stylizer("mine").name == "mine"
    monkeypatch.chdir(styles)
    assert find_style("mine.onnx").name == "mine.onnx"


def test_styles_for_pictures_are_not_taken_for_a_camera_unless_asked_for(styles, tmp_path):
    for folder, name in ((tmp_path / "bundled", "wave_best"), (styles, "mine_best")):
        make_model(folder / f"{name}.onnx", name=name)
    assert {style.name for style in list_styles()} - {style.name for style in live_styles()} == {"wave_best"}
    assert find_style("wave_best") == tmp_path / "bundled" / "wave_best.onnx"


@pytest.mark.parametrize(
    "name, says",
    [
        ("stary", "Did you mean 'starry'"),
        ("Wave", "Did you mean 'wave'"),
        ("zzz", "One of mine, starry, wave"),
        ("here", "Did you mean the file here.onnx"),
        ("no/such.onnx", "does not exist"),
        ("none.onnx", "does not exist"),
    ],
)
def test_what_is_not_there(styles, tmp_path, monkeypatch, name, says):
    make_model(tmp_path / "here.onnx")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AllaprimaError, match=says):
        find_style(name)


def test_no_styles_at_all(own_styles_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "BUNDLED", tmp_path)
    with pytest.raises(AllaprimaError, match="No style is installed"):
        find_style("wave")
    assert "No styles yet" in run("models").stderr and run("models").stdout == ""


def test_the_models_command_lists_all_and_survives_a_broken_one(styles):
    (styles / "broken.onnx").write_bytes((styles / "mine.onnx").read_bytes()[:1000])
    (styles / "notes.onnx").write_text("not a model")
    (styles / "gone.onnx").symlink_to("nowhere.onnx")
    (styles / "folder.onnx").mkdir()
    result = run("models")
    assert result.exit_code == 0
    lines = {line.split("\t")[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == {"starry", "wave", "mine", "broken", "notes", "gone", "folder"}
    assert "tiny" in lines["mine"] and "yours" in lines["mine"] and "MIT" in lines["mine"]
    assert "mine by [i]Nobody[/i]" in lines["mine"]
    assert "unreadable" in lines["broken"] and "cut short" in lines["broken"]
    assert "unreadable" in lines["notes"] and "not an ONNX file" in lines["notes"]
    assert "unreadable" in lines["gone"] and "gone.onnx does not exist" in lines["gone"]
    assert "unreadable" in lines["folder"] and "folder.onnx is a folder" in lines["folder"]


def test_the_models_command_shows_one(styles):
    result = run("models", "mine")
    assert result.exit_code == 0
    for word in ("architecture", "credit", "licence", "steps", "total", "a JPEG of", str(styles)[:20]):
        assert word in result.stdout


def test_a_name_beside_the_source(tmp_path, photo, styles):
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    result = run("stylize", tmp_path / "photo.jpg", "-m", "wave")
    assert result.exit_code == 0 and result.stdout.strip() == str(tmp_path / "photo-wave.jpg")
    assert np.asarray(Image.open(tmp_path / "photo-wave.jpg")).shape == photo.shape


def test_strength_on_the_command_line(tmp_path, photo, styles):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    assert run("stylize", tmp_path / "photo.png", "-m", "wave", "-s", "0", "-o", tmp_path / "out.png").exit_code == 0
    assert (np.asarray(Image.open(tmp_path / "out.png")) == photo).all()


@pytest.fixture
def album(tmp_path, photo):
    """A folder of pictures of several kinds, nested, and of other things."""
    folder = tmp_path / "album"
    (folder / "deep" / "er").mkdir(parents=True)
    small = Image.fromarray(photo).resize((60, 40))
    for name in ("a.jpg", "deep/b.PNG", "deep/er/c.webp", "deep/er/d.gif"):
        small.save(folder / name)
    (folder / "notes.txt").write_text("a note")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_structure(album, tmp_path, tiny_model, capfd):
    events = []
    written = stylize(album, tmp_path / "out", tiny_model, listener=events.append)
    assert names(tmp_path / "out") == ["a.jpg", "deep/b.PNG", "deep/er/c.webp", "deep/er/d.gif"]
    assert sorted(written) == sorted(tmp_path / "out" / name for name in names(tmp_path / "out"))
    assert events[0] == Warned("1 file is left out (neither pictures nor videos): notes.txt")
    assert events[1] == Started("pictures", 4, "files", f"Stylizing 4 files into {tmp_path / 'out'}.")
    assert [event.path for event in events if isinstance(event, Wrote)] == written
    assert Advanced("pictures", 4) in events and capfd.readouterr() == ("", "")


def test_a_folder_without_an_output_gets_one_beside_it(album, tiny_model):
    stylize(album, model=tiny_model)
    assert len(names(album.with_name("album-tiny"))) == 4 and len(names(album)) == 6


def test_an_output_inside_the_source_is_not_stylized_again(album, tiny_model):
    for _ in range(2):
        assert len(stylize(album, album / "out", tiny_model)) == 4
    assert len(names(album / "out")) == 4


def test_a_corrupt_file_does_not_stop_the_others(album, tmp_path, tiny_model):
    events = []
    (album / "broken.jpg").write_bytes((album / "a.jpg").read_bytes()[:300])
    (album / "empty.png").write_bytes(b"")
    with pytest.raises(AllaprimaError, match="2 of 6 files.*broken.jpg.*empty.png"):
        stylize(album, tmp_path / "out", tiny_model, listener=events.append)
    assert names(tmp_path / "out") == ["a.jpg", "deep/b.PNG", "deep/er/c.webp", "deep/er/d.gif"]
    told = " ".join(event.text for event in events if isinstance(event, Warned))
    assert "broken.jpg is damaged" in told and "empty.png is empty" in told


def test_several_sources(album, tmp_path, tiny_model):
    sources = [album / "a.jpg", album / "deep"]
    assert len(stylize(sources, tmp_path / "out", tiny_model)) == 4
    assert names(tmp_path / "out") == ["a.jpg", "b.PNG", "er/c.webp", "er/d.gif"]
    assert len(stylize([album / "a.jpg"], f"{tmp_path}/folder/", tiny_model)) == 1
    assert names(tmp_path / "folder") == ["a.jpg"]


def test_videos_in_a_folder_become_videos(album, tmp_path, tiny_model):
    from allaprima.media.clips import sample_frames
    from clips import panned, write_clip

    write_clip(album / "deep" / "clip.mp4", panned(6, 64, 48))
    write_clip(album / "old.avi", panned(6, 64, 48))
    (album / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(AllaprimaError, match="1 of 7 files.*broken.mp4"):
        stylize(album, tmp_path / "out", tiny_model)
    assert {"a.jpg", "deep/clip.mp4", "old.mp4"} < set(names(tmp_path / "out")) and len(names(tmp_path / "out")) == 6
    source, painted = (next(iter(sample_frames(path, 1))) for path in (album / "old.avi", tmp_path / "out" / "old.mp4"))
    assert np.abs(Stylizer(tiny_model)(source).astype(int) - painted).mean() < 20


def test_a_video_needs_a_video_for_its_output(album, tmp_path, tiny_model):
    from clips import panned, write_clip

    write_clip(tmp_path / "clip.mp4", panned(3, 64, 48))
    with pytest.raises(AllaprimaError, match="written as a video"):
        stylize(tmp_path / "clip.mp4", tmp_path / "out.jpg", tiny_model)
    assert stylize(tmp_path / "clip.mp4", model=tiny_model) == [tmp_path / "clip-tiny.mp4"]


BUNDLED_STYLES = sorted((PACKAGE / "infer" / "styles").glob("*.onnx"))


@pytest.mark.parametrize("path", BUNDLED_STYLES, ids=lambda path: path.stem)
def test_a_bundled_style_paints_without_a_grid_or_a_border(path):
    stylizer = Stylizer(path)
    assert stylizer.card.name == path.stem and stylizer.card.credit and stylizer.card.licence
    photo = np.asarray(Image.open(PHOTOS / "china.jpg").convert("RGB"))
    painted = stylizer(photo)
    assert np.abs(painted.astype(int) - photo).mean() > 20
    assert np.array_equal(stylizer(photo, strength=0), photo)

    assert max(artifacts.grid(painted).values()) < 3
    level, deviation = artifacts.border(painted)
    assert abs(level) < 12 and 0.6 < deviation < 1.6
    assert artifacts.dots(painted) < 50 and artifacts.boil(stylizer, photo) < 2


def test_the_bundled_styles_are_small_and_can_be_shown():
    assert sum(path.stat().st_size for path in BUNDLED_STYLES if "_best" not in path.stem) < 10e6
    for path in BUNDLED_STYLES:
        picture = Image.open(io.BytesIO(Stylizer(path).card.thumbnail)).convert("RGB")
        assert max(picture.size) == 160 and np.asarray(picture).std() > 15
        assert path.name in (path.parent / "CREDITS.md").read_text()


def test_the_measures_see_what_they_are_for():
    photo = np.asarray(Image.open(PHOTOS / "astronaut.jpg").convert("RGB"))
    assert (
        max(artifacts.grid(photo).values()) < 3
        and artifacts.dots(photo) < 50
        and artifacts.boil(lambda x: x, photo) == 1
    )
    for period in (2, 4, 8):
        columns = photo.astype(int)
        columns[:, ::period] += 30
        peaks = artifacts.grid(columns.clip(0, 255).astype(np.uint8))
        assert peaks[period] > 10
    dotted = photo.copy()
    dotted[5::40, 5::40] = 255 - dotted[5::40, 5::40] // 4
    assert artifacts.dots(dotted) > 100
    framed = photo.copy()
    framed[:16] //= 4
    framed[-16:] //= 4
    level, deviation = artifacts.border(framed)
    assert level < -15
