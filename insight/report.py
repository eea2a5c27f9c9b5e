"""The report of a training: one self-contained page."""

import html
from pathlib import Path

import numpy as np
from PIL import Image

from allaprima.baseline.compare import compare_photos
from allaprima.core import __version__
from allaprima.core.files import write_atomically
from allaprima.infer.stylizer import Stylizer
from allaprima.insight.page import page, row, table
from allaprima.models.tensors import read_style, to_image

COMPARED, COMPARED_SIZE, ITERATIONS = 2, 256, 60  # photos, their long side, iterations of the optimizer: about a minute


def write_report(path, trainer, style, model, wall_seconds: float):
    """Write the page for a finished Trainer. style: the painting's path; model: the path of its model file."""
    settings, objective = trainer.settings, trainer.objective
    stylized = [to_image(trainer.stylize(photo)) for photo in trainer.photos.held_out]
    photos = [photo.permute(1, 2, 0).cpu().numpy() for photo in trainer.photos.held_out]
    rows = _compare(trainer, model)
    losses = trainer.held_out_costs()
    name = html.escape(Path(model).stem)
    rate = trainer.done * settings.batch / max(trainer.seconds, 1e-9)
    parts = [
        f"<h1>{name}</h1>",
        f"<p>{trainer.done} steps of {settings.batch} photo{'s' * (settings.batch > 1)} at {settings.size} px in "
        f"{trainer.seconds:.0f} s on {trainer.device.type}: {rate:.1f} photos a second. {wall_seconds:.0f} s with loading, measuring and export. "
        f"The model file is <b>{html.escape(str(model))}</b>, {Path(model).stat().st_size / 1e6:.1f} MB.</p>",
        row([(to_image(read_style(style, 512)), Path(style).name)], height=320),
        "<h2>Photos it was not trained on</h2>",
        *(
            row([(photo, label), (picture, "stylized")])
            for photo, picture, label in zip(photos, stylized, trainer.photos.names, strict=True)
        ),
        "<h2>Costs while training</h2>",
        _curves(trainer.history),
        "<h2>Costs on those photos</h2>",
        table(["photo", "J", "content", "style"], [[n, *c.values()] for n, c in losses.items()]),
        "<h2>Against the optimizer</h2>",
        f"<p>The same J, minimised over the pixels by L-BFGS from the photo ({ITERATIONS} iterations, long side "
        f"{COMPARED_SIZE} px). The equivalent iteration is the first whose J is at or below the network's.</p>",
        table(
            [
                "photo",
                "J network",
                f"J after {ITERATIONS}",
                "equivalent iteration",
                "network, s",
                "optimizer to there, s",
                "ratio",
            ],
            [
                [
                    n,
                    c.network_costs["J"],
                    c.finished_costs["J"],
                    c.equivalent_text,
                    c.network_seconds,
                    c.equivalent_seconds,
                    f"{c.times_faster:.0f}",
                ]
                for n, c in rows
            ],
        ),
        *(
            row(
                [
                    (c.photo, n),
                    (c.network, "network"),
                    (c.at_equivalent, "optimizer, equivalent iteration"),
                    (c.finished, f"optimizer, {ITERATIONS} iterations"),
                ]
            )
            for n, c in rows
        ),
        "<h2>Settings</h2>",
        table(
            ["setting", "value"],
            [[k, v] for k, v in settings.to_dict().items()]
            + [["beta in the end", f"{objective.beta:.3g}"]]
            + [[f"balanced content weight of {layer}", f"{w:.3g}"] for layer, w in objective.content.items()]
            + [[f"balanced style weight (lambda) of {layer}", f"{w:.3g}"] for layer, w in objective.style.items()],
        ),
        f"<p>allaprima {__version__}</p>",
    ]
    write_atomically(path, page(name, parts))


def _compare(trainer, model):
    names = trainer.photos.names[:COMPARED]
    photos = []
    for photo in trainer.photos.held_out[:COMPARED]:
        image = Image.fromarray(photo.permute(1, 2, 0).cpu().numpy())
        image.thumbnail((COMPARED_SIZE, COMPARED_SIZE))
        photos.append(np.asarray(image))
    rows = compare_photos(Stylizer(model), photos, trainer.loss, trainer.style_targets, ITERATIONS)
    return list(zip(names, rows, strict=True))


def _curves(history):
    """J, content and style over the steps, on a logarithmic axis, as SVG; each a running mean over a fiftieth."""
    width, height, left, bottom = 1000, 320, 60, 30
    columns = np.array(history).T
    window = max(1, len(history) // 50)
    smooth = [np.convolve(c, np.ones(window) / window, "valid") for c in columns]
    low, high = np.log10(max(min(c.min() for c in smooth), 1e-6)), np.log10(max(c.max() for c in smooth))
    span = max(high - low, 1e-3)

    def y(value):
        return (height - bottom) * (1 - (np.log10(np.maximum(value, 1e-6)) - low) / span)

    lines = []
    for curve, colour, label in zip(smooth, ("#c33", "#36c", "#2a2"), ("J", "content", "style"), strict=True):
        xs = left + (width - left) * (np.arange(len(curve)) + window / 2) / len(history)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(xs, y(curve), strict=True))
        lines.append(
            f"<polyline points='{points}' fill=none stroke='{colour}' stroke-width=2 />"
            f"<text x={width - 4} y={y(curve[-1]) - 6:.0f} fill='{colour}' text-anchor=end>{label} {curve[-1]:.3g}</text>"
        )
    ticks = [t for e in range(-6, 7) for t in (10.0**e, 2 * 10.0**e, 5 * 10.0**e) if low <= np.log10(t) <= high]
    for tick in ticks:
        lines.append(
            f"<text x=0 y={y(tick) + 4:.0f} fill=gray>{tick:g}</text>"
            f"<line x1={left} x2={width} y1={y(tick):.0f} y2={y(tick):.0f} stroke=gray stroke-opacity=.25 />"
        )
    for part in range(5):
        x = left + (width - left) * part / 4
        lines.append(
            f"<text x={x:.0f} y={height - 8} fill=gray text-anchor={'end' if part == 4 else 'middle'}>{len(history) * part // 4}</text>"
        )
    return f"<svg viewBox='0 0 {width} {height}' style='width:100%' font-size=14>{''.join(lines)}</svg>"
