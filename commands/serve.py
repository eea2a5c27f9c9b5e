"""The commands `studio` and `export-web`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from allaprima.commands.terminal import Terminal, say
from allaprima.core.errors import import_with_extra


def studio(
    port: Annotated[int, Option(help="Port on this machine; 0 for a free one.")] = 8017,
    browser: Annotated[bool, Option(help="Open the page in a browser.")] = True,
    library: Annotated[
        Path | None, Option(help="Folder of your styles and trainings. Default: that of allaprima models.")
    ] = None,
):
    """Open a page in a browser: paint camera, photos and clips, train styles, convert files.

    allaprima studio
    """
    run = import_with_extra("allaprima.serve.studio").studio
    run(port, library, browser=browser, listener=lambda event: say(event.about))


def export_web(
    output: Annotated[Path, Option("--output", "-o", help="The folder to write.")] = Path("site"),
    model: Annotated[
        list[str] | None,
        Option("--model", "-m", help="A style or model file; may be given several times. Default: all."),
    ] = None,
):
    """Write the Paint page with your styles as a folder that any web host can serve.

    allaprima export-web -m wave -m mine.onnx -o site/
    """
    from allaprima.serve.site import export_web as export

    with Terminal() as listener:
        export(model, output, listener=listener)
