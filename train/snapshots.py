"""Snapshots: the network's weights at some steps of a training, for `allaprima inspect evolution`.

When they are taken follows Zeiler and Fergus, *Visualizing and Understanding Convolutional Networks*, 2013, figure 4,
where features of 64 epochs are shown at 1, 2, 5, 10, 20, 30, 40 and 64.
"""

import json
from pathlib import Path

from safetensors.torch import save

from allaprima.core.files import write_atomically

PARTS = (1, 2, 5, 10, 20, 30, 40, 64)  # of 64


def snapshot_steps(steps: int) -> list[int]:
    """The steps of a training of so many steps behind which a snapshot is taken."""
    return sorted({max(1, round(steps * part / 64)) for part in PARTS})


def keep_snapshot(trainer, run: Path):
    """Write the network's weights into the folder `run` if the step just done is one of those."""
    if trainer.done in snapshot_steps(trainer.settings.steps):
        tensors = {key: value.detach().cpu().contiguous() for key, value in trainer.network.state_dict().items()}
        values = {"settings": trainer.settings.to_dict(), "style": trainer.style_digest, "step": trainer.done}
        data = save(tensors, {"allaprima": json.dumps(values)})
        write_atomically(run / f"snapshot-{trainer.done:06d}.safetensors", data)
