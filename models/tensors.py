"""Pictures as tensors, and back."""

import numpy as np
import torch
from PIL import Image

from allaprima.media.pictures import read_rgb


def read_style(file, size: int) -> torch.Tensor:
    """A painting as float [1, 3, h, w], 0..1, its long side scaled to `size` pixels (up or down)."""
    return as_style(read_rgb(file), size)


def as_style(image: Image.Image, size: int) -> torch.Tensor:
    """`read_style` for a picture that is read already."""
    ratio = size / max(image.size)
    image = image.resize([max(32, round(side * ratio)) for side in image.size], Image.Resampling.LANCZOS)
    return to_tensor(image)


def to_tensor(image) -> torch.Tensor:
    """A picture, uint8 [H, W, 3] or PIL, as float [1, 3, H, W], 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def to_image(tensor: torch.Tensor) -> np.ndarray:
    """The reverse of `to_tensor`: float [1, 3, H, W] or [3, H, W], clamped to 0..1, as uint8 [H, W, 3]."""
    tensor = tensor[0] if tensor.dim() == 4 else tensor
    return (tensor.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
