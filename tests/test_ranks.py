"""A training in several processes, by Gloo: their shares of a batch, the same numbers in all, a process that dies."""

from multiprocessing import active_children

import pytest
import torch
from PIL import Image

from allaprima.commands import crews
from allaprima.commands.crews import Job, make_jobs, train_apart
from allaprima.core.events import Advanced, Warned, ignore
from allaprima.train import run, trainer
from allaprima.train.checkpoint import checkpoint_of
from allaprima.train.settings import change
from allaprima.train.trainer import Trainer
from training import SMALL, SMALL_OPTIONS, STYLE, run_cli, weights

pytestmark = pytest.mark.usefixtures("one_thread")
WORK = crews._work
KEPT = 10  # steps between two checkpoints

# Both optimizers divide gradients by their size: at the rate of a real training, a rounding in a sum of two halves is soon
# another network, as on another machine. SOAP begins with a basis that such a rounding turns; so this is Adam. The loss
# network ends after four convolutions: it is the processes that are looked at.
QUICK = change(SMALL, {"steps": 24, "snapshots": True, "style_layers": "relu1_2"})
EVEN = change(QUICK, {"optimizer": "adam", "learning_rate": 2e-5, "warmup": 0})


def in_float32(*arguments):
    """The life of a process of a crew, all in float32."""
    run.KEEP_EVERY = KEPT
    trainer.fast_dtype = lambda device: torch.float32
    WORK(*arguments)


def train_by_two(output, listener=ignore):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crews, "_work", in_float32)
        assert train_apart([Job(STYLE, output, EVEN, report=False)], [["cpu", "cpu"]], listener, lambda: False)
    assert not active_children()
    return output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A training by two processes."""
    return train_by_two(tmp_path_factory.mktemp("ranks") / "x.onnx")


def test_two_processes_with_half_a_batch_are_one_with_the_whole(undisturbed, monkeypatch):
    monkeypatch.setattr(trainer, "fast_dtype", lambda device: torch.float32)
    whole = Trainer(STYLE, EVEN, "cpu")
    begun = [parameter.detach().clone() for parameter in whole.network.parameters()]
    for _ in range(15):
        whole.step()
    found = weights(checkpoint_of(undisturbed).with_name("snapshot-000015.safetensors"))
    for name, parameter in whole.network.named_parameters():
        assert (parameter - found[name]).abs().max() < 1e-5, name
    assert min((now - old).abs().max() for now, old in zip(whole.network.parameters(), begun, strict=True)) > 1e-4
    for name, average in whole.network.named_buffers():
        if "running" in name:
            torch.testing.assert_close(average, found[name], rtol=1e-3, atol=1e-4)
    costs = weights(checkpoint_of(undisturbed))["history"][:15]
    torch.testing.assert_close(whole.state()[0]["history"], costs, rtol=1e-3, atol=0)


def test_a_crew_goes_on_when_a_process_is_killed(undisturbed, tmp_path):
    """Between two checkpoints: the same network, to the last bit. So the other process had what the first one wrote."""
    told = []

    def listen(event):
        told.append(event)
        if isinstance(event, Advanced) and event.done == 15 and not deaths():
            active_children()[-1].kill()

    def deaths():
        return [event.text for event in told if isinstance(event, Warned)]

    output = train_by_two(tmp_path / "x.onnx", listen)
    assert len(deaths()) == 1 and "died (" in deaths()[0]
    done = [event.done for event in told if isinstance(event, Advanced)]
    assert done[:15] == [*range(1, 16)] and done[-14:] == [*range(11, 25)]
    wanted, found = weights(checkpoint_of(undisturbed)), weights(checkpoint_of(output))
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[key], found[key]) for key in wanted)


def test_several_paintings_are_trained_by_a_few_processes(tmp_path, monkeypatch, capsys):
    """Three by two. Afterwards nothing is replaced unasked, and --resume does what is missing."""
    monkeypatch.setattr("allaprima.commands.train.crews_for", lambda *_: [["cpu"], ["cpu"]])
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        Image.open(STYLE).rotate(90 * number).save(tmp_path / str(number) / "starry.png")
    paintings, styles = sorted(tmp_path.glob("?/*.png")), tmp_path / "styles"
    arguments = ["train", *paintings, "-o", styles, "--steps", 2, *SMALL_OPTIONS]
    code, said = run_cli(monkeypatch, capsys, *arguments)
    names = ["starry-2.onnx", "starry-3.onnx", "starry.onnx"]
    assert code == 0 and sorted(path.name for path in styles.glob("*.onnx")) == names and said.count("Wrote ") == 3
    assert len({path.read_bytes() for path in styles.glob("*.onnx")}) == 3 and not active_children()

    code, said = run_cli(monkeypatch, capsys, *arguments)
    assert code == 2 and "starry.onnx exists already: add --resume" in said
    code, said = run_cli(monkeypatch, capsys, *arguments, "--resume")
    assert code == 0 and "All of them are trained already" in said
    (styles / "starry-2.onnx").unlink()
    (job,) = make_jobs(paintings, styles, SMALL, {"steps": 2}, True, about={"name": ""}, report=False)
    assert job.style == paintings[1] and job.output == styles / "starry-2.onnx" and job.resume
    about = {"name": None, "painting": False}  # what none of the model files says
    assert len(make_jobs(paintings, styles, SMALL, {"steps": 2}, True, about=about, report=False)) == 3
    (job,) = make_jobs(paintings[:1], styles, SMALL, {"steps": 3}, True, about={"name": ""}, report=False)
    assert job.output == styles / "starry.onnx" and job.changes == {"steps": 3}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["a.png", "--gpus", 2], "This machine has no GPU that torch can use, and --gpus asks for 2: leave it out."),
        (["a.png", "--gpus", 2, "--device", "cpu"], "--gpus and --device exclude each other"),
        (["a.png", "--gpus", 0], "gpus must be a whole number of at least 1, not 0"),
        (
            ["a.png", "b.png", "-o", "x.onnx"],
            "x.onnx is the name of one file, and there are 2 paintings: give a folder.",
        ),
        (["a.png", "b.png", "--name", "x"], "--name is for one style"),
        (["a.png", "missing.png"], "missing.png does not exist"),
        (["a.png", "b.png", "-o", "a.png"], "a.png"),
    ],
)
def test_what_can_not_be_trained_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    """Before anything is begun. This machine is taken for one without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in ("a.png", "b.png"):
        Image.open(STYLE).resize((64, 48)).save(name)
    code, said = run_cli(monkeypatch, capsys, "train", *arguments)
    assert code == 2 and words in said and "Traceback" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}
