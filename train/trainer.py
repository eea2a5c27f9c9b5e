"""One network learning one painting. Read `Trainer.step` first: it is the whole method, and loss.py the whole loss.

Johnson, Alahi and Fei-Fei, *Perceptual Losses for Real-Time Style Transfer and Super-Resolution*, ECCV 2016: the
network's parameters go down the gradient of the J that the optimizer of Gatys et al. goes down with pixels.
"""

import hashlib
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from allaprima.core.events import Listener, ignore
from allaprima.models.devices import Replay, check_device, fast_dtype
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective, PerceptualLoss, balance, weighted_sum
from allaprima.models.tensors import read_style
from allaprima.models.transformer import Transformer, start_of, transformer
from allaprima.train import ranks, schedule
from allaprima.train.checkpoint import network_weights
from allaprima.train.loss import Cut, View, added_weights, grid_cost, second_view, view_cost, viewed
from allaprima.train.photos import Batches, Photos
from allaprima.train.settings import Settings
from allaprima.train.soap import BETAS, Soap

OPTIMIZERS = {"soap": Soap, "adam": partial(torch.optim.Adam, betas=BETAS)}
BALANCE, BALANCE_SEED = 32, 2**62  # the crops that the objective is balanced on: none that a step draws

READ_EVERY = 10  # steps between looks at the costs, of which a GPU is told so many in advance; divides run.KEEP_EVERY

ABSENT = -1.0  # in a checkpoint, for a cost that a step did not compute: costs are never negative


class Diverged(Exception):
    """A step that would have made the network worse than useless."""


class Gradient(NamedTuple):
    """What a step has found out, before the network moves.

    gradients: for each parameter, or None. averages: what is added to the network's running averages. names, means: of J and
    the costs of its terms.
    """

    gradients: list[torch.Tensor | None]
    averages: list[torch.Tensor]
    names: list[str]
    means: torch.Tensor


class Trainer:
    """A training in progress: the network, its optimizer, the objective, the photos, and the history of costs.

    style: path of the painting. device: a name, or None for the best there is. listener: is told of a download.
    history: for each step that was read J and the cost of each of its terms, by name, before its weight. unread: the costs
    of the steps since, still on the device. ahead: what the next steps have found out already. seconds: spent in steps.
    replays: what a GPU does in each kind of step, of which it is told once; beta: where it finds that of a step.
    rate_factor: halved by a divergence. about: `name`, `credit` and `licence` for the model file, and whether the `painting`
    goes into it.

    Where several processes make a training (train/ranks.py), `settings.batch` is what all of them do in a step together.
    Raises AllaprimaError for what can't be read, or a device that is not there.
    """

    def __init__(self, style, settings: Settings, device=None, listener: Listener = ignore):
        self.settings, self.device = settings, check_device(device)
        self.about: dict[str, Any] = {"name": "", "credit": "", "licence": "", "painting": True}
        self.read_every = 1 if self.device.type == "cpu" else READ_EVERY
        self.share = ranks.share(settings.batch)
        self.network = transformer(settings.architecture)
        self.network.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.photos = Photos(settings.photos, self.framed_side(), settings.held_out).to(self.device)
        painting = read_style(style, settings.style_size).to(self.device)
        self.style_digest = hashlib.sha256(Path(style).read_bytes()).hexdigest()

        dtype = fast_dtype(self.device)
        network = LossNetwork(settings.loss_network, settings.pooling, settings.loss_weights, dtype, listener)
        network.to(self.device)
        crops = self.network.middle(self.crops(BALANCE, BALANCE_SEED))
        self.objective = ranks.of_first(lambda: balance(network, painting, crops, objective_of(settings)))
        self.loss = PerceptualLoss(network, self.objective)
        self.of_J = [*self.objective.weights]
        self.style_targets = self.loss.style_targets(painting)

        self.replays_steps, self.replays = self.device.type == "cuda", {}
        if self.replays_steps:
            self.pool, self.beta = torch.cuda.graph_pool_handle(), torch.ones((), device=self.device)
        threads = max(1, torch.get_num_threads() // schedule.ABREAST)
        self.crew = ThreadPoolExecutor(schedule.ABREAST, initializer=torch.set_num_threads, initargs=(threads,))
        self.start_over(settings.steps)

    def start_over(self, steps: int) -> None:
        """Forget what was learned, and begin a training of so many steps."""
        self.settings = settings = replace(self.settings, steps=steps)
        torch.manual_seed(settings.seed)
        self.start = settings.start if start_of(settings.architecture) else "scratch"
        # into the network that there is: replays know where it lies
        self.network.load_state_dict(transformer(settings.architecture, self.start).state_dict())
        self.optimizer = OPTIMIZERS[settings.optimizer](self.network.parameters(), settings.learning_rate)
        self.abreast = schedule.ABREAST if self.device.type == "cpu" else 1
        self.copies = [deepcopy(self.network) for _ in range(self.abreast)] if self.abreast > 1 else [self.network]
        self.ahead: deque[Gradient] = deque()
        self.objective.beta = settings.beta
        self.batches = Batches(settings, self.crops, self.targets, self.share)
        self.history, self.unread, self.rate_factor, self.seconds = [], [], 1.0, 0.0

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.history) + len(self.unread)

    def step(self) -> dict[str, float]:
        """One step down the gradient of the loss, averaged over a batch of photos; returns J and the costs that were read
        last, by name: those of this step, on a CPU.

        Raises Diverged when J or its gradient was not finite or J has exploded, in this step, of which the parameters are
        as they were, or in an unread one.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        if not self.ahead:
            self.ahead.extend(self.look_ahead())
        gradients, averages, names, means = self.ahead.popleft()
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        for average, change in zip(self.network.averages(), averages, strict=True):
            average += change
        known = [gradient for gradient in gradients if gradient is not None]
        ranks.average([*known, *self.network.averages(), means])
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), schedule.GRADIENT)
        self.unread.append((["norm", *names], torch.cat([norm[None], means])))
        if self.done % self.read_every == 0 or self.done == self.settings.steps:
            self.read()
        self.optimizer.step()
        return self.history[-1] if self.history else {}

    def look_ahead(self) -> list[Gradient]:
        """The gradients of the next steps, `abreast` of them, from the weights of now.

        Two threads with a step each take two thirds of the time of two that share the pieces of each step, and a gradient
        that is a step old leads nearly as well (docs/networks.md).
        """
        steps = range(self.done, min(self.done - self.done % self.abreast + self.abreast, self.settings.steps))
        views = [self.views(step) for step in steps]
        if self.abreast == 1 or torch.get_num_threads() == 1:
            return list(map(self.gradient, self.copies, steps, views))
        found = list(self.crew.map(self.gradient, self.copies, steps, views))
        torch.set_num_threads(torch.get_num_threads())  # what threads of others begin with, which the crew has changed
        return found

    def views(self, step: int) -> tuple:
        """What the network paints in a step: framed photos, the content targets of their middle, and a second view or None."""
        photos, content_targets = self.batches.at(step)
        if not (term := viewed(self.settings, step)):
            return photos, content_targets, None
        sides = [self.network.inner(side) for side in photos.shape[2:]]
        return photos, content_targets, second_view(term, photos, sides, self.settings, step, self.share)

    def gradient(self, network: Transformer, step: int, views: tuple) -> Gradient:
        """The gradient of a step. network: ours, or a copy, which gets our weights first."""
        if network is not self.network:
            network.load_state_dict(self.network.state_dict())
        network.vary((self.settings.seed, step))
        settled, added = self.settled(step), added_weights(self.settings, step)
        if not self.replays_steps:
            return self.measured(network, settled, added, self.objective.beta, *views)
        kind = settled, *added, views[0].shape
        self.beta.fill_(self.objective.beta)
        if kind not in self.replays:
            measured = partial(self.measured, network, settled, added)
            self.replays[kind] = Replay(measured, (self.beta, *views), self.pool)
        return self.replays[kind](self.beta, *views)

    def measured(self, network, settled, added, beta, photos, content_targets, view: View | None) -> Gradient:
        """The gradient of a step for these views; settled, added: as of `gradient`; beta: a number, or a tensor of one.

        It asks for no value on the device, and leaves the network's numbers there as they were: so a GPU can replay it.
        """
        network.train()
        if settled:
            network.settle()
        before = [average.clone() for average in network.averages()]
        costs = self.costs(network, photos, content_targets, view)
        J = weighted_sum(self.objective.weights | {"style": beta}, costs).mean()
        loss = J + beta * weighted_sum(added, costs)
        network.zero_grad(set_to_none=True)
        loss.backward()
        changes = []
        for average, old in zip(network.averages(), before, strict=True):
            changes.append(average - old)
            average.copy_(old)  # where it is ours, until the step is made
        means = torch.stack([J, *(cost.mean() for cost in costs.values())]).detach()
        return Gradient([p.grad for p in network.parameters()], changes, ["J", *costs], means)

    def read(self) -> None:
        """Fetch the costs of the unread steps, for which a GPU is waited for; beta follows them. Raises Diverged."""
        unread, self.unread = self.unread, []
        numbers = iter(torch.cat([means for _, means in unread]).tolist())
        for names, means in unread:
            row = dict(zip(names, islice(numbers, len(means)), strict=True))
            if not math.isfinite(row["J"] + row.pop("norm")) or schedule.exploded(self.history, row["J"]):
                raise Diverged
            self.history.append(row)
            self.objective.beta = schedule.steered(self.settings, self.history, self.objective.beta)

    def costs(self, network, photos, content_targets, view: View | None) -> dict[str, torch.Tensor]:
        """The cost of each term for a network's pictures of framed photos, by name: of J one for each picture, [N], and those
        that are added. The loss network, most of a step's work, need not see the second view.

        What is around a picture is more of the photo. Where it was reflected, as it is around whole photos later, networks
        knew where a crop ends, and long trainings painted frames there, for the zeros that the loss network pads with.
        """
        inputs = torch.cat([photos, view.photos]) if view else photos
        # on a CPU the network gains nothing from bfloat16
        with torch.autocast(self.device.type, self.loss.network.dtype, enabled=self.device.type == "cuda"):
            pictures = network(inputs, framed=True)
        stylized, *seen = Cut.apply(pictures.float()).split(len(photos))
        added = {view.term: view_cost(stylized, seen[0], view)} if view else {}
        parts = self.loss.parts(stylized, content_targets, self.style_targets)
        if self.settings.evenness:
            added["grid"] = grid_cost(stylized - network.middle(photos))
        return {name: parts[name] for name in self.of_J} | added

    def learning_rate(self) -> float:
        """That of the next step."""
        return schedule.learning_rate(self.settings, self.done, self.rate_factor)

    def settled(self, step: int) -> bool:
        """Whether a step is made with the network as it will run."""
        return schedule.settled(self.settings, step)

    def crops(self, count: int, seed: int, part=1.0, share=slice(None)) -> torch.Tensor:
        """Random crops on the device, with what is around their pictures, whose side is this part of the settings'."""
        crops = self.photos.batch(count, seed, self.framed_side(part), share)
        return crops.to(self.device).contiguous(memory_format=torch.channels_last)

    def framed_side(self, part=1.0) -> int:
        """The side of crops, with what the network looks at around a picture, whose own is a multiple of its `multiple`."""
        multiple = self.network.multiple
        side = multiple * round(part * self.settings.size / multiple)
        return side + sum(self.network.around(side))

    def targets(self, photos: torch.Tensor) -> dict[str, torch.Tensor]:
        """The content targets of framed photos."""
        return self.loss.content_targets(self.network.middle(photos))

    @torch.no_grad()
    def stylize(self, photo: torch.Tensor) -> torch.Tensor:
        """A photo, uint8 [3, H, W], as the network would paint it if exported now: float [1, 3, H, W], about 0..1."""
        return self.network.eval()(photo[None].to(self.device).float() / 255)

    def is_sound(self) -> bool:
        """Whether the network still paints: what its last step made of it, no cost has told yet."""
        return self.stylize(self.photos.held_out[0]).abs().max().item() < schedule.NO_PICTURE

    @torch.no_grad()
    def held_out_costs(self) -> dict[str, dict[str, float]]:
        """J, content cost per element and style cost of each held-out photo in the network's picture, clamped to 0..1."""
        rows = {}
        for name, photo in zip(self.photos.names, self.photos.held_out, strict=True):
            targets = self.loss.content_targets(photo[None].to(self.device).float() / 255)
            costs = self.loss(self.stylize(photo).clamp(0, 1), targets, self.style_targets)
            rows[name] = {key: round(getattr(costs, key).item(), 5) for key in ("J", "content", "style")}
        return rows

    def state(self) -> tuple[dict[str, torch.Tensor], dict]:
        """All that a continuation needs, as tensors and as plain values, for train/checkpoint.py.

        It is complete where no step is unread or ahead.
        """
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        terms = list(dict.fromkeys(name for row in self.history for name in row))
        rows = [[row.get(name, ABSENT) for name in terms] for row in self.history]
        tensors["history"] = torch.tensor(rows, dtype=torch.float64)
        return tensors, {
            "settings": self.settings.to_dict(),
            "objective": self.objective.to_dict(),
            "terms": terms,
            "rate_factor": self.rate_factor,
            "seconds": self.seconds,
            "style": self.style_digest,
            "about": self.about,
        }

    def restore(self, tensors: dict[str, torch.Tensor], values: dict) -> None:
        """The reverse of `state`; the steps that follow are those of a training that was never interrupted."""
        self.network.load_state_dict(network_weights(tensors))
        slots = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, slot = key.split(".")
                slots.setdefault(int(number), {})[slot] = value.clone()
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": slots, "param_groups": state["param_groups"]})
        rows = [zip(values["terms"], row, strict=True) for row in tensors["history"].tolist()]
        self.history, self.unread = [{name: cost for name, cost in row if cost != ABSENT} for row in rows], []
        self.ahead.clear()
        self.objective = self.loss.objective = Objective(**values["objective"])
        self.rate_factor, self.seconds = values["rate_factor"], values["seconds"]
        self.about = self.about | values.get("about", {})  # which earlier versions did not write


def objective_of(settings: Settings) -> Objective:
    """What the settings ask for, before it is balanced for a painting."""
    s = settings
    return Objective(s.content_layers, s.style_layers, s.alpha, s.beta, s.tv)
