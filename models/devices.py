"""What the machine at hand can compute with."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from allaprima.core.errors import AllaprimaError


def _leave_out_compiler():
    """Spare torch's optimizers (but its Adam) the compiler, which they load for two seconds or more to keep these out of it.

    Where a torch keeps them out of it by another name, it is loaded as before.
    """
    optimizer = torch.optim.Optimizer
    for method in (optimizer.add_param_group, optimizer.state_dict, optimizer.load_state_dict):
        function = unwrap(method)
        setattr(function, "__dynamo_disable", function)


_leave_out_compiler()


def default_device() -> torch.device:
    """CUDA when there is a GPU, then Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if fast else torch.float32


def check_device(device: str | torch.device | None) -> torch.device:
    """The device of that name, or the default for None. Raises AllaprimaError when this machine does not have it."""
    if device is None:
        return default_device()
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        here = "cpu, cuda" if torch.cuda.is_available() else "cpu, mps" if torch.backends.mps.is_available() else "cpu"
        raise AllaprimaError(f"This machine has no device {str(device)!r}. It has: {here}.") from error
    return found


class Replay:
    """What a function makes of tensors, on a GPU that repeats it without being told of each operation again: a CUDA graph.

    Hundreds of small operations take the CPU several times as long to ask for as a GPU to do. inputs: tensors, in tuples and
    dicts, of which the function is a function; anything else on the device that it reads must stay where it lies. What comes
    back lies in the same memory each time, and is overwritten by the next call of this Replay, or of another with its `pool`
    (`torch.cuda.graph_pool_handle()`), which share what they compute in.
    """

    def __init__(self, function: Callable, inputs: tuple, pool):
        self.inputs = tree_map(lambda each: each.clone() if isinstance(each, torch.Tensor) else each, inputs)
        aside = torch.cuda.Stream()  # what is prepared at a first call must not become a part of the graph
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.results = function(*self.inputs)

    def __call__(self, *inputs) -> Any:
        for kept, new in zip(tree_leaves(self.inputs), tree_leaves(inputs), strict=True):
            if isinstance(kept, torch.Tensor):
                kept.copy_(new)
        self.graph.replay()
        return self.results
