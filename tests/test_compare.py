"""The comparison: which iteration of the optimizer a picture is worth, the table, the contact sheet, bad input."""

import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from allaprima.baseline import compare as compare_module
from allaprima.baseline.compare import compare, compare_photos, contact_sheet
from allaprima.baseline.optimizer import Descent, optimize
from allaprima.commands import baseline as commands
from allaprima.core.contract import Card
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Started, Warned, Wrote
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import to_jpeg
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective, PerceptualLoss
from allaprima.models.tensors import read_style, to_image, to_tensor
from baseline_cases import GOAL, bundled
from conftest import PHOTOS, ROOT, make_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def photo():
    return bundled("chelsea.jpg")


@pytest.fixture(scope="module")
def painting():
    return PHOTOS / "brushes.jpg"


@pytest.fixture(scope="module")
def loss():
    return PerceptualLoss(LossNetwork(), GOAL)


@pytest.fixture(scope="module")
def style_targets(loss, painting):
    return loss.style_targets(read_style(painting, 72))


@pytest.fixture(scope="module")
def long_run(photo, painting, loss):
    """The optimizer's picture after 4 iterations, after 25, and its trace."""
    style, pictures = (read_style(painting, 72)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), {}

    def each(step, picture):
        pictures[step.iteration] = (picture[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    trace = optimize(
        photo,
        style,
        GOAL,
        network=loss.network,
        balanced=False,
        style_size=72,
        descent=Descent(iterations=25),
        each=each,
    ).trace
    return pictures[4], pictures[25], trace


def test_the_optimizers_own_picture_is_worth_its_iteration(photo, loss, style_targets, long_run):
    fourth, _, trace = long_run
    (row,) = compare_photos(lambda image: fourth, [photo], loss, style_targets, iterations=8)
    assert row.equivalent_iteration in (4, 5)  # rounded to 8 bits it is a little worse or better
    assert row.equivalent_evaluations == trace[row.equivalent_iteration].evaluations
    assert row.equivalent_text == str(row.equivalent_iteration)
    assert row.trace[row.equivalent_iteration].J <= row.network_costs["J"] < row.trace[row.equivalent_iteration - 1].J
    assert [step.iteration for step in row.trace] == list(range(9))
    assert row.finished_costs["J"] == row.trace[-1].J < row.network_costs["J"]
    assert 0 < row.equivalent_seconds == row.trace[row.equivalent_iteration].seconds < row.optimizer_seconds
    assert row.times_faster == row.equivalent_seconds / row.network_seconds


def test_costs_are_those_of_the_pictures(photo, loss, style_targets, long_run):
    (row,) = compare_photos(lambda image: long_run[0], [photo], loss, style_targets, iterations=6)
    targets = loss.content_targets(to_tensor(photo)), style_targets
    for picture, costs in (
        (row.network, row.network_costs),
        (row.finished, row.finished_costs),
        (row.at_equivalent, vars(row.trace[row.equivalent_iteration])),
    ):
        expected = loss(to_tensor(picture), *targets)
        for name in ("J", "content", "content_as_written", "style"):
            assert costs[name] == pytest.approx(getattr(expected, name).item(), rel=0.03), name
    assert np.array_equal(row.photo, photo) and np.array_equal(row.network, long_run[0])


def test_a_picture_no_better_than_the_photo_is_worth_nothing(photo, loss, style_targets):
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, dtype=np.uint8)
    for stylize in (lambda image: image, lambda image: noise):
        (row,) = compare_photos(stylize, [photo], loss, style_targets, iterations=1)
        assert (row.equivalent_iteration, row.equivalent_evaluations, row.equivalent_text) == (0, 1, "0")
        assert np.array_equal(row.at_equivalent, photo)


def test_a_picture_that_the_optimizer_does_not_reach(photo, loss, style_targets, long_run):
    (row,) = compare_photos(lambda image: long_run[1], [photo], loss, style_targets, iterations=3)
    assert row.equivalent_iteration is None is row.equivalent_evaluations
    assert row.equivalent_text == "more than 3"
    assert np.array_equal(row.at_equivalent, row.finished)
    assert row.equivalent_seconds == row.optimizer_seconds


def test_a_pass_is_timed_warm(photo, loss, style_targets):
    """The first call, which may load and compile, is not in it."""
    calls = []

    def stylize(image):
        time.sleep(0.02 if calls else 2)
        calls.append(1)
        return image

    (row,) = compare_photos(stylize, [photo], loss, style_targets, iterations=0)
    assert 0.02 <= row.network_seconds < 2 and len(calls) > 2


def test_progress_counts_photos_and_iterations(photo, loss, style_targets):
    seen = []
    rows = compare_photos(
        lambda image: image,
        [photo, photo[:48]],
        loss,
        style_targets,
        2,
        lambda number, step: seen.append((number, step.iteration)),
    )
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [row.photo.shape for row in rows] == [photo.shape, photo[:48].shape]


def test_the_contact_sheet_shows_all_four_pictures(photo, loss, style_targets, long_run):
    rows = compare_photos(lambda image: 255 - image, [photo, photo[:, :40]], loss, style_targets, iterations=2)
    rows += compare_photos(lambda image: long_run[1], [photo], loss, style_targets, iterations=2)
    sheet = contact_sheet(["a.jpg", "b.jpg", "c.jpg"], rows)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3
    for row in rows:
        for picture in (row.photo, row.network, row.at_equivalent, row.finished):
            assert holds(sheet, picture)
    assert (sheet[12:52, 12:90] < 128).any()  # the label above the first


def holds(sheet, picture):
    height, width = picture.shape[:2]
    corners = np.argwhere((sheet[: len(sheet) - height + 1, : sheet.shape[1] - width + 1] == picture[0, 0]).all(2))
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in corners)


# The command


@pytest.fixture
def files(tmp_path, photo, painting):
    """Two photos, and a model that remembers how it was trained."""
    Image.fromarray(photo).save(tmp_path / "one.png")
    Image.fromarray(photo[:, ::-1]).save(tmp_path / "two.png")
    settings = {
        "style_size": 72,
        "loss_network": "vgg16_oxford",
        "pooling": "avg",
        "size": 64,
    }
    seen = to_jpeg(to_image(read_style(painting, 72)))
    make_model(tmp_path / "model.onnx", settings=settings, objective=GOAL.to_dict(), painting=seen)
    return tmp_path


def run(*arguments):
    app = Typer()
    app.command()(commands.compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def test_the_command_prints_a_table_and_writes_the_picture(files, photo):
    result = run(
        files / "one.png", files / "two.png", "-m", files / "model.onnx", "-o", files / "sheet.png", "--iterations", 3
    )
    assert result.exit_code == 0, result.output
    explained = "J = alpha * content cost", "Equivalent iteration: the first"
    for word in (
        "one.png",
        "two.png",
        "network",
        "optimizer 3",
        "as written",
        "seconds",
        "one pass is worth",
        *explained,
    ):
        assert word in result.output
    sheet = np.asarray(Image.open(files / "sheet.png"))
    assert holds(sheet, photo) and holds(sheet, photo[:, ::-1])


def test_J_is_that_of_the_models_training(files, painting, monkeypatch):
    """Objective, pooling and the painting's size come from the model file; --style takes the place of its painting."""
    seen = []
    real = compare_module.compare_photos
    monkeypatch.setattr(
        compare_module,
        "compare_photos",
        lambda stylize, photos, loss, targets, *rest: (
            seen.append((loss, targets)) or real(stylize, photos, loss, targets, *rest)
        ),
    )
    compare(files / "model.onnx", [files / "one.png"], iterations=1)
    (loss, targets), expected = seen[0], PerceptualLoss(LossNetwork(pooling="avg"), GOAL)
    assert loss.objective == GOAL and loss.network.pooling == "avg"
    for layer, gram in expected.style_targets(read_style(painting, 72)).items():
        assert (targets[layer].cpu() - gram).norm() < 0.02 * gram.norm()
    compare(files / "model.onnx", [files / "one.png"], PHOTOS / "sunset.jpg", iterations=1)
    assert (seen[1][1]["relu1_2"] - targets["relu1_2"]).norm() > 0.1 * targets["relu1_2"].norm()


def test_gram_matrices_serve_where_the_painting_is_not_in_the_file(files, painting):
    """No --style, and no painting anywhere: the same costs but for a JPEG's rounding and that of the matrices."""
    card = Stylizer(files / "model.onnx").card
    loss = PerceptualLoss(LossNetwork(pooling="avg"), GOAL)
    grams = {layer: gram[0].numpy() for layer, gram in loss.style_targets(read_style(painting, 72)).items()}
    make_model(files / "grams.onnx", settings=card.settings, objective=card.objective, grams=grams)
    one, other = (compare(files / name, [files / "one.png"], iterations=1)[0] for name in ("model.onnx", "grams.onnx"))
    assert other.network_costs["style"] == pytest.approx(one.network_costs["style"], rel=0.03)
    assert other.network_costs["content"] == pytest.approx(one.network_costs["content"], rel=0.03)


def test_total_variation_is_told_where_it_is_a_part_of_J(files, monkeypatch):
    card = Stylizer(files / "model.onnx").card
    make_model(
        files / "smooth.onnx", settings=card.settings, objective=card.objective | {"tv": 1e3}, painting=card.painting
    )
    plain, smooth = (
        run(files / "one.png", "-m", files / name, "--iterations", 1).output for name in ("model.onnx", "smooth.onnx")
    )
    assert " tv " not in plain and "beta * style cost: the number" in plain
    assert " tv " in smooth and "beta * style cost + tv * total variation: the number" in smooth


def test_a_model_without_style_needs_no_painting(files):
    """Where it was trained with no style layers, its file holds neither a painting nor Gram matrices."""
    make_model(files / "content.onnx", settings={}, objective=Objective({"relu2_2": 1e-4}, {}).to_dict())
    (row,) = compare(files / "content.onnx", [files / "one.png"], iterations=1)
    assert row.network_costs["style"] == 0 < row.network_costs["J"]


def test_all_photos_are_looked_at_before_the_first_is_compared(files, monkeypatch):
    monkeypatch.setattr(compare_module, "compare_photos", lambda *rest: pytest.fail("the first was compared"))
    Image.new("RGB", (40, 1)).save(files / "thin.png")
    with pytest.raises(AllaprimaError, match="thin.png of 40x1 is too small for relu2_2: give one of at least 2x2"):
        compare(files / "model.onnx", [files / "one.png", files / "thin.png"], output=files / "sheet.png")
    assert not (files / "sheet.png").exists()


def test_a_model_that_does_not_say_gets_balanced_default_weights(files, tiny_model):
    events = []
    (row,) = compare(tiny_model, [files / "one.png"], PHOTOS / "brushes.jpg", iterations=1, listener=events.append)
    assert "default layers" in next(event.text for event in events if isinstance(event, Warned))
    assert 0.1 < row.trace[0].style < 10


def test_a_strangers_gram_matrices_are_those_of_the_layers(files):
    objective, grams = Objective(style={"relu1_2": 1.0}), {"relu1_2": np.eye(3, dtype=np.float32)}
    card = Card(objective=objective.to_dict(), grams=grams)
    with pytest.raises(AllaprimaError, match="Gram matrix in the model file is not one of relu1_2: give the painting"):
        compare_module.training_loss(card)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"settings": {"style_size": 10**6}}, "style_size must be a whole number from 64 to 4096, not 1000000."),
        ({"settings": {"loss_network": ["x"]}}, "loss_network must be"),
        ({"objective": {"unknown": 1}}, "The objective in the model file can't be read"),
        ({"objective": {"beta": -1}}, "The objective in the model file can't be read"),
    ],
)
def test_what_a_strangers_card_says_is_checked(files, change, sentence):
    card = Stylizer(files / "model.onnx").card
    with pytest.raises(AllaprimaError, match=sentence):
        compare_module.training_loss(replace(card, **change), PHOTOS / "brushes.jpg")


def test_photos_are_scaled_down(files):
    (row,) = compare(files / "model.onnx", [files / "one.png"], size=48, iterations=1)
    assert max(row.photo.shape) == 48 and row.network.shape == row.photo.shape


def test_it_reports_by_events_and_prints_nothing(files, capfd):
    events, photos = [], [files / "one.png", files / "two.png"]
    rows = compare(files / "model.onnx", photos, iterations=1, output=files / "sheet.png", listener=events.append)
    assert isinstance(events[0], Started) and events[0].total == 2 and "sheet.png" in events[0].about
    assert [event.done for event in events if isinstance(event, Advanced)] == [0, 1, 1, 2]
    assert events[-1].path == files / "sheet.png" and isinstance(events[-1], Wrote)
    assert len(rows) == 2 and capfd.readouterr() == ("", "")


def test_ctrl_c_returns_the_photos_that_are_done(files, photo, monkeypatch):
    real = compare_module.compare_photos

    def interrupted(stylize, photos, *rest):
        if np.array_equal(photos[0], photo):
            return real(stylize, photos, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_module, "compare_photos", interrupted)
    photos = [files / "one.png", files / "two.png"]
    events = []
    sheet = {"output": files / "sheet.png", "listener": events.append}
    assert len(compare(files / "model.onnx", photos, iterations=1, **sheet)) == 1
    assert Warned("Stopped after 1 of 2 photos.") in events
    assert holds(np.asarray(Image.open(files / "sheet.png")), photo)
    with pytest.raises(KeyboardInterrupt):
        compare(files / "model.onnx", photos[1:], iterations=1, output=files / "none.png")
    assert not (files / "none.png").exists()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere.png", "-m", "model.onnx"], "nowhere.png does not exist"),
        (["one.png", "-m", "nowhere.onnx"], "nowhere"),
        (["one.png", "-m", "one.png"], "not an ONNX file"),
        (["one.png", "-m", "model.onnx", "-o", "sheet.txt"], "ending of a picture"),
        (
            ["one.png", "-m", "model.onnx", "--iterations", "0"],
            "iterations must be a whole number of at least 1, not 0",
        ),
        (["one.png", "-m", "model.onnx", "--style", "nowhere.png"], "nowhere.png does not exist"),
        (["one.png", "-m", "model.onnx", "-o", "one.png", "--overwrite"], "one.png is an input"),
        (["one.png", "-m", "model.onnx", "-o", "two.png"], "two.png already exists"),
        (["one.png", "-m", "model.onnx", "-o", "sheet.png/"], "sheet.png/ is a folder"),
        (["one.png", "-m", "silent.onnx"], "does not hold its painting: give it with --style"),
        (["one.png", "-m", ROOT / "tests" / "format1.onnx"], "does not hold its painting: give it with --style"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, sentence, files, monkeypatch):
    make_model(files / "silent.onnx")
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    result = run(*arguments)
    assert isinstance(result.exception, AllaprimaError) and sentence in str(result.exception)
    assert "\n" not in str(result.exception) and sorted(files.rglob("*")) == before


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"photos": 3}, "photos must be paths"),
        ({"photos": [np.zeros((20, 20, 3), np.uint8)]}, "photos must be paths, not ndarray"),
        ({"photos": []}, "photos is empty: give at least one path"),
        ({"size": "384"}, "size must be a whole number of at least 1, not '384'"),
        ({"iterations": 1.5}, "iterations must be a whole number of at least 1, not 1.5"),
        ({"style": 3}, "style must be a path, not int"),
        ({"output": 3}, "output must be a path, not int"),
    ],
)
def test_arguments_of_a_wrong_type_are_one_sentence(change, sentence, files):
    arguments = {"model": files / "model.onnx", "photos": [files / "one.png"], "iterations": 1} | change
    with pytest.raises(AllaprimaError, match=sentence):
        compare(**arguments)
