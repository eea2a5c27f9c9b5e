"""Checkpoints and snapshots: tensors and plain values in one safetensors file, so that reading one runs no code."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from allaprima.core import __version__
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import write_atomically
from allaprima.train.settings import Settings

FORMAT = 5  # 1 had a history without the names of its terms, 2 settings without motion, 3 and 4 other networks `live`
PARTS = (1, 2, 5, 10, 20, 30, 40, 64)  # of 64: when snapshots are taken


def checkpoint_of(output) -> Path:
    """Where the checkpoint of a training that writes `output` is."""
    return Path(output).with_suffix(".run") / "checkpoint.safetensors"


def snapshot_steps(steps: int) -> list[int]:
    """The steps of a training of so many steps after which a snapshot is taken, for `allaprima inspect evolution`.

    Zeiler and Fergus, *Visualizing and Understanding Convolutional Networks*, 2013, figure 4, show the features of 64
    epochs at 1, 2, 5, 10, 20, 30, 40 and 64.
    """
    return sorted({max(1, round(steps * part / 64)) for part in PARTS})


def write_checkpoint(path, tensors: dict[str, torch.Tensor], values: dict) -> None:
    """Write tensors, and values that JSON can hold, whole or not at all."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps({"format": FORMAT, "version": __version__, **values})
    write_atomically(path, save(tensors, {"allaprima": text}))  # its own writer leaves a file that only we may read


def read_checkpoint(path) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors and values of a checkpoint or a snapshot; among the values, `settings` are Settings.

    Raises AllaprimaError when it is missing, damaged, or of another format than this version writes.
    """
    try:
        with safe_open(path, "pt") as file:
            values = json.loads(file.metadata()["allaprima"])
            found = values.get("format", 1)
            if found == FORMAT:
                values["settings"] = Settings(**values["settings"])
                return {key: file.get_tensor(key) for key in file.keys()}, values
    except FileNotFoundError as error:
        raise AllaprimaError(f"There is no training to continue at {path}: leave out --resume to start one.") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, AllaprimaError) as error:
        raise damaged(path) from error
    by = f"allaprima {values['version']}" if "version" in values else "an earlier version"
    raise AllaprimaError(
        f"{path} has format {found}, of {by}, and this version reads format {FORMAT}: "
        "use that version, or delete the file and train again."
    )


def damaged(path) -> AllaprimaError:
    """The sentence about a checkpoint that can't be read."""
    return AllaprimaError(f"{path} is not a checkpoint of allaprima, or it is damaged: delete it and train again.")


def saved_settings(output) -> Settings:
    """The settings of the training that writes `output`, from its checkpoint."""
    return read_checkpoint(checkpoint_of(output))[1]["settings"]


def network_weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's own among the tensors of a checkpoint, by their names in the network."""
    return {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
