"""The report of a training: one self-contained page."""

from pathlib import Path

import numpy as np
from PIL import Image

from allaprima.baseline.compare import compare_photos
from allaprima.core.checks import check_kind, check_path
from allaprima.core.contract import SMALLEST
from allaprima.core.events import Listener, Task, Wrote, ignore
from allaprima.core.files import write_atomically
from allaprima.infer.stylizer import Stylizer
from allaprima.insight.page import Heading, Row, Table, Terms, page
from allaprima.insight.sheet import as_svg, figure
from allaprima.models.tensors import read_style, to_image
from allaprima.train.trainer import Trainer

COMPARED, COMPARED_SIZE, ITERATIONS = 2, 256, 60  # photos, their long side, iterations of the optimizer: about a minute


def write_report(
    path, trainer: Trainer, style, model, wall_seconds: float | None = None, listener: Listener = ignore
) -> Path:
    """Write the page of a finished training: pictures, curves, costs, the comparison with the optimizer, settings.

    style: the painting's path. model: the path of the trained model file. wall_seconds: of the whole training, with
    loading, measuring and export. Raises AllaprimaError when a file can't be read or written.
    """
    check_kind(Trainer, trainer=trainer)
    path, style, model = check_path("path", path), check_path("style", style), check_path("model", model)
    names = trainer.photos.names
    photos = [photo.permute(1, 2, 0).cpu().numpy() for photo in trainer.photos.held_out]
    stylized = [to_image(trainer.stylize(photo)) for photo in trainer.photos.held_out]
    compared = _compare(trainer, model, listener)
    parts = [
        _summary(trainer, model, wall_seconds),
        _terms(trainer),
        Row([(to_image(read_style(style, 512)), style.name)], small=True),
        Heading("Photos it was not trained on"),
        *(Row([(a, name), (b, "stylized")]) for a, b, name in zip(photos, stylized, names, strict=True)),
        Heading("Costs while training"),
        Row([(_curves(trainer.history), "running means over a fiftieth of the training")]),
        Heading("Costs on those photos"),
        Table(["photo", "J", "content", "style"], [[n, *c.values()] for n, c in trainer.held_out_costs().items()]),
        Heading("Against the optimizer"),
        f"The optimizer minimises the same J over the pixels by L-BFGS, starting from the photo: {ITERATIONS} iterations "
        f"at a long side of {COMPARED_SIZE} px.",
        _comparison_table(compared),
        *(
            Row(
                [
                    (c.photo, name),
                    (c.network, "network"),
                    (c.at_equivalent, "optimizer, equivalent iteration"),
                    (c.finished, f"optimizer, {ITERATIONS} iterations"),
                ]
            )
            for name, c in compared
        ),
        Heading("Settings"),
        Table(["setting", "value"], _settings(trainer)),
    ]
    write_atomically(path, page(model.stem, parts))
    listener(Wrote(path, "the report"))
    return path


def _summary(trainer, model, wall_seconds):
    s = trainer.settings
    rate = trainer.done * s.batch / max(trainer.seconds, 1e-9)
    whole = "" if wall_seconds is None else f" With loading, measuring and export it took {wall_seconds:.0f} s."
    return (
        f"{trainer.done} steps of {s.batch} photo{'s' * (s.batch > 1)} at {s.size} px in {trainer.seconds:.0f} s on "
        f"{trainer.device.type}: {rate:.1f} photos a second.{whole} The model file is {model}, "
        f"{model.stat().st_size / 1e6:.1f} MB."
    )


def _terms(trainer):
    stylization = trainer.settings.stylization
    most = f"; the most allowed was {stylization:g}" if stylization else ""
    return Terms(
        {
            "J": f"The number that training minimises, {trainer.objective.formula}; lower is better.",
            "Stylization": f"The content cost of a picture, where 1 is as far from its photo as another photo{most}.",
            "Equivalent iteration": "The first iteration of the slow optimizer whose J is at or below that of the "
            "network's one pass.",
        }
    )


def _compare(trainer, model, listener):
    names, photos = trainer.photos.names[:COMPARED], []
    for photo in trainer.photos.held_out[:COMPARED]:
        image = Image.fromarray(photo.permute(1, 2, 0).cpu().numpy())
        # of a long and narrow photo the optimizer needs as many rows as a network
        side = max(COMPARED_SIZE, SMALLEST * max(image.size) // min(image.size))
        image.thumbnail((side, side))
        photos.append(np.asarray(image))
    task = Task(
        listener, "report", len(photos) * (ITERATIONS + 1), about="Comparing with the optimizer, for the report."
    )
    rows = compare_photos(
        Stylizer(model), photos, trainer.loss, trainer.style_targets, ITERATIONS, lambda number, step: task.advance()
    )
    return list(zip(names, rows, strict=True))


def _comparison_table(compared):
    head = [
        "photo",
        "J network",
        f"J after {ITERATIONS}",
        "equivalent iteration",
        "network, s",
        "optimizer to there, s",
    ]
    rows = [
        [
            name,
            c.network_costs["J"],
            c.finished_costs["J"],
            c.equivalent_text,
            c.network_seconds,
            c.equivalent_seconds,
            f"{c.times_faster:.0f}",
        ]
        for name, c in compared
    ]
    return Table([*head, "times faster"], rows)


def _settings(trainer):
    goal = trainer.objective
    return [
        *([name, value] for name, value in trainer.settings.to_dict().items()),
        ["beta in the end", goal.beta],
        *([f"balanced content weight of {layer}", weight] for layer, weight in goal.content.items()),
        *([f"balanced style weight (lambda) of {layer}", weight] for layer, weight in goal.style.items()),
    ]


def _curves(history) -> bytes:
    """J, content and style over the steps, on a logarithmic axis, as SVG; each a running mean over a fiftieth."""
    drawing = figure(1090, 340)
    ax = drawing.subplots()
    window = max(1, len(history) // 50)
    for label, colour in {"J": "#d33", "content": "#47d", "style": "#2a2"}.items():
        costs = [row[label] for row in history]
        smooth = np.maximum(np.convolve(costs, np.ones(window) / window, "valid"), 1e-6)
        steps = np.arange(len(smooth)) + window / 2
        ax.semilogy(steps, smooth, color=colour)
        ax.annotate(
            f"{label} {smooth[-1]:.3g}",
            (steps[-1], smooth[-1]),
            (6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    ax.set_xlabel("steps", color="gray")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.tick_params(which="both", colors="gray")
    ax.grid(alpha=0.3)
    ax.margins(x=0)
    ax.spines[:].set_visible(False)
    return as_svg(drawing)
