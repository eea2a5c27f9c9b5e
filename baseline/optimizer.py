"""The slow way: gradient descent on the pixels of a picture.

Gatys, Ecker and Bethge, *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016. J itself is in
models/perceptual.py, the same that training minimises. Departures from the paper, and why:

- A picture has values in 0..1, so J is that of the clamped picture, which is what gets written. A value outside would
  have no gradient and stay there, so the squared distance to the range is added to what is minimised, though not to J.
  After 100 evaluations J was 2.26 with that term, 2.37 without it, and 2.58 when clamped only at the end.
- The descent starts from the photo, unless noise is asked for: the photo is nearer to the result.
- The weights are balanced for the painting first (`balance`), unless `balanced` is False.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional as F

from allaprima.core.checks import check_J, check_kind, check_positive, check_seed, check_switch, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, ignore
from allaprima.media.luminance import REC601, keep_colors_of
from allaprima.media.pictures import as_rgb, read_rgb
from allaprima.models.devices import default_device, fast_dtype
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective, PerceptualLoss, balance
from allaprima.models.tensors import to_image, to_tensor
from allaprima.train.photos import Photos

LINE_SEARCH = 25  # evaluations of J that one L-BFGS iteration may take at most
OUTSIDE = 10.0  # weight of the mean squared distance of values to 0..1, in units of J at the start
LEAST_SIDE = 48  # pixels: a coarser scale than this shows nothing of a photo


@dataclass
class Step:
    """One iteration: J and what it is made of (see `perceptual.Costs`) for the picture that the iteration left.

    Iterations, evaluations of J with its gradient, and seconds are counted from the start of the run. `size` is the
    picture's long side in pixels.
    """

    iteration: int
    evaluations: int
    seconds: float
    size: int
    J: float
    content: float
    content_as_written: float
    style: float
    tv: float


@dataclass
class Result:
    """image: uint8 [H, W, 3], the picture with the lowest J. trace: a Step for each start and each iteration.

    ended: "finished"; "stopped", by Ctrl-C; "converged", no lower J was found; "diverged", J was no longer finite.
    """

    image: np.ndarray
    trace: list[Step]
    ended: str


@dataclass
class Descent:
    """How to descend. method: "lbfgs", with a strong Wolfe line search and `history` pairs of gradients, or "adam",
    with `learning_rate` in units of the value range 0..1. iterations: at each scale."""

    method: str = "lbfgs"
    iterations: int = 300
    history: int = 20
    learning_rate: float = 0.02

    def __post_init__(self):
        if self.method not in ("lbfgs", "adam"):
            raise AllaprimaError(f"method must be lbfgs or adam, not {self.method!r}.")
        check_whole(0, iterations=self.iterations)
        check_whole(1, history=self.history)
        check_positive(learning_rate=self.learning_rate)


PictureLike = npt.NDArray[np.uint8] | Image.Image | Path | str


def optimize(
    content: PictureLike,
    styles: PictureLike | Sequence[PictureLike],
    objective: Objective | None = None,
    *,
    network: LossNetwork | None = None,
    descent: Descent | None = None,
    balanced: bool = True,
    style_weights: Sequence[float] | None = None,
    style_size: int | None = None,
    init: str = "content",
    scales: int = 1,
    keep_colors: bool = False,
    seed: int = 0,
    each: Callable[[Step, torch.Tensor], object] | None = None,
    listener: Listener = ignore,
) -> Result:
    """Paint `content` in the style of `styles` by descending J on its pixels.

    content: a picture: a uint8 array [H, W, 3] RGB, a PIL image, or the path of a file. The result has its size.
    styles: one such picture or a list, each scaled to a long side of `style_size` pixels, the content's when None;
        larger means larger strokes. style_weights: how much each counts.
    objective: layers and weights of J. alpha = 0 reconstructs the style, beta = 0 the content (figure 1 of the paper).
    network: the loss network; when None, vgg16_oxford on the best device, in bfloat16 where that is faster.
    balanced: scale the weights so that they mean the same for every painting; False takes them as they are.
    init: start from "content", "noise" or "style".
    scales: coarse to fine; each scale has half the size of the next, which starts from its result.
    keep_colors: transfer only the luminance and keep the photo's colours (media/luminance.py). J is then that of the
        luminance.
    each: called with the Step and the picture, float [1, 3, H, W], 0..1, at every start and after each iteration.
    listener: gets the events of the task "optimize", one for each iteration (core/events.py).

    Ctrl-C ends the run with the best picture so far. Raises AllaprimaError for arguments that can't be used, for
    example a float array.
    """
    if init not in ("content", "noise", "style"):
        raise AllaprimaError(f"init must be content, noise or style, not {init!r}.")
    check_whole(1, scales=scales, **({} if style_size is None else {"style_size": style_size}))
    check_seed(seed)
    check_switch(balanced=balanced, keep_colors=keep_colors)
    check_kind(Objective, objective=objective)
    check_kind(LossNetwork, network=network)
    check_kind(Descent, descent=descent)
    photo = _pixels("content", content)
    paintings = [_pixels("styles", style) for style in (styles if isinstance(styles, list | tuple) else [styles])]
    shares = _shares(style_weights, len(paintings))
    network, descent = network or default_network(listener=listener), descent or Descent()
    photo, *paintings = (to_tensor(picture).to(network.mean.device) for picture in (photo, *paintings))
    target = photo
    if keep_colors:
        target = _luminance(photo)
        paintings = [_like(_luminance(painting), target) for painting in paintings]
    paintings = [_long_side(painting, style_size or max(photo.shape[-2:])) for painting in paintings]
    objective = _without_idle_layers(objective or Objective())
    if balanced:
        objective = _balanced(network, paintings, shares, objective)
    loss = PerceptualLoss(network, objective)

    def picture(pixels):
        pixels = _resize(pixels, photo.shape[-2:])
        if keep_colors:
            return to_tensor(keep_colors_of(to_image(photo), to_image(_rgb(pixels))))
        return pixels

    listener(Started("optimize", scales * descent.iterations, "iterations"))
    trace, best = [], None
    try:
        for step, pixels in _coarse_to_fine(loss, target, paintings, shares, descent, init, scales, seed):
            trace.append(step)
            if not math.isfinite(step.J):
                break
            if best is None or step.size != best[0].size or step.J < best[0].J:
                best = step, pixels.clone()
            listener(progress(step))
            if each:
                each(step, picture(pixels))
        ended = "finished" if step.iteration == scales * descent.iterations else "converged"
    except KeyboardInterrupt:
        if best is None:
            raise
        ended = "stopped"
    if best is None:
        raise AllaprimaError("J is not finite at the start: use smaller weights (alpha, beta, tv).")
    return Result(to_image(picture(best[1])), trace, ended if math.isfinite(trace[-1].J) else "diverged")


def progress(step: Step) -> Advanced:
    """The event of an iteration."""
    note = f"J {step.J:.4g}  content {step.content:.4g}  style {step.style:.4g}"
    return Advanced("optimize", step.iteration, note=note)


def _pixels(name, picture) -> np.ndarray | Image.Image:
    """A picture, however it was given, as uint8 sRGB."""
    if isinstance(picture, Path | str):
        return read_rgb(picture)
    if isinstance(picture, Image.Image):
        return as_rgb(picture, name)
    if not isinstance(picture, np.ndarray):
        raise AllaprimaError(f"{name} must be a uint8 array, a PIL image or a path, not {type(picture).__name__}.")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise AllaprimaError(
            f"{name} must be a uint8 array [H, W, 3] with values 0 to 255, not {picture.dtype} {list(picture.shape)}."
        )
    return picture


def descend(loss: PerceptualLoss, start, content_targets, style_targets, descent: Descent) -> Iterator:
    """Descend J from `start`, float [1, 3 or 1, H, W] (one channel is luminance): yield (Step, pixels), pixels clamped.

    The first is the start itself, iteration 0. Ends early when no lower J is found.
    """
    point = _Point(loss, start, content_targets, style_targets)
    make = _adam if descent.method == "adam" else _lbfgs
    optimizer = make(point.x, descent)
    yield point.step(0), point.x.detach().clamp(0, 1)
    for iteration in range(1, descent.iterations + 1):
        before = point.x.detach().clone()
        optimizer.step(point.total)
        if torch.equal(before, point.x):  # the line search found nothing: try once without the remembered gradients
            optimizer = make(point.x, descent)
            optimizer.step(point.total)
            if torch.equal(before, point.x):
                return
        if descent.method == "adam":
            point.x.data.clamp_(0, 1)
        yield point.step(iteration), point.x.detach().clamp(0, 1)


def _lbfgs(x, descent):
    """One iteration a step, so that each can be seen. Tolerances of 0: it is J that says when to stop."""
    return torch.optim.LBFGS(
        [x],
        max_iter=1,
        max_eval=LINE_SEARCH,
        history_size=descent.history,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )


def _adam(x, descent):
    return torch.optim.Adam([x], lr=descent.learning_rate)


class _Point:
    """The pixels x and J there: computed once, though L-BFGS asks again for where it went."""

    def __init__(self, loss, start, content_targets, style_targets):
        self.x = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.loss, self.targets = loss, (content_targets, style_targets)
        self.seen, self.evaluations, self.began = [], 0, time.perf_counter()
        self.outside = 0.0
        self.outside = OUTSIDE * self._evaluate()[1].J.item()

    def _evaluate(self):
        """(x, costs, what is minimised, its gradient) here."""
        for known in self.seen:
            if torch.equal(known[0], self.x):
                return known
        self.x.grad = None
        inside = self.x.clamp(0, 1)
        costs = self.loss(_rgb(inside), *self.targets)
        # times the number of values: L-BFGS drops pairs of gradients whose product is below 1e-10
        total = costs.J.sum() * self.x.numel() + self.outside * (self.x - inside.detach()).square().sum()
        total.backward()
        self.evaluations += 1
        self.seen.append((self.x.detach().clone(), costs, total.detach(), self.x.grad))
        return self.seen[-1]

    def total(self):
        """What torch.optim minimises; leaves the gradient in x.grad."""
        _, _, total, gradient = self._evaluate()
        self.x.grad = gradient.clone()
        return total

    def step(self, iteration) -> Step:
        """This point as a line of the trace; forgets the others."""
        self.seen = [self._evaluate()]
        costs = self.seen[0][1]
        values = (v.item() for v in (costs.J, costs.content, costs.content_as_written, costs.style, costs.tv))
        size = max(self.x.shape[-2:])
        return Step(iteration, self.evaluations, time.perf_counter() - self.began, size, *values)


def _coarse_to_fine(loss, target, paintings, shares, descent, init, scales, seed):
    """Yield (Step, pixels) of every scale, counted on from scale to scale; each starts from the last one's result."""
    iterations = evaluations = seconds = 0
    pixels = None
    for scale in reversed(range(scales)):
        size = [side // 2**scale for side in target.shape[-2:]]
        if scale and min(size) < LEAST_SIDE:
            raise AllaprimaError(f"{scales} scales begin at {size[1]}x{size[0]} pixels, which is too small: use fewer.")
        at = _resize(target, size)
        styles = [_long_side(painting, max(painting.shape[-2:]) // 2**scale) for painting in paintings]
        start = _start(init, at, styles[0], seed) if pixels is None else _resize(pixels, size)
        targets = loss.content_targets(_rgb(at)), _blend([loss.style_targets(_rgb(style)) for style in styles], shares)
        for step, pixels in descend(loss, start, *targets, descent):
            yield (
                replace(
                    step,
                    iteration=iterations + step.iteration,
                    evaluations=evaluations + step.evaluations,
                    seconds=seconds + step.seconds,
                ),
                pixels,
            )
        iterations, evaluations, seconds = (
            iterations + step.iteration,
            evaluations + step.evaluations,
            seconds + step.seconds,
        )


def _start(init, target, style, seed):
    if init == "content":
        return target
    if init == "noise":
        noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(seed))
        return (0.5 + 0.15 * noise).clamp(0, 1).to(target.device)
    height, width = target.shape[-2:]
    ratio = max(height / style.shape[-2], width / style.shape[-1])
    covering = _resize(style, [math.ceil(side * ratio) for side in style.shape[-2:]])
    return covering[..., :height, :width]


def _blend(targets, shares):
    """Gram matrices of several paintings, each with its share."""
    return {layer: sum(share * one[layer] for share, one in zip(shares, targets)) for layer in targets[0]}


def _balanced(network, paintings, shares, objective: Objective) -> Objective:
    """`balance` for several paintings: each layer's weight is the mean of what each painting would have."""
    if not objective.content and not objective.style:
        return objective
    photos = Photos(size=256).batch(8, seed=0).to(network.mean.device)
    each = [balance(network, _rgb(painting), photos, objective) for painting in paintings]
    style = {layer: sum(share * one.style[layer] for share, one in zip(shares, each)) for layer in objective.style}
    return replace(each[0], style=style)


def _without_idle_layers(objective: Objective) -> Objective:
    """A weight of 0 means that layers of that kind are not computed."""
    check_J(objective.content, objective.style, objective.alpha, objective.beta, objective.tv)
    return replace(
        objective, content=objective.content if objective.alpha else {}, style=objective.style if objective.beta else {}
    )


def _shares(weights, count):
    if not count:
        raise AllaprimaError("styles is empty: give at least one painting.")
    weights = [1.0] * count if weights is None else weights
    numbers = isinstance(weights, list | tuple) and all(isinstance(weight, int | float) for weight in weights)
    if not (numbers and len(weights) == count and min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise AllaprimaError(
            f"style_weights must be {count} numbers, one for each painting, at least 0 and not all 0, not {weights}."
        )
    return [weight / sum(weights) for weight in weights]


def _rgb(picture):
    return picture.expand(-1, 3, -1, -1)


def _luminance(picture):
    """Y of Rec. 601, [1, 1, H, W]."""
    weights = picture.new_tensor(REC601).view(1, 3, 1, 1)
    return (picture * weights).sum(1, keepdim=True)


def _like(luminance, target):
    """Luminance with the mean and the deviation of another (equation 10 of the paper on colours)."""
    ratio = target.std() / luminance.std().clamp_min(1e-3)
    return ((luminance - luminance.mean()) * ratio + target.mean()).clamp(0, 1)


def _resize(picture, size):
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    return F.interpolate(picture, tuple(size), mode="bicubic", antialias=True).clamp(0, 1)


def _long_side(picture, side):
    ratio = side / max(picture.shape[-2:])
    return _resize(picture, [max(32, round(n * ratio)) for n in picture.shape[-2:]])


def default_network(name="vgg16_oxford", pooling="max", weights=None, listener: Listener = ignore) -> LossNetwork:
    """The loss network on the best device, in bfloat16 where that is faster (L-BFGS gets as far in it).

    listener: is told of a download.
    """
    device = default_device()
    return LossNetwork(name, pooling, weights, fast_dtype(device), listener).to(device)
