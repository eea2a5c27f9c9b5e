"""How a training goes: what is done at which step. Pure functions of the settings, the step, and the costs so far.

So a training that was interrupted goes on as if it had not been, and several processes agree without a word. Steps are
counted from 0. The numbers are fixed, the same for all trainings, and written into the model file.
"""

import math

import numpy as np

from allaprima.train.settings import Settings

REUSE, WAITING = 4, 64  # how often a photo's crop comes back, and about how many crops lie ready for it
EARLY = 0.7  # part of the steps that is made with smaller crops
SETTLE = 0.1, 0.7  # parts of the steps: none before, all after are made with the fixed numbers of the normalizations
STEER = 0.1, 0.8  # parts of the steps between which beta is steered
SEEN = 50  # steps whose mean costs steer it: one photo says little
BETAS = 0.5, 60.0  # the range that it is steered in
BOLDNESS = 3.0  # content over style cost of a picture that is painted and still shows its photo
STEADY = 0.1  # part of the steps from which on pictures are kept from changing with noise and motion
ABREAST = 2  # steps whose gradients are computed side by side on a CPU, all from the same weights
GRADIENT = 1e6  # norm that gradients are cut to
NO_PICTURE = 1e3  # value of a pixel, 0..1 in a picture, that only a network which has diverged paints
BEGINNING, EXPLODED = 10, 10  # steps, and the multiple of their highest J that is a divergence


def learning_rate(settings: Settings, step: int, factor=1.0) -> float:
    """Half a cosine down to zero (Loshchilov and Hutter, *SGDR*, 2017), times a linear warm-up, times `factor`."""
    s = settings
    warm = min(1.0, (step + 1) / max(1, min(s.warmup, s.steps // 4)))
    return s.learning_rate * factor * warm * 0.5 * (1 + math.cos(math.pi * step / s.steps))


def settled(settings: Settings, step: int) -> bool:
    """Whether a step is made with the network as it will run, without a photo's own statistics; more and more often.

    So it learns features that need none while its steps are large, and all at once is not a shock (docs/networks.md).
    """
    first, last = SETTLE
    part = (step / settings.steps - first) / (last - first)
    return np.random.default_rng((settings.seed, step, 1)).random() < part


def steered(settings: Settings, history: list[dict[str, float]], beta: float) -> float:
    """The beta for the next step, from that of the last one and the costs of the steps so far.

    It rises until the content cost is BOLDNESS times the style cost, but not beyond the content cost that the settings
    allow; not while the first shapes appear, and not once steps are small, so that the end of a training is that of one
    objective. A cost of 0, without style or content layers, leaves it as it is.
    """
    s, step = settings, len(history)
    if not (s.stylization and s.alpha and beta and STEER[0] <= step / s.steps < STEER[1]):
        return beta
    content, style = (np.mean([row[name] for row in history[-SEEN:]]) for name in ("content", "style"))
    if not (content and style):
        return beta
    missing = max(-1.0, min(1.0, math.log(BOLDNESS * style / content), math.log(s.stylization / content)))
    beta = beta * math.exp(missing * min(0.02, 30 / s.steps))
    return max(BETAS[0], min(BETAS[1], beta))


def steadied(settings: Settings, step: int) -> bool:
    """Whether a step has a second view: not while the first shapes appear."""
    return step >= STEADY * settings.steps


def batch_number(settings: Settings, step: int) -> int:
    """Which batch a step uses: a random one of those that lie ready, so that each is used about REUSE times."""
    random = np.random.default_rng((settings.seed, step))
    return oldest_batch(step) + int(random.integers(waiting(settings)))


def oldest_batch(step: int) -> int:
    """The number of the first batch that this step or a later one may use."""
    return step // REUSE


def waiting(settings: Settings) -> int:
    """How many batches a step chooses from."""
    return max(4, WAITING // settings.batch)


def crop_part(settings: Settings, number: int) -> float:
    """The side of the crops of batch `number`, as a part of `size`: smaller ones first."""
    return settings.early_size if _is_early(settings, number) else 1.0


def _is_early(settings, number):
    """Of steps that choose from this batch, and others, the middle one is among the EARLY ones."""
    return REUSE * (number - waiting(settings) / 2) < EARLY * settings.steps


def planned(settings: Settings) -> list[tuple[float, float]]:
    """How many steps have smaller crops, and how many batches of them are made; the same for whole ones: what is expected
    of the choice by chance."""
    window, steps = waiting(settings), settings.steps
    number = np.arange(oldest_batch(steps - 1) + window)
    last, first = (np.clip(REUSE * (number + later), 0, steps) for later in (1, 1 - window))
    choose = last - first  # so many steps choose from a batch
    made, early = 1 - (1 - 1 / window) ** choose, _is_early(settings, number)
    return [(choose[part].sum() / window, made[part].sum()) for part in (early, ~early)]


def exploded(history: list[dict[str, float]], J: float) -> bool:
    """Whether J is far beyond that of the first steps, more than the noise of a batch explains. history: as of a Trainer."""
    highest = max((row["J"] for row in history[:BEGINNING]), default=J)
    return len(history) > BEGINNING and EXPLODED * highest < J
