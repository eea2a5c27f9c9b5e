"""Training: one painting in, one ONNX file out. Read `Trainer.step` first, it is the whole method.

Johnson, Alahi and Fei-Fei, *Perceptual Losses for Real-Time Style Transfer and Super-Resolution*, ECCV 2016: the
network's parameters go down the gradient of the J that the optimizer of Gatys et al. goes down with pixels.
"""

import hashlib
import json
import math
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from allaprima.core.errors import AllaprimaError
from allaprima.core.files import atomic, check_output
from allaprima.core.progress import console, progress_bar
from allaprima.models.devices import default_device, fast_dtype
from allaprima.models.export import export
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Costs, Objective, PerceptualLoss, balance
from allaprima.models.tensors import read_style, to_image, to_tensor
from allaprima.models.transformer import start_of, transformer
from allaprima.train.card import make_card
from allaprima.train.photos import Photos
from allaprima.train.settings import Settings, make_settings, preset_for
from allaprima.train.snapshots import keep_snapshot
from allaprima.train.soap import Soap

KEEP_EVERY = 50  # steps between checkpoints; after a divergence at most so many are done again
REUSE, WAITING = 4, 64  # how often a photo's crop comes back, and about how many crops lie ready for it
SETTLE = 0.1, 0.7  # parts of the steps: none before, all after are made with the fixed numbers of the normalizations
STEER = 0.1, 0.8  # parts of the steps between which beta is steered
EARLY = 0.7  # part of the steps that is made with smaller crops
STEERED = 3  # beta is steered within this factor of the one in the settings
PAINTED = 1 / 6  # style cost from which on less of the photo is given up
OPTIMIZERS = {"soap": Soap, "adam": partial(torch.optim.Adam, betas=(0.9, 0.99))}
NOISE = 2 / 255  # standard deviation of the noise on photos that a picture should not show: that of a camera by day
PERIOD = 8  # the networks halve a picture three times, so this is the longest period that their own pattern can have
BALANCE_SEED = 2**62  # the crops that the objective is balanced on: none that a step draws


class Trainer:
    """A training in progress: the network, its optimizer, the objective, the photos, and the history of costs.

    style: path of the painting. history: one (J, content, style) for each step done.
    """

    def __init__(self, style, settings: Settings, device=None):
        self.settings, self.device = settings, torch.device(device or default_device())
        self.photos = Photos(settings.photos, settings.size, settings.held_out).to(self.device)
        painting = read_style(style, settings.style_size).to(self.device)
        self.style_digest = hashlib.sha256(Path(style).read_bytes()).hexdigest()

        dtype = fast_dtype(self.device)
        network = LossNetwork(settings.loss_network, settings.pooling, settings.loss_weights, dtype).to(self.device)
        self.objective = balance(network, painting, self._crops(8, BALANCE_SEED), objective_of(settings))
        self.loss = PerceptualLoss(network, self.objective)
        self.style_targets = self.loss.style_targets(painting)

        torch.manual_seed(settings.seed)
        self.network = transformer(settings.architecture, settings.start)
        self.network.to(self.device, memory_format=torch.channels_last)
        self.optimizer = OPTIMIZERS[settings.optimizer](self.network.parameters(), settings.learning_rate)
        self.cost = torch.compile(self._cost) if self.device.type == "cuda" else self._cost
        self.history, self.rate_factor, self.seconds, self._batches = [], 1.0, 0.0, {}

    @property
    def done(self) -> int:
        return len(self.history)

    def step(self) -> tuple[float, float, float]:
        """One step down the gradient of J, averaged over a batch of photos; returns (J, content, style).

        Raises Diverged, with the parameters as they were, when J or its gradient is not finite or J has exploded.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.network.train()
        self.network.vary((self.settings.seed, self.done))
        if self._settled():
            self.network.settle()
        photos, content_targets = self._batch()
        costs, flicker, grid = self.cost(photos, content_targets, self._noise(photos))
        self.optimizer.zero_grad(set_to_none=True)
        (costs.J.mean() + self.settings.stability * flicker + self.settings.evenness * grid).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1e6)
        values = tuple(value.mean().item() for value in (costs.J, costs.content, costs.style))
        if not math.isfinite(values[0] + norm.item()) or self._exploded(values[0]):
            raise Diverged
        self.optimizer.step()
        self.history.append(values)
        self._steer(*values[1:])
        return values

    def _settled(self) -> bool:
        """Whether this step is made with the network as it will run; more and more often. So it learns features that need
        no photo's own statistics while its steps are large, and all at once is no shock (docs/networks.md)."""
        first, last = SETTLE
        part = (self.done / self.settings.steps - first) / (last - first)
        return np.random.default_rng((self.settings.seed, self.done, 1)).random() < part

    def _steer(self, content, style):
        """Change beta towards pictures as far from their photos as the settings want, or less far where that is enough for
        the style; not while the first shapes appear, and not once steps are small, so that the end of a training is that
        of one objective."""
        s = self.settings
        if s.stylization and content and style and STEER[0] <= self.done / s.steps < STEER[1]:
            wanted = s.stylization * min(1.0, style / PAINTED) ** 2
            missing = max(-1.0, min(1.0, math.log(wanted / content)))
            beta = self.objective.beta * math.exp(missing * min(0.02, 30 / s.steps))
            self.objective.beta = max(s.beta / STEERED, min(STEERED * s.beta, beta))

    def _cost(self, photos, content_targets, noise) -> tuple[Costs, torch.Tensor, torch.Tensor]:
        """The Costs of the pictures of `photos`; how much of `noise`, where there is any, they show: the mean square of the
        change that it makes in them over its own, 1 for the photos themselves; and the grid that the network adds to them.
        Zheng et al., *Improving the Robustness of Deep Neural Networks via Stability Training*, CVPR 2016; the loss
        network, most of a step's work, need not see the noise."""
        inputs = photos if noise is None else torch.cat([photos, photos + noise])
        # on a CPU the network is a tenth of the work and gains nothing from bfloat16
        with torch.autocast(self.device.type, self.loss.network.dtype, enabled=self.device.type == "cuda"):
            pictures = self.network(inputs)
        stylized, *noisy = pictures.float().split(len(photos))
        flicker = sum((picture - stylized).square().mean() / NOISE**2 for picture in noisy)
        return self.loss(stylized, content_targets, self.style_targets), flicker, grid_energy(stylized - photos)

    def _noise(self, photos) -> torch.Tensor | None:
        """Noise for the photos of this step, where the settings want stability: a function of the seed and the step."""
        if not self.settings.stability:
            return None
        random = torch.Generator(self.device).manual_seed(self.settings.seed * 1_000_003 + self.done)
        return NOISE * torch.randn(photos.shape, generator=random, device=self.device)

    def _batch(self):
        """The photos of this step and their content targets, which take a quarter of a step's time to compute.

        A batch is therefore used about REUSE times, in random order among those that lie ready. Which one a step uses,
        and how large its crops are, follows from numbers alone, so that a continued training has the same.
        """
        s, oldest = self.settings, self.done // REUSE
        random = np.random.default_rng((s.seed, self.done))
        number = oldest + int(random.integers(max(4, WAITING // s.batch)))
        self._batches = {key: batch for key, batch in self._batches.items() if key >= oldest}
        if number not in self._batches:
            part = s.early_size if number * REUSE < EARLY * s.steps else 1.0
            photos = self._crops(s.batch, s.seed * 1_000_003 + number, part)
            self._batches[number] = photos, self.loss.content_targets(photos)
        return self._batches[number]

    def _crops(self, count, seed, part=1.0):
        return self.photos.batch(count, seed, part).to(self.device).contiguous(memory_format=torch.channels_last)

    def _exploded(self, J):
        """Ten times the J of the photos' own start is no noise of the batch."""
        return self.done > 20 and 10 * max(J for J, _, _ in self.history[:20]) < J

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter, *SGDR*, 2017)."""
        s = self.settings
        warm = min(1.0, (self.done + 1) / max(1, min(s.warmup, s.steps // 4)))
        return s.learning_rate * self.rate_factor * warm * 0.5 * (1 + math.cos(math.pi * self.done / s.steps))

    @torch.no_grad()
    def stylize(self, photo: torch.Tensor) -> torch.Tensor:
        """A photo, uint8 [3, H, W], as the network would paint it if exported now: float [1, 3, H, W], about 0..1."""
        return self.network.eval()(photo[None].to(self.device).float() / 255)

    @torch.no_grad()
    def held_out_costs(self) -> dict[str, dict[str, float]]:
        """J, content cost per element and style cost of each held-out photo in the network's picture, clamped to 0..1."""
        rows = {}
        for name, photo in zip(self.photos.names, self.photos.held_out, strict=True):
            targets = self.loss.content_targets(photo[None].to(self.device).float() / 255)
            costs = self.loss(self.stylize(photo).clamp(0, 1), targets, self.style_targets)
            rows[name] = {key: round(getattr(costs, key).item(), 5) for key in ("J", "content", "style")}
        return rows

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, torch.Tensor], dict]:
        """All that a continuation needs, as tensors and as plain values."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{slot}": value for slot, value in slots.items()}
        tensors["history"] = torch.tensor(self.history, dtype=torch.float64).reshape(-1, 3)
        return tensors, {
            "settings": self.settings.to_dict(),
            "objective": self.objective.to_dict(),
            "rate_factor": self.rate_factor,
            "seconds": self.seconds,
            "style": self.style_digest,
        }

    def restore(self, tensors, values):
        """The reverse of `state`; the steps that follow are those of a training that was never interrupted."""
        self.network.load_state_dict(network_weights(tensors))
        slots = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, slot = key.split(".")
                slots.setdefault(int(number), {})[slot] = value.clone()
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": slots, "param_groups": state["param_groups"]})
        self.history = [tuple(row) for row in tensors["history"].tolist()]
        self.objective = self.loss.objective = Objective(**values["objective"])
        self.rate_factor, self.seconds = values["rate_factor"], values["seconds"]

    def save(self, path):
        """Write a checkpoint: safetensors, so that reading one runs no code."""
        tensors, values = self.state()
        tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
        with atomic(path) as part:
            try:
                save_file(tensors, part, {"allaprima": json.dumps(values)})
            except SafetensorError as error:
                raise AllaprimaError(
                    f"{path} can't be written ({error}). Free some space or choose another folder."
                ) from error


def grid_energy(pictures: torch.Tensor) -> torch.Tensor:
    """Mean square, in grey levels, of what repeats every 8 px (or 4, or 2) all over pictures [N, 3, H, W] of 0..1.

    Even resizes leave no checkerboard in what they make larger, but the convolution and ReLU after them can: a slanting
    filter answers differently from pixel to pixel. The loss network hardly sees a pattern so faint; a flat sky shows it.
    """
    rows, columns = (side // PERIOD for side in pictures.shape[2:])
    pixels = pictures.permute(0, 2, 3, 1)[
        :, : PERIOD * rows, : PERIOD * columns
    ]  # so that the gradient is channels_last too
    mean = 255 * pixels.unflatten(2, (columns, PERIOD)).unflatten(1, (rows, PERIOD)).mean((1, 3))
    return (mean - mean.mean((1, 2), keepdim=True)).square().mean()


def objective_of(settings: Settings) -> Objective:
    """What the settings ask for, before it is balanced for a painting."""
    s = settings
    return Objective(s.content_layers, s.style_layers, s.alpha, s.beta, s.tv)


def checkpoint_of(output) -> Path:
    """Where the checkpoint of a training that writes `output` lies."""
    return Path(output).with_suffix(".run") / "checkpoint.safetensors"


class Diverged(Exception):
    """A step that would have made the network worse than useless."""


def read_checkpoint(path) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors and values of a checkpoint. Raises AllaprimaError when it is missing or broken."""
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["allaprima"])
    except FileNotFoundError as error:
        raise AllaprimaError(f"There is no training to continue at {path}: leave out --resume to start one.") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise AllaprimaError(
            f"{path} is no checkpoint of allaprima, or a broken one: delete it and train anew."
        ) from error


def network_weights(tensors) -> dict[str, torch.Tensor]:
    """The network's own among the tensors of a checkpoint, by their names in the network."""
    return {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}


def saved_settings(output) -> Settings:
    """The settings of the training that writes `output`, from its checkpoint."""
    return Settings(**read_checkpoint(checkpoint_of(output))[1]["settings"])


def train_style(
    style, output, settings: Settings | None = None, *, resume=False, device=None, report=True, painting=True, **about
) -> Path:
    """Train a network to paint like one picture and write it as a model file.

    style: the painting, any picture file. output: the `.onnx` file to write; beside it appear a report (`.html`, unless
    `report` is False) and a folder (`.run`) with the checkpoint and previews. settings: None for the preset that suits
    the machine. resume: continue from the checkpoint; only `steps` may differ from its settings. painting: whether
    the model file holds the painting, or its Gram matrices alone. about: `name`, `credit` and `licence` for its card.

    SIGINT or SIGTERM saves a checkpoint and raises KeyboardInterrupt. Raises AllaprimaError for bad input.
    """
    started = time.perf_counter()
    output = check_output(output, [style], overwrite=resume)
    if output.suffix.lower() != ".onnx":
        raise AllaprimaError(f"{output} does not end in .onnx: give the model file a name like {output.stem}.onnx.")
    checkpoint = checkpoint_of(output)
    run = checkpoint.parent
    device = torch.device(device or default_device())
    saved = read_checkpoint(checkpoint) if resume else None
    if saved:
        settings = _resumed(Settings(**saved[1]["settings"]), settings)
    settings = (settings or make_settings(preset_for(device.type))).check()
    trainer = Trainer(style, settings, device)
    if saved:
        if saved[1]["style"] != trainer.style_digest:
            raise AllaprimaError(f"{checkpoint} was trained on another painting: name that one, or leave out --resume.")
        trainer.restore(*saved)
    _announce(trainer, output, report)
    run.mkdir(exist_ok=True)
    _loop(trainer, run, checkpoint)

    about = {"name": output.stem} | {key: value for key, value in about.items() if value}
    export(trainer.network, output, make_card(trainer, style, about, painting))
    if report:
        from allaprima.insight.report import write_report

        write_report(output.with_suffix(".html"), trainer, style, output, time.perf_counter() - started)
    return output


def _resumed(saved: Settings, wanted: Settings | None) -> Settings:
    """The settings to continue with: those of the checkpoint, or `wanted` when only its number of steps differs."""
    if wanted and replace(wanted, steps=saved.steps) != saved:
        raise AllaprimaError(
            "A training continues with the settings that it began with: give --resume with --steps alone."
        )
    return wanted or saved


def _announce(trainer, output, report):
    s, photos = trainer.settings, trainer.photos
    start = "its pretrained start" if s.start == "pretrained" and start_of(s.architecture) else "random weights"
    skipped = f" ({photos.skipped} files could not be read and are skipped)" if photos.skipped else ""
    console.print(
        f"Training {s.architecture} from {start} on {trainer.device.type} with {trainer.loss.network.dtype}: "
        f"{s.steps} steps of {s.batch} photo{'s' * (s.batch > 1)} at {s.size} px, from {len(photos.train)} photos{skipped}, "
        f"{len(photos.held_out)} held out.".replace("torch.", "")
    )
    also = f", {output.with_suffix('.html')} (report)" if report else ""
    console.print(
        f"Will write {output}{also} and {output.with_suffix('.run')}/ (checkpoint, previews). "
        "Ctrl-C saves; --resume continues."
    )


def _loop(trainer: Trainer, run: Path, checkpoint: Path):
    """Step until done: progress, checkpoints, previews, and the way back after a divergence."""
    total, good, rollbacks = trainer.settings.steps, _copy(trainer.state()), 0
    with progress_bar() as bar, _stop_signals() as stopped:
        task = bar.add_task("steps", total=total, completed=trainer.done, note="")
        timed = (trainer.done, time.perf_counter())
        while trainer.done < total:
            tick = time.perf_counter()
            try:
                J, content, style = trainer.step()
            except Diverged:
                rollbacks += 1
                if rollbacks > 5:
                    raise AllaprimaError(
                        "Training diverges again and again: lower --learning-rate (it is "
                        f"{trainer.settings.learning_rate:g}) or --beta."
                    ) from None
                factor = trainer.rate_factor / 2
                trainer.restore(*_copy(good))
                trainer.rate_factor = factor
                console.print(f"J diverged: back to step {trainer.done}, at half the learning rate.")
                continue
            trainer.seconds += time.perf_counter() - tick
            if trainer.settings.snapshots:
                keep_snapshot(trainer, run)
            rate = (trainer.done - timed[0]) * trainer.settings.batch / (time.perf_counter() - timed[1])
            note = f"{rate:.1f} photos/s  J {J:.2f}  content {content:.2f}  style {style:.2f}"
            bar.update(task, completed=trainer.done, note=note)
            if trainer.done == timed[0] + 8:  # the first steps are slower, so the estimate waits for a few
                left = (time.perf_counter() - timed[1]) / 8 * (total - trainer.done)
                console.print(f"This will take about {_minutes(left)}.")
            if trainer.done % KEEP_EVERY == 0 or trainer.done == total or stopped:
                trainer.save(checkpoint)
                _preview(trainer, run)
                good = _copy(trainer.state())
            if stopped and trainer.done < total:
                console.print(f"Saved step {trainer.done} in {checkpoint}. The same command with --resume continues.")
                raise KeyboardInterrupt


def _copy(state):
    tensors, values = state
    return {key: value.clone() for key, value in tensors.items()}, dict(values)


def _minutes(seconds):
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


@contextmanager
def _stop_signals():
    """A list that is not empty once SIGINT or SIGTERM came; a second one interrupts at once."""
    stopped, before = [], {}

    def note(number, frame):
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread: signals are its owner's business
        pass
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _preview(trainer, run):
    """The first held-out photo and its picture at this step, side by side."""
    photo = trainer.photos.held_out[0]
    pair = torch.cat([to_tensor(photo.permute(1, 2, 0).cpu().numpy()), trainer.stylize(photo).cpu()], dim=3)
    with atomic(run / f"preview-{trainer.done:06d}.jpg") as part:
        Image.fromarray(to_image(pair)).save(part, quality=90)
