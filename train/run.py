"""A training from the painting to the model file: `train_style`, which is `begin`, `run` and `write_model` in a row."""

import os
import time
from bisect import bisect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from allaprima.core.checks import check_file, check_kind, check_model_name, check_path, check_switch
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Warned, Wrote, ignore
from allaprima.core.files import atomic, check_output
from allaprima.media.paintings import faults
from allaprima.media.pictures import read_rgb
from allaprima.models.devices import check_device
from allaprima.models.export import export
from allaprima.models.tensors import to_image, to_tensor
from allaprima.train import ranks
from allaprima.train.card import make_card
from allaprima.train.checkpoint import checkpoint_of, damaged, read_checkpoint, snapshot_steps, write_checkpoint
from allaprima.train.photos import Batches
from allaprima.train.schedule import planned
from allaprima.train.settings import Settings, change, make_settings
from allaprima.train.trainer import Diverged, Trainer

TASK = "training"
# Steps of the short trainings by which a long one is planned: of the first, and of the others. A GPU needs many: the first ten
# turn the bases of SOAP, which takes it as long as a step.
PROBES, GPU_PROBES = (2, 16), (160, 160)
KEEP_EVERY = 50  # steps between checkpoints; after a divergence or a kill at most so many are done again
ROLLBACKS = 5  # divergences after which a training is given up


class Stopped(Exception):
    """A training was asked to stop. step: how many are done; checkpoint: the file that they are saved in."""

    def __init__(self, step: int, checkpoint: Path):
        super().__init__(
            f"The training was stopped after step {step} and is saved in {checkpoint}: resume continues it."
        )
        self.step, self.checkpoint = step, checkpoint


def _never() -> bool:
    return False


def train_style(
    style: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    listener: Listener = ignore,
    stop: Callable[[], bool] = _never,
    name: str | None = None,
    credit: str | None = None,
    licence: str | None = None,
    painting: bool | None = None,
    **changes: object,
) -> Path:
    """Train a network to paint like one picture and write it as a model file; returns the path of that.

    style: the painting, any picture file. output: the `.onnx` file to write; beside it appears a folder (`.run`) with the
    checkpoint and previews. settings: None for those that suit the machine, changed by `changes`, settings by name
    (`steps=500`; `help(Settings)` lists them). resume: continue from the checkpoint; only `steps` may differ from its
    settings. overwrite: replace a model and a checkpoint that are there. device: cpu, cuda or mps; None for the best there
    is. listener: gets the events (core/events.py). stop: asked every few steps; True saves a checkpoint and raises
    Stopped. name, credit, licence: for the model file. painting: whether that holds the painting, or its Gram matrices alone.
    They are kept in the checkpoint: None is what that has, or in a new training the output's name, nothing, nothing and True.

    A KeyboardInterrupt loses the steps since the last checkpoint, at most KEEP_EVERY; `stop` loses none. Raises
    AllaprimaError for bad input, and when J keeps diverging.
    """
    trainer = begin(
        style,
        output,
        settings,
        resume=resume,
        overwrite=overwrite,
        device=device,
        listener=listener,
        about={"name": name, "credit": credit, "licence": licence, "painting": painting},
        **changes,
    )
    run(trainer, output, listener=listener, stop=stop)
    return write_model(trainer, style, output, listener)


def begin(
    style,
    output,
    settings=None,
    *,
    resume=False,
    overwrite=False,
    device=None,
    listener: Listener = ignore,
    about=None,
    **changes,
) -> Trainer:
    """A Trainer that is ready for its next step: all is read and checked. The arguments are those of `train_style`; about
    has its `name`, `credit`, `licence` and `painting`, or some of them.

    In one of several processes (train/ranks.py), the first one looks at the output and reads the checkpoint for all.
    """
    given = {key: value for key, value in (about or {}).items() if value is not None}
    check_switch(painting=given.get("painting", True))
    check_kind(str, **{key: value for key, value in given.items() if key != "painting"})
    check_switch(resume=resume, overwrite=overwrite)
    style, device = check_path("style", style), check_device(device)
    output = ranks.of_first(lambda: checked_output(output, style, resume or overwrite))
    saved = ranks.of_first(lambda: read_checkpoint(checkpoint_of(output))) if resume else None
    if not isinstance(settings, Settings | None):
        raise AllaprimaError(
            f"settings must be Settings, not {type(settings).__name__}: give values by name, as steps=500."
        )
    if settings is None:
        settings = saved[1]["settings"] if saved else make_settings(device.type, processes=ranks.count())
    settings = change(settings, changes)
    if saved and not settings.steps:  # the minutes that it began with: what they allow was measured then
        settings = replace(settings, steps=saved[1]["settings"].steps)
    if saved and replace(settings, steps=saved[1]["settings"].steps) != saved[1]["settings"]:
        raise AllaprimaError("A training continues with the settings that it began with: only steps may differ.")
    for sentence in faults(read_rgb(style), settings.style_size):
        listener(Warned(sentence))
    trainer = Trainer(style, settings, device, listener)
    if trainer.photos.skipped:
        listener(
            Warned(
                f"{trainer.photos.skipped} files of {settings.photos} can't be read or are too small, and are left out."
            )
        )
    if saved:
        _restore(trainer, saved, checkpoint_of(output))
    elif not settings.steps:
        trainer.start_over(_steps_in(settings.minutes, trainer))
    trainer.about |= given
    return trainer


def _steps_in(minutes: float, trainer: Trainer) -> int:
    """How many steps so many minutes are, from short trainings: with new batches of the smaller crops of most steps, with the
    same ones again, and with new ones of whole crops. What a batch takes grows with its pixels.
    """
    early = trainer.settings.early_size
    first, others = GPU_PROBES if trainer.device.type == "cuda" else PROBES
    for part in early, 1.0:
        _probe(trainer, _batches(trainer, part), first)  # slower: a GPU is told of each kind of step, say
    small, whole = _batches(trainer, early), _batches(trainer, 1.0)
    fresh, ready, larger = (_probe(trainer, batches, others) for batches in (small, small, whole))
    making = max(0.0, fresh - ready)
    took = (ready, making), (max(ready, larger - making / early**2), making / early**2)

    def seconds(steps):
        plan = planned(replace(trainer.settings, steps=steps))
        return sum(step * used + batch * made for (step, batch), (used, made) in zip(took, plan, strict=True))

    most = 2 + int(60 * minutes / ready)
    return ranks.of_first(lambda: max(1, bisect(range(most), 60 * minutes, lo=1, key=seconds) - 1))


def _batches(trainer: Trainer, part: float) -> Batches:
    """New batches, all of crops whose side is this part of the settings'."""
    old, settings = trainer.batches, replace(trainer.settings, steps=2**40, early_size=part)  # all steps are early ones
    return Batches(settings, old.crops, old.targets, old.share)


def _probe(trainer: Trainer, batches: Batches, steps: int) -> float:
    """The seconds of a step of a training of so many steps, which has all kinds of steps."""
    trainer.start_over(steps)
    trainer.batches = batches
    began = time.perf_counter()
    for _ in range(steps):
        with suppress(Diverged):
            trainer.step()
    return (time.perf_counter() - began) / steps


def checked_output(output, style, replaces: bool) -> Path:
    """The path of the model file, once it is clear that it and its folder can be written and nothing finished is lost."""
    output = check_file("output", output)
    check_model_name(output)
    checkpoint = checkpoint_of(output)
    for path in (output, checkpoint):
        if os.path.exists(path) and not replaces:
            raise AllaprimaError(
                f"{path} exists already: add --resume to continue that training (with more --steps where it is finished), "
                "--overwrite to replace it, or give another output with -o."
            )
    if os.path.exists(checkpoint.parent) and not os.path.isdir(checkpoint.parent):
        raise AllaprimaError(
            f"{checkpoint.parent} is a file, and the folder of the checkpoint has that name: move it away."
        )
    return check_output(output, [style], overwrite=replaces)


def _restore(trainer: Trainer, saved, checkpoint: Path):
    tensors, values = saved
    try:
        if values["style"] != trainer.style_digest:
            raise AllaprimaError(f"{checkpoint} was trained on another painting: give that one, or leave out --resume.")
        trainer.restore(tensors, values)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise damaged(checkpoint) from error
    if trainer.done > trainer.settings.steps:
        raise AllaprimaError(f"{trainer.done} steps are done already: steps must be at least {trainer.done}.")


def run(trainer: Trainer, output, *, listener: Listener = ignore, stop: Callable[[], bool] = _never) -> None:
    """Step until done, with checkpoints, previews, and the way back after a divergence.

    output: the model file that will be written. Raises Stopped, after saving, when `stop` says so. A checkpoint is there
    from the beginning: a training that is killed goes on with the steps that its minutes allow, and not with an older one,
    and one that is continued with what was given anew.
    """
    total, checkpoint, divergences = trainer.settings.steps, checkpoint_of(output), 0
    good, first, began = _copy(trainer.state()), trainer.done, time.perf_counter()
    if ranks.is_first():
        write_checkpoint(checkpoint, *good)
    listener(Started(TASK, total, "steps", _about(trainer, output)))
    if trainer.done:  # maybe all: then no step tells how many
        listener(Advanced(TASK, trainer.done))
    while trainer.done < total:
        tick = time.perf_counter()
        try:
            costs = trainer.step()
            now = time.perf_counter()
            trainer.seconds += now - tick
            rate = (trainer.done - first) * trainer.settings.batch / (now - began)
            listener(Advanced(TASK, trainer.done, note=f"{rate:.1f} photos/s", values=costs))
            if trainer.settings.snapshots and trainer.done in snapshot_steps(total) and ranks.is_first():
                _snapshot(trainer, checkpoint.with_name(f"snapshot-{trainer.done:06d}.safetensors"))
            if trainer.unread or trainer.ahead:
                continue
            stopped = ranks.of_first(stop)
            if stopped or trainer.done % KEEP_EVERY == 0 or trainer.done == total:
                good = _keep(trainer, checkpoint)
        except Diverged:
            divergences += 1
            _go_back(trainer, good, divergences, listener)
            continue
        if stopped and trainer.done < total:
            raise Stopped(trainer.done, checkpoint)


def _keep(trainer: Trainer, checkpoint: Path):
    """Write a preview and the checkpoint; returns what that holds. Raises Diverged where the network paints no more."""
    if not ranks.of_first(trainer.is_sound):
        raise Diverged
    good = _copy(trainer.state())
    if ranks.is_first():
        # Before the checkpoint, which tells that this step is done
        _preview(trainer, checkpoint.with_name(f"preview-{trainer.done:06d}.jpg"))
        write_checkpoint(checkpoint, *good)
    return good


def _about(trainer: Trainer, output) -> str:
    s, photos = trainer.settings, trainer.photos
    start = "its pretrained start" if trainer.start == "pretrained" else "random weights"
    place = f"{ranks.count()} processes, each on {trainer.device.type}" if ranks.count() > 1 else trainer.device.type
    return (
        f"Training {s.architecture} from {start} on {place} with {trainer.loss.network.dtype}: "
        f"{s.steps} steps of {s.batch} photo{'s' * (s.batch > 1)} at {s.size} px, from {len(photos.train)} photos, "
        f"{len(photos.held_out)} held out. Will write {output} and {checkpoint_of(output).parent}/ (checkpoint, previews)."
    ).replace("torch.", "")


def _go_back(trainer: Trainer, good, divergences: int, listener: Listener):
    if divergences > ROLLBACKS:
        raise AllaprimaError(
            f"Training keeps diverging: give a lower learning_rate (it is {trainer.settings.learning_rate:g}) or beta."
        )
    factor = trainer.rate_factor / 2
    trainer.restore(*_copy(good))
    trainer.rate_factor = factor
    listener(Warned(f"J diverged: training goes back to step {trainer.done}, at half the learning rate."))


def _copy(state):
    tensors, values = state
    return {key: value.clone() for key, value in tensors.items()}, dict(values)


def _snapshot(trainer: Trainer, path: Path):
    """The network's weights alone, for `allaprima inspect evolution`."""
    values = {"settings": trainer.settings.to_dict(), "style": trainer.style_digest, "step": trainer.done}
    write_checkpoint(path, trainer.network.state_dict(), values)


def _preview(trainer: Trainer, path: Path):
    """The first held-out photo and its picture at this step, side by side."""
    photo = trainer.photos.held_out[0]
    pair = torch.cat([to_tensor(photo.permute(1, 2, 0).cpu().numpy()), trainer.stylize(photo).cpu()], dim=3)
    with atomic(path) as part:
        Image.fromarray(to_image(pair)).save(part, quality=90)


def write_model(trainer: Trainer, style, output, listener: Listener = ignore) -> Path:
    """Write the model file of a Trainer; its card has all that it was trained with, and its costs on the held-out photos."""
    about: dict[str, Any] = trainer.about | {"name": trainer.about["name"] or Path(output).stem}
    export(trainer.network, output, make_card(trainer, style, **about))
    listener(Wrote(Path(output)))
    return Path(output)
