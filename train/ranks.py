"""What the processes of one training do together: each makes its share of every batch, on a GPU of its own.

All hold the same network, and move it by the same gradient, the mean of theirs: so they agree on all that follows from it
without a word. The first one writes the files. A process that is alone pays for none of this.

They are told of each other by the variables that torchrun sets: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

from allaprima.core.errors import AllaprimaError
from allaprima.models.devices import check_device, default_device

Value = TypeVar("Value")


@contextmanager
def joined(device: str | torch.device | None = None) -> Iterator[torch.device]:
    """Take part in the training that the environment names, if any; yields the device of this process.

    device: None, or "cuda", for the GPU whose number is LOCAL_RANK; the processes talk by NCCL then, by Gloo otherwise.
    Raises AllaprimaError for a device that this machine does not have.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield check_device(device)
        return
    name = str(device or default_device())
    found = check_device(f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" else name)
    if found.type == "cuda":
        torch.cuda.set_device(found)
    distributed.init_process_group("nccl" if found.type == "cuda" else "gloo")
    yield found
    distributed.destroy_process_group()  # not after an exception, when others may wait in a message that never ends


def count() -> int:
    """How many processes make this training."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def restarted() -> bool:
    """Whether torchrun has begun anew after the death of a process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def is_first() -> bool:
    """Whether this is the process that writes the files."""
    return count() == 1 or distributed.get_rank() == 0


def share(batch: int) -> slice:
    """Which photos of a batch are this process's: another part in each, and all of the same size.

    Raises AllaprimaError when there is no such part.
    """
    if batch % count():
        raise AllaprimaError(f"batch must be a multiple of {count()}, the processes that share it, not {batch}.")
    each = batch // count()
    first = each * (distributed.get_rank() if count() > 1 else 0)
    return slice(first, first + each)


@torch.no_grad()
def average(tensors: list[torch.Tensor]) -> None:
    """Replace float32 tensors by their means over the processes, the same to the last bit in each.

    In one message: a network of 0.23 MB gains nothing from one that begins before its gradient is complete.
    """
    if count() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= count()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))


def of_first(make: Callable[[], Value]) -> Value:
    """What `make()` returns in the first process, or the AllaprimaError that it raises there, in all of them."""
    if count() == 1:
        return make()
    found: list = [None]
    if is_first():
        try:
            found = [make()]
        except AllaprimaError as error:
            found = [error]
    distributed.broadcast_object_list(found)
    if isinstance(found[0], AllaprimaError):
        raise found[0]
    return found[0]
