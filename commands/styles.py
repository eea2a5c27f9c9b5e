"""Signatures of the commands that run a style; the work is in the modules beside."""

import os
from contextlib import suppress
from functools import partial
from math import isnan
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from allaprima.commands.pipes import check_pipes, through_pipes
from allaprima.commands.terminal import Terminal, print_table, result, say
from allaprima.core.checks import check_path, names_folder
from allaprima.core.errors import AllaprimaError, import_with_extra
from allaprima.core.events import Wrote
from allaprima.infer.library import DEFAULT_STYLE

Model = Annotated[str, typer.Option("--model", "-m", help="A style that `allaprima models` lists, or a model file.")]
Strength = Annotated[float, typer.Option("--strength", "-s", help="0 is the photo, 1 the full style.")]
Stroke = Annotated[
    float | None,
    typer.Option(
        help="Size of the strokes in proportion to the picture, 0.5 to 2; 1 is that of 640x480. "
        "Default: so many pixels, whatever the picture's size."
    ),
]
KeepColors = Annotated[bool, typer.Option("--keep-colors", help="Keep the colours of the photo.")]
Steady = Annotated[
    bool,
    typer.Option(
        help="In videos and live, keep strokes on what they paint; or paint each frame anew, which is faster."
    ),
]
Provider = Annotated[
    str | None,
    typer.Option(help="Run on cpu, cuda, coreml, directml, openvino or tensorrt; the best installed one if not given."),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; one for each physical core if not given.")]
Foreign = Annotated[
    str | None,
    typer.Option(metavar="0..1|0..255", help="The model is not ours: float [N, 3, H, W], with values in this range."),
]


Deinterlace = Annotated[bool, typer.Option(help="Make whole frames of a video's interlaced ones.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that allaprima did not make, too.")]


def stylize(
    sources: Annotated[list[str], typer.Argument(help="Pictures, videos, folders of them; - for standard input.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="File, or folder for several; - for standard output. Default: beside the source."
        ),
    ] = None,
    model: Model = DEFAULT_STYLE,
    strength: Strength = 1.0,
    stroke: Stroke = None,
    keep_colors: KeepColors = False,
    steady: Steady = True,
    provider: Provider = None,
    threads: Threads = None,
    foreign: Foreign = None,
    overwrite: Overwrite = False,
    deinterlace: Deinterlace = True,
    workers: Annotated[
        int | None,
        typer.Option(help="Paint an archive with so many processes of one thread each; a rerun goes on with the rest."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|local|ADDRESS",
            help="Paint an archive on a Ray cluster: the one of this machine, one of this machine alone, or another one.",
        ),
    ] = None,
):
    """Stylize pictures, folders and videos.

    allaprima stylize holiday.mp4 -m wave -o out.mp4
    """
    from allaprima.core.contract import Controls

    controls = Controls(strength, stroke, keep_colors, steady)
    if ray is None and workers is None:
        from allaprima.infer.jobs import stylize
    else:
        from allaprima.infer.cluster import stylize_archive

        if output in (None, "-") or "-" in sources:
            raise AllaprimaError("--ray and --workers paint archives: give sources, and a folder with --output.")
        stylize = partial(stylize_archive, workers=workers, ray=ray)

    def run(sources, output):
        """The paths are printed at the end, those of a folder too that a broken file is in: bars are drawn till then."""
        written = []
        try:
            with Terminal() as terminal:
                stylize(
                    sources,
                    output,
                    model,
                    controls,
                    provider,
                    threads,
                    foreign,
                    overwrite=overwrite,
                    deinterlace=deinterlace,
                    listener=lambda e: written.append(e.path) if isinstance(e, Wrote) else terminal(e),
                )
        finally:
            yield from written

    if "-" in sources or output == "-":
        through_pipes(sources, output, run)
    else:
        for path in run(sources, output):
            result(path)


def live(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A camera's number, a video, a picture, a URL (http, rtsp), or - for standard input. Default: 0.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A style, or a model file; give several to switch between. Default: all that are for a camera.",
        ),
    ] = None,
    strength: Strength = 1.0,
    stroke: Stroke = None,
    keep_colors: KeepColors = False,
    steady: Steady = True,
    size: Annotated[str | None, typer.Option(help="The camera's picture size, 640x480 say.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Flip left and right, as a mirror does.")] = False,
    display: Annotated[
        bool | None, typer.Option(help="Show a window; --no-display for a server. Default: a window, unless --pipe.")
    ] = None,
    virtual_camera: Annotated[
        bool, typer.Option("--virtual-camera", help="Be a camera that meeting programs can choose.")
    ] = False,
    pipe: Annotated[
        bool,
        typer.Option(
            "--pipe", help="Read standard input, unless SOURCE is given; write raw frames to standard output."
        ),
    ] = False,
    record: Annotated[str | None, typer.Option(help="Record to this video file.")] = None,
    overwrite: Overwrite = False,
    frames: Annotated[int | None, typer.Option(help="Stop after so many frames.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start a file again at its end.")] = False,
    deinterlace: Deinterlace = True,
    provider: Provider = None,
    threads: Threads = None,
):
    """Stylize a camera, live in a window, a meeting or a pipe. In the window, h shows the keys.

    allaprima live -m wave

    ffmpeg -i in.mp4 -an -f nut -c:v rawvideo -pix_fmt rgb24 - | allaprima live --pipe | ffmpeg -i - out.mp4
    """
    from allaprima.core.contract import Controls, parse_size
    from allaprima.infer.library import live_styles
    from allaprima.infer.live import run_live
    from allaprima.media.sinks import FramePipe, VirtualCamera

    source = source or ("-" if pipe else "0")
    check_pipes(source == "-", pipe)
    sinks = ([VirtualCamera()] if virtual_camera else []) + ([FramePipe()] if pipe else [])
    styles = model or [DEFAULT_STYLE] + [style.name for style in live_styles() if style.name != DEFAULT_STYLE]
    with Terminal() as listener:
        run_live(
            styles,
            source,
            controls=Controls(strength, stroke, keep_colors, steady),
            size=parse_size(size) if size else None,
            mirror=mirror,
            display=not pipe if display is None else display,
            sinks=sinks,
            record=record,
            overwrite=overwrite,
            frames=frames,
            loop=loop,
            deinterlace=deinterlace,
            provider=provider,
            threads=threads,
            listener=listener,
        )


def models(
    name: Annotated[str | None, typer.Argument(help="Show all that is known of this one.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="float16|int8", help="Write a copy of it in these numbers, and say how much its pictures differ."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="With --precision: the copy, or a folder for it; - for standard output. Default: NAME-PRECISION.onnx, here.",
        ),
    ] = None,
    overwrite: Overwrite = False,
):
    """List the styles that are there: bundled ones and your own.

    Into a pipe goes a line for each, its parts with tabs between them.

    allaprima models starry_night

    allaprima models starry_night --precision float16 -o starry16.onnx
    """
    from allaprima.infer.library import list_styles, user_folder
    from allaprima.infer.stylizer import Stylizer

    if name is None and precision is not None:
        raise AllaprimaError("--precision needs the style: allaprima models NAME --precision float16.")
    if precision is None and (output is not None or overwrite):
        raise AllaprimaError("--output and --overwrite need --precision: float16 or int8.")
    if precision is not None:
        return _write_copy(name, output, precision, overwrite)
    if name is not None:
        return _print_style(Stylizer(name, provider="cpu", threads=1))
    styles = list_styles()
    table = Table(
        Column("name", min_width=max((len(s.name) for s in styles), default=0)),
        "architecture",
        "size",
        "credit",
        "licence",
        "where",
    )
    for style in styles:
        try:
            card = Stylizer(style.path, provider="cpu", threads=1).card
            known = [card.architecture, _size(style.path), card.credit, card.licence]
        except AllaprimaError as error:
            known = ["unreadable", _size(style.path), str(error), ""]
        table.add_row(*map(Text, [style.name, *known, style.where]))
    if styles:
        print_table(table)
    say(("" if styles else "No styles yet. ") + f"Your own styles: put .onnx files into {user_folder()}")


def _size(path):
    with suppress(OSError):  # a link may lead nowhere
        return f"{path.stat().st_size / 1e6:.2f} MB"
    return ""


def _print_style(stylizer):
    import json

    table = Table("", "", show_header=False)
    table.add_row("file", Text(str(stylizer.path)))
    table.add_row("size", _size(stylizer.path))
    for key, value in vars(stylizer.card).items():
        if isinstance(value, bytes):
            value = f"a JPEG of {len(value)} bytes" if value else ""
        elif key == "grams":
            value = ", ".join(value)
        elif isinstance(value, dict):
            value = json.dumps(value, indent=1).strip("{}\n")
        table.add_row(key, Text(str(value)))
    print_table(table)


def _write_copy(name, output, precision, overwrite):
    from allaprima.infer.library import find_style

    copy_in_precision = import_with_extra("allaprima.train.precision").copy_in_precision

    def run(sources, output):
        file = Path() if output is None else check_path("output", output)
        if output is None or names_folder(output) or os.path.isdir(file):
            file /= f"{find_style(name).stem}-{precision}.onnx"
        with Terminal() as listener:
            copy_in_precision(name, file, precision, overwrite=overwrite, listener=listener)
        yield file

    if output == "-":
        through_pipes([name], output, run)
    else:
        for path in run([name], output):
            result(path)


def bench(
    model: Model = DEFAULT_STYLE,
    video: Annotated[
        str | None,
        typer.Option(metavar="CLIP", help="Measure how steadily the style paints this clip, and not its speed."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="With --video: the flicker map. Default: CLIP-STYLE-flicker.png, here."),
    ] = None,
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT; may be given several times.")] = None,
    runs: Annotated[int | None, typer.Option(help="Frames timed at each size. Default: 30.")] = None,
    frames: Annotated[
        int | None, typer.Option(help="With --video: frames measured, from the beginning. Default: 40.")
    ] = None,
    strength: Strength = 1.0,
    stroke: Stroke = None,
    keep_colors: KeepColors = False,
    steady: Steady = True,
    provider: Provider = None,
    threads: Threads = None,
    foreign: Foreign = None,
    against: Annotated[str | None, typer.Option(help="The model to compare with. Default: johnson.")] = None,
    overwrite: Overwrite = False,
):
    """Measure frame rate and latency of a style on this machine, next to the johnson network.

    With --video, measure how much it flickers when things move; a picture shows where.

    allaprima bench -m wave --size 640x480
    """
    from allaprima.core.contract import Controls

    how = {"provider": provider, "threads": threads, "foreign": foreign}
    controls = Controls(strength, stroke, keep_colors, steady)
    if video is not None:
        if size or against or runs is not None:
            raise AllaprimaError(
                "--size, --runs and --against are for speed, and --video is for steadiness: leave one out."
            )
        return _bench_video(
            model, video, output, controls=controls, frames=40 if frames is None else frames, overwrite=overwrite, **how
        )
    if controls != Controls() or output or overwrite or frames is not None:
        raise AllaprimaError(
            "--strength, --stroke, --keep-colors, --no-steady, --output, --frames and --overwrite need --video: speed is measured without them."
        )
    from allaprima.infer.bench import bench

    runs = 30 if runs is None else runs
    with Terminal() as listener:
        done = bench(model, size or ["640x480", "1280x720"], runs, against=against, listener=listener, **how)
    used = f"{done.threads} threads" if done.threads else "all cores"
    table = Table(title=Text(f"{done.name} on {done.provider}, {used}, {runs} frames"))
    for head in ("size", "frames/s", "median", "p95", f"{done.against} median", "times as fast"):
        table.add_column(Text(head))
    for row in done.rows:
        times = [f"{row[key]:.1f} ms" for key in ("median", "p95", "against_median")]
        table.add_row(row["size"], f"{row['fps']:.1f}", *times, f"{row['ratio']:.1f}")
    print_table(table)


def _bench_video(model, video, output, **how):
    from allaprima.infer.steadiness import FAR, bench_video

    if output is None:
        output = f"{Path(video).stem}-{Path(model).stem}-flicker.png"
    with Terminal() as listener:
        painted, yardstick = bench_video(model, video, output, listener=listener, **how)
    table = Table(
        title=Text(f"{len(yardstick.frames)} frames of {video}, {yardstick.certain:.0%} of which can be followed")
    )
    for head in ("", "from frame to frame", f"over {FAR} frames", "detail"):
        table.add_column(Text(head))
    multiples = painted.over(yardstick.own)
    for name, row in (("the clip", yardstick.own), (Path(model).stem, painted), ("multiple", multiples)):
        table.add_row(Text(name), *("-" if isnan(value) else f"{value:.2f}" for value in vars(row).values()))
    print_table(table)
