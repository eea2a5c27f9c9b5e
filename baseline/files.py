"""The optimizer for files: photo and paintings in, the picture, a trace and steps on the way out."""

import csv
import io
import json
import os
from dataclasses import asdict
from pathlib import Path

from allaprima.baseline.optimizer import Descent, Result, Step, optimize, progress
from allaprima.core.checks import check_file, check_kind, check_path, check_paths, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Started, Wrote, ignore
from allaprima.core.files import check_outputs, write_atomically
from allaprima.media.pictures import picture_format, read_photo, read_rgb, write_rgb
from allaprima.models.tensors import to_image


def optimize_files(
    content, styles, output, *, size=512, trace=None, every=0, overwrite=False, listener: Listener = ignore, **options
) -> Result:
    """`optimize` for files: write the picture to `output`; the `trace` to a .csv or .json file if a path is given; and
    with `every` = k the picture of every k-th iteration into the folder `<output>_steps`.

    content: the photo's path. styles: a list of the paintings' paths. size: long side in pixels that the photo is
    scaled down to. overwrite: replace files that allaprima did not make. options: those of `optimize`.
    Raises AllaprimaError for files and values that can't be used.
    """
    content, styles = check_path("content", content), check_paths("styles", styles)
    output = check_file("output", output)
    picture_format(output)
    check_whole(1, size=size)
    check_whole(0, every=every)
    if trace:
        trace = check_file("trace", trace)
        if trace.suffix.lower() not in (".csv", ".json"):
            raise AllaprimaError(f"The trace must be a .csv or .json file, not {trace}.")
    scales, descent = options.get("scales", 1), options.get("descent") or Descent()
    check_whole(1, scales=scales)
    check_kind(Descent, descent=descent)
    total = scales * descent.iterations
    folder = output.with_name(f"{output.stem}_steps")
    pictures = {k: folder / f"{k:05d}{output.suffix}" for k in range(0, total + 1, every)} if every else {}
    there = [path for k, path in pictures.items() if k == 0 or os.path.exists(path)]  # the first stands for the folder
    outputs = [output, *([trace] if trace else []), *there]
    check_outputs(outputs, [content, *styles], overwrite=overwrite, listener=listener)
    photo, paintings = read_photo(content, size), [read_rgb(style) for style in styles]
    height, width = photo.shape[:2]
    steps = f", and every {every} of them into {folder}" if every else ""
    about = f"Writing {output} ({width}x{height}) after {total} iterations{steps}. Ctrl-C keeps the best so far."
    listener(Started("optimize", total, "iterations", about))

    def each(step, picture):
        listener(progress(step))
        if step.iteration in pictures:
            write_rgb(pictures[step.iteration], to_image(picture))

    result = optimize(photo, paintings, each=each, **options)
    write_rgb(output, result.image)
    listener(Wrote(output, f"{result.ended} at iteration {result.trace[-1].iteration}"))
    if trace:
        write_trace(result.trace, trace)
        listener(Wrote(Path(trace), "J and its parts by iteration"))
    return result


def write_trace(trace: list[Step], path) -> None:
    """Write the trace to `path`: one row for each step in a .csv file, one object for each in a .json file."""
    rows = [asdict(step) for step in trace]
    if Path(path).suffix.lower() == ".json":
        write_atomically(path, json.dumps(rows, indent=1))
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
