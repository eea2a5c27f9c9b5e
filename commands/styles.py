"""Signatures of the commands that run a style; the work is in the modules beside."""

from typing import Annotated

import typer

from allaprima.commands.terminal import Terminal
from allaprima.infer.library import DEFAULT_STYLE

Model = Annotated[str, typer.Option("--model", "-m", help="A style that `allaprima models` lists, or a model file.")]
Strength = Annotated[float, typer.Option("--strength", "-s", help="0 is the photo, 1 the full style.")]
Provider = Annotated[
    str | None,
    typer.Option(help="Run on cpu, cuda, coreml, directml, openvino or tensorrt; the best installed one if not given."),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; one for each physical core if not given.")]
Foreign = Annotated[
    str | None,
    typer.Option(metavar="0..1|0..255", help="The model is not ours: float [N, 3, H, W], with values in this range."),
]


def stylize(
    sources: Annotated[list[str], typer.Argument(help="Pictures, videos, folders of them.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file, or a folder for several; beside the source if not given."),
    ] = None,
    model: Model = DEFAULT_STYLE,
    strength: Strength = 1.0,
    provider: Provider = None,
    threads: Threads = None,
    foreign: Foreign = None,
):
    """Stylize pictures, folders and videos.

    allaprima stylize holiday.mp4 -m wave -o out.mp4
    """
    from allaprima.infer.jobs import stylize

    for path in stylize(sources, output, model, strength, provider, threads, foreign):
        print(path)


def live(
    source: Annotated[str, typer.Argument(help="A camera's number, a video, a picture or a URL.")] = "0",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A style, or a model file; give several to switch between."),
    ] = None,
    strength: Strength = 1.0,
    size: Annotated[str | None, typer.Option(help="The camera's picture size, 640x480 say.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Flip left and right, as a mirror does.")] = False,
    display: Annotated[bool, typer.Option(help="Show a window; --no-display for a server.")] = True,
    record: Annotated[str | None, typer.Option(help="Record to this video file.")] = None,
    frames: Annotated[int | None, typer.Option(help="Stop after so many frames.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start a file again at its end.")] = False,
    deinterlace: Annotated[bool, typer.Option(help="Make whole frames of interlaced ones.")] = True,
    provider: Provider = None,
    threads: Threads = None,
):
    """Stylize a camera, live in a window.

    allaprima live -m wave
    """
    from allaprima.core.contract import Controls, parse_size
    from allaprima.infer.library import list_styles
    from allaprima.infer.live import run_live

    styles = model or [DEFAULT_STYLE] + [style.name for style in list_styles() if style.name != DEFAULT_STYLE]
    with Terminal() as listener:
        run_live(
            styles,
            source,
            controls=Controls(strength),
            size=parse_size(size) if size else None,
            mirror=mirror,
            display=display,
            record=record,
            frames=frames,
            loop=loop,
            deinterlace=deinterlace,
            provider=provider,
            threads=threads,
            listener=listener,
        )


def models(name: Annotated[str | None, typer.Argument(help="Show all that is known of this one.")] = None):
    """List the styles that are there: bundled ones and your own.

    allaprima models starry_night
    """
    from allaprima.infer.library import show_styles

    show_styles(name)


def bench(
    model: Model = DEFAULT_STYLE,
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT; may be given several times.")] = None,
    runs: Annotated[int, typer.Option(help="Frames timed at each size.")] = 30,
    provider: Provider = None,
    threads: Threads = None,
    against: Annotated[str | None, typer.Option(help="The model to compare with; johnson if not given.")] = None,
):
    """Measure frame rate and latency of a style on this machine, next to the johnson network.

    allaprima bench -m wave --size 640x480
    """
    from allaprima.infer.bench import bench

    bench(model, size or ["640x480", "1280x720"], runs, provider, threads, against)
