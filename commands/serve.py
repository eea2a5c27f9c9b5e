"""The commands `studio`, `serve` and `export-web`."""

from typing import Annotated

from typer import Option

from allaprima.commands.styles import Provider, Threads
from allaprima.commands.terminal import Terminal, console, say
from allaprima.core.checks import check_path
from allaprima.core.errors import AllaprimaError, import_with_extra


def studio(
    port: Annotated[int, Option(help="Port on this machine; 0 for a free one.")] = 8017,
    browser: Annotated[bool, Option(help="Open the page in a browser.")] = True,
    library: Annotated[
        str | None, Option(help="Folder of your styles and trainings. Default: that of allaprima models.")
    ] = None,
):
    """Open a page in a browser: paint camera, photos and clips, train styles, convert files.

    allaprima studio
    """
    run = import_with_extra("allaprima.serve.studio").studio
    folder = None if library is None else check_path("library", library)
    run(port, folder, browser=browser, listener=lambda event: say(event.about))


def serve(
    host: Annotated[str, Option(help="Address to listen at; 0.0.0.0 for all, which needs a token.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen at; 0 for a free one.")] = 8018,
    token: Annotated[
        str | None,
        Option(envvar="ALLAPRIMA_TOKEN", help="What clients must send; one is made and printed where it is needed."),
    ] = None,
    name: Annotated[
        list[str] | None, Option(help="A host name that the server is asked by; may be given several times.")
    ] = None,
    queue: Annotated[int, Option(help="Pictures accepted at a time; more are answered 503.")] = 8,
    clients: Annotated[int, Option(help="Pages that frames are painted for at a time.")] = 8,
    megabytes: Annotated[float, Option(help="Largest body of a request.")] = 25,
    megapixels: Annotated[float, Option(help="Largest picture.")] = 24,
    seconds: Annotated[float, Option(help="Longest time of a request.")] = 30,
    provider: Provider = None,
    threads: Threads = None,
):
    """Paint pictures for other programs over HTTP, and serve the Paint page.

    curl --data-binary @photo.jpg 'localhost:8018/api/stylize?style=wave' -o painted.jpg
    """
    service = import_with_extra("allaprima.serve.service")
    if token is None and console.quiet and service.needs_token(host):
        raise AllaprimaError("The token that is made would not be seen with --quiet: give one with --token.")
    service.serve(
        host,
        port,
        token=token,
        names=name or (),
        limits=service.Limits(megabytes, megapixels, seconds, queue, clients),
        provider=provider,
        threads=threads,
        listener=lambda event: say(event.about),
    )


def export_web(
    output: Annotated[str, Option("--output", "-o", help="The folder to write.")] = "site",
    model: Annotated[
        list[str] | None,
        Option(
            "--model",
            "-m",
            help="A style or model file; may be given several times. Default: all that are for a camera.",
        ),
    ] = None,
):
    """Write the Paint page with your styles as a folder that any web host can serve.

    allaprima export-web -m wave -m mine.onnx -o site/
    """
    from allaprima.serve.site import export_web as export

    with Terminal() as listener:
        export(model, output, listener=listener)
