"""The objective, in one place for the optimizer and for training.

    J = alpha * J_content + beta * sum_l lambda[l] * J_style[l] + tv * TV

Gatys, Ecker and Bethge, *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016; Johnson, Alahi and
Fei-Fei, *Perceptual Losses for Real-Time Style Transfer and Super-Resolution*, ECCV 2016. For content image C, style
image S, generated image G, and a[l] the activations of layer l (n_C channels, n_H x n_W places):

    J_content  = 1/2 ||a[l](C) - a[l](G)||^2, as written; divided by n_C n_H n_W (per element) inside J
    Gram[l]    = sum_ij a[l]_ijk a[l]_ijk'
    J_style[l] = ||Gram[l](S) - Gram[l](G)||_F^2 / (2 n_H n_W n_C)^2

J takes the content cost per element, so that alpha, beta and lambda mean the same at every resolution: J_style does not
grow with the picture, the content cost as written does. When S and G differ in size, each Gram matrix is divided by its
own n_H n_W first; with equal sizes that is the formula above.
"""

from dataclasses import asdict, dataclass, field
from typing import cast

import torch

from allaprima.core.checks import check_layer_weights, check_weight
from allaprima.core.errors import AllaprimaError
from allaprima.models.loss_network import LossNetwork

CONTENT_LAYERS = {"relu3_3": 1.0}
STYLE_LAYERS = {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0}
FLAT = 1 / 255  # standard deviation of each colour of a photo below which it is a single colour
GRAM_PARTS = 8  # of a Gram matrix; not in its class, where torch.compile breaks the graph at it


@dataclass
class Objective:
    """The weights of J. `content` and `style` map layer names to their weights (lambda for style).

    beta = 10 is where, after `balance`, a photo looks painted and is still sharp; 3 is a colour cast, 30 loses detail.
    Raises AllaprimaError for a weight that is not a number of at least 0.
    """

    content: dict[str, float] = field(default_factory=lambda: dict(CONTENT_LAYERS))
    style: dict[str, float] = field(default_factory=lambda: dict(STYLE_LAYERS))
    alpha: float = 1.0
    beta: float = 10.0
    tv: float = 0.0

    def __post_init__(self):
        check_layer_weights(content=self.content, style=self.style)
        check_weight(alpha=self.alpha, beta=self.beta, tv=self.tv)

    to_dict = asdict

    @property
    def formula(self) -> str:
        """What J is, in words; total variation only where it is asked for."""
        return "alpha * content cost + beta * style cost" + (" + tv * total variation" if self.tv else "")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term of J, by name; total variation only where it is asked for."""
        return {"content": self.alpha, "style": self.beta} | ({"tv": self.tv} if self.tv else {})


def weighted_sum(weights: dict[str, float], costs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The terms named by `weights`, each times its weight, added up: J, for the weights of an Objective."""
    return cast(torch.Tensor, sum(weight * costs[name] for name, weight in weights.items()))


@dataclass
class Costs:
    """J and what it is made of, each a float32 tensor [N], one value for each picture, with gradients.

    content: per element, weighted by layer, before alpha. content_as_written: 1/2 of the squared distance itself.
    style: sum_l lambda[l] * J_style[l], before beta. style_layers: J_style[l] of each layer, before lambda.
    """

    J: torch.Tensor
    content: torch.Tensor
    content_as_written: torch.Tensor
    style: torch.Tensor
    style_layers: dict[str, torch.Tensor]
    tv: torch.Tensor


class _Gram(torch.autograd.Function):
    """f f^T / (h w) for f [N, C, h w], and its gradient, 2 dG f for a symmetric dG, in the dtype of the activations.

    float32 and float64 are multiplied as they are. bfloat16 is multiplied in eight parts, each accumulated in float32
    by the hardware, and the parts are added in float32: 6e-4 from the exact product, less than the rounding of the
    activations themselves, in a fraction of the time. float16 has too small a range for sums, so it is widened first.
    """

    @staticmethod
    def forward(ctx, activations):
        f = activations.flatten(2)
        ctx.save_for_backward(activations)
        if f.dtype == torch.bfloat16:
            # of f^T, which is how channels_last activations lie in memory: one product of all parts, and the odd rest
            count = f.shape[2] // GRAM_PARTS
            parts, rest = f.mT.split([GRAM_PARTS * count, f.shape[2] % GRAM_PARTS], dim=1)
            parts = parts.unflatten(1, (GRAM_PARTS, count))
            gram = (parts.mT @ parts).float().sum(1) + (rest.mT @ rest).float()
        else:
            wide = f if f.dtype == torch.float64 else f.float()
            gram = wide @ wide.transpose(1, 2)
        return gram / f.shape[2]

    @staticmethod
    def backward(ctx, grad):
        (activations,) = ctx.saved_tensors
        f = activations.flatten(2)
        grad = (grad + grad.transpose(1, 2)) / f.shape[2]
        dtype = torch.float32 if f.dtype == torch.float16 else f.dtype
        # f^T dG rather than dG f: the result lies in memory as channels_last activations do
        product = f.to(dtype).transpose(1, 2) @ grad.to(dtype)
        return product.to(f.dtype).transpose(1, 2).unflatten(2, activations.shape[2:])


def gram_matrix(activations: torch.Tensor) -> torch.Tensor:
    """Gram matrix of activations [N, C, H, W] divided by H W: [N, C, C], float32 (float64 for float64)."""
    with torch.autocast(activations.device.type, enabled=False):
        return _Gram.apply(activations)


def style_cost(gram: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """J_style of one layer from Gram matrices [N, C, C] that are divided by their H W already; one value a picture."""
    return (gram - target).square().sum((1, 2)) / (4 * gram.shape[-1] ** 2)


def content_cost(activations: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1/2 ||a(C) - a(G)||^2 for activations [N, C, H, W], one value a picture, as written, accumulated in float32."""
    wide = activations.dtype if activations.dtype == torch.float64 else torch.float32
    return 0.5 * (activations.to(wide) - target.to(wide)).square().sum((1, 2, 3))


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of neighbouring pixels of images [N, 3, H, W] (0..1), one value a picture.

    The squared form of Mahendran and Vedaldi (CVPR 2015), a mean so that it does not depend on the resolution.
    """
    across = (images[..., 1:] - images[..., :-1]).square().mean((1, 2, 3))
    down = (images[..., 1:, :] - images[..., :-1, :]).square().mean((1, 2, 3))
    return across + down


class PerceptualLoss:
    """J of generated pictures, for one loss network and one Objective. Pictures are RGB [N, 3, H, W], 0..1."""

    def __init__(self, network: LossNetwork, objective: Objective):
        network.check([*objective.content, *objective.style])
        self.network, self.objective = network, objective

    def check_size(self, size, name: object):
        """Raise AllaprimaError when the picture `name`, of size (H, W), vanishes before the deepest layer of J."""
        self.network.check_size(size, [*self.objective.content, *self.objective.style], name)

    @torch.no_grad()
    def content_targets(self, content: torch.Tensor) -> dict[str, torch.Tensor]:
        """Activations of the content layers for pictures [N, 3, H, W]."""
        return self.network(content, self.objective.content) if self.objective.content else {}

    @torch.no_grad()
    def style_targets(self, style: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gram matrices (divided by H W) of the style layers for paintings [N, 3, H, W]; N = 1 serves any batch."""
        if not self.objective.style:
            return {}
        return {layer: gram_matrix(a) for layer, a in self.network(style, self.objective.style).items()}

    def __call__(self, generated, content_targets, style_targets) -> Costs:
        """The Costs of pictures [N, 3, H, W] against targets from the two methods above."""
        parts = self.parts(generated, content_targets, style_targets)
        return Costs(weighted_sum(self.objective.weights, parts), **parts)

    def parts(self, generated, content_targets, style_targets) -> dict:
        """What Costs has but J, which alone depends on alpha, beta and the weight of TV."""
        goal = self.objective
        taps = self.network(generated, [*content_targets, *style_targets]) if content_targets or style_targets else {}
        zero = generated.new_zeros(len(generated), dtype=torch.promote_types(generated.dtype, torch.float32))
        content, as_written, style = zero, zero, zero
        for layer, target in content_targets.items():
            cost = content_cost(taps[layer], target)
            as_written = as_written + cost
            content = content + goal.content[layer] * cost / target[0].numel()
        layers = {layer: style_cost(gram_matrix(taps[layer]), target) for layer, target in style_targets.items()}
        for layer, cost in layers.items():
            style = style + goal.style[layer] * cost
        tv = total_variation(generated) if goal.tv else zero
        return {"content": content, "content_as_written": as_written, "style": style, "style_layers": layers, "tv": tv}


@torch.no_grad()
def balance(network: LossNetwork, style: torch.Tensor, photos: torch.Tensor, objective: Objective) -> Objective:
    """The same objective with its weights scaled so that alpha and beta mean the same for every painting.

    Style: each lambda[l] is divided by the median of J_style[l] over untouched photos, so that every layer of every
    painting begins with its share of J_style = 1, however strong or quiet the painting is at that layer. Content: each
    weight is divided by the variance of the photos' activations, half the mean square distance of two numbers drawn from
    them, so that J_content = 1 means "as far from the photo as another photo". The variance of 32 crops differs by a tenth
    from draw to draw, the median distance of a few pairs of photos by two thirds. style: [1, 3, H, W]; photos: [N, 3, h, w];
    both 0..1.

    Raises AllaprimaError when every photo is a single colour, which leaves no such unit.
    """
    if photos.flatten(2).std(2).max() < FLAT:
        raise AllaprimaError("Every photo is a single colour: give photos of things.")
    loss = PerceptualLoss(network, objective)
    targets = loss.style_targets(style)
    taps = network(photos, [*objective.content, *objective.style])
    content, styles = {}, {}
    for layer, weight in objective.content.items():
        content[layer] = weight / taps[layer].float().var().item()
    share = sum(objective.style.values()) or 1.0
    for layer, weight in objective.style.items():
        cost = style_cost(gram_matrix(taps[layer]), targets[layer]).median().item()
        styles[layer] = weight / share / max(cost, 1e-12)
    total = sum(objective.content.values()) or 1.0
    content = {layer: weight / total for layer, weight in content.items()}
    return Objective(content, styles, objective.alpha, objective.beta, objective.tv)
