"""What the machine at hand can compute with."""

import torch

from allaprima.core.errors import AllaprimaError


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
