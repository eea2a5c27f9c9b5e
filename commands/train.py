"""The `train` command."""

import os
from pathlib import Path
from typing import Annotated

import typer

from allaprima.core.errors import AllaprimaError

MODEL, OBJECTIVE, DATA = "The network", "The objective", "The photos"


def train(
    style: Annotated[Path, typer.Argument(help="The painting: any picture file, without frame or margin.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model file to write. Default: the painting's name.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="quick, balanced or best. Default: quick on a CPU, balanced on a GPU.")
    ] = None,
    config: Annotated[Path, typer.Option(help="A TOML file of settings, named as the options with _ for -.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training, or a finished one with more --steps.")
    ] = False,
    name: Annotated[str, typer.Option(help="The style's name, for the model file.")] = None,
    credit: Annotated[str, typer.Option(help="Who painted it, for the model file.")] = None,
    licence: Annotated[str, typer.Option(help="The licence of the model, for the model file.")] = None,
    no_painting: Annotated[
        bool,
        typer.Option(
            "--no-painting", help="Keep the painting out of the model file; its Gram matrices are stored instead."
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Write the report, a page with pictures, curves and the comparison.")
    ] = True,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Keep the weights of eight steps, for allaprima inspect evolution.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
    architecture: Annotated[str, typer.Option(help="live, best or johnson.", rich_help_panel=MODEL)] = None,
    start: Annotated[
        str, typer.Option("--from", help="pretrained, or scratch for random weights.", rich_help_panel=MODEL)
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimizer.", rich_help_panel=MODEL)] = None,
    batch: Annotated[int, typer.Option(help="Photos in a step.", rich_help_panel=MODEL)] = None,
    size: Annotated[int, typer.Option(help="Side of the training crops, pixels.", rich_help_panel=MODEL)] = None,
    early_size: Annotated[
        float, typer.Option(help="Side of the first crops, as a part of --size.", rich_help_panel=MODEL)
    ] = None,
    optimizer: Annotated[str, typer.Option(help="soap or adam.", rich_help_panel=MODEL)] = None,
    learning_rate: Annotated[float, typer.Option(help="The highest learning rate.", rich_help_panel=MODEL)] = None,
    warmup: Annotated[int, typer.Option(help="Steps until the highest learning rate.", rich_help_panel=MODEL)] = None,
    seed: Annotated[int, typer.Option(help="Of the first weights and the crops.", rich_help_panel=MODEL)] = None,
    style_size: Annotated[
        int, typer.Option(help="The painting's long side, pixels: larger, larger strokes.", rich_help_panel=OBJECTIVE)
    ] = None,
    alpha: Annotated[float, typer.Option(help="Weight of the content.", rich_help_panel=OBJECTIVE)] = None,
    beta: Annotated[
        float, typer.Option(help="Weight of the style, fixed, instead of --stylization.", rich_help_panel=OBJECTIVE)
    ] = None,
    stylization: Annotated[
        float, typer.Option(help="How far to go from the photo: 0.4 a little, 0.8 far.", rich_help_panel=OBJECTIVE)
    ] = None,
    stability: Annotated[
        float, typer.Option(help="Weight of what camera noise changes in the picture.", rich_help_panel=OBJECTIVE)
    ] = None,
    evenness: Annotated[
        float, typer.Option(help="Weight of a grid in the picture, as networks leave it.", rich_help_panel=OBJECTIVE)
    ] = None,
    tv: Annotated[float, typer.Option(help="Weight of the total variation.", rich_help_panel=OBJECTIVE)] = None,
    content_layers: Annotated[str, typer.Option(help="As relu3_3=1.", rich_help_panel=OBJECTIVE)] = None,
    style_layers: Annotated[str, typer.Option(help="As relu1_2=1,relu2_2=0.5.", rich_help_panel=OBJECTIVE)] = None,
    loss_network: Annotated[str, typer.Option(help="vgg16_oxford, vgg16 or vgg19.", rich_help_panel=OBJECTIVE)] = None,
    loss_weights: Annotated[str, typer.Option(help="A local file of its weights.", rich_help_panel=OBJECTIVE)] = None,
    pooling: Annotated[str, typer.Option(help="max or avg, in the loss network.", rich_help_panel=OBJECTIVE)] = None,
    photos: Annotated[
        str, typer.Option(help="A folder or a video. Default: the bundled photos.", rich_help_panel=DATA)
    ] = None,
    held_out: Annotated[int, typer.Option(help="Photos kept out to measure on.", rich_help_panel=DATA)] = None,
):
    """Train a style from one painting and write it as one ONNX file.

    Example: allaprima train examples/styles/starry_night.jpg -o starry.onnx
    """
    # A thread that waits for the next piece of work sleeps, or training is several times slower beside any other program;
    # but not at once, or it is half as long again beside none. GNU's OpenMP can wait so: some microseconds (docs/networks.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        from allaprima.train import settings as s
        from allaprima.train.trainer import saved_settings, train_style
    except ImportError as error:
        raise AllaprimaError("Training needs more packages: pip install 'allaprima[train]'.") from error
    from allaprima.core.progress import console
    from allaprima.models.devices import check_device

    device = check_device(device)
    output = output or style.with_suffix(".onnx").name
    changes = {
        "architecture": architecture,
        "start": start,
        "steps": steps,
        "batch": batch,
        "size": size,
        "early_size": early_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "warmup": warmup,
        "seed": seed,
        "style_size": style_size,
        "alpha": alpha,
        "beta": beta,
        "stylization": stylization,
        "stability": stability,
        "evenness": evenness,
        "tv": tv,
        "content_layers": s.parse_layers(content_layers),
        "style_layers": s.parse_layers(style_layers),
        "loss_network": loss_network,
        "loss_weights": loss_weights,
        "pooling": pooling,
        "photos": photos,
        "held_out": held_out,
        "snapshots": snapshots or None,
    }
    if resume and not (preset or config):
        settings = s.change(saved_settings(output), changes)
    else:
        chosen = preset or s.preset_for(device.type)
        if not preset:
            console.print(f"Found {_hardware(device)}: preset {chosen}.")
        settings = s.make_settings(chosen, config, **changes)
    train_style(
        style,
        output,
        settings,
        resume=resume,
        device=device,
        report=report,
        painting=not no_painting,
        name=name,
        credit=credit,
        licence=licence,
    )
    if report:
        console.print(f"Report: {Path(output).with_suffix('.html')}")
    console.print(f"Next: allaprima stylize photo.jpg -m {output}   or, with a webcam: allaprima live -m {output}")


def _hardware(device):
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU cores" if device.type == "cpu" else "an Apple GPU"
