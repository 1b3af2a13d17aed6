"""Images at the ends of the range, without gradients or with nothing but gradients."""

import torch
from torch import Tensor


def difficult_images(height: int, width: int) -> dict[str, Tensor]:
    """Images (3, H, W) in [0, 1] by name."""
    checkerboard = ((torch.arange(height)[:, None] + torch.arange(width)) % 2).float().expand(3, height, width)
    one_pixel = torch.zeros(3, height, width)
    one_pixel[:, height // 2, width // 3] = 1.0
    return {
        "black": torch.zeros(3, height, width),
        "grey": torch.full((3, height, width), 0.5),
        "white": torch.ones(3, height, width),
        "noise": torch.rand(3, height, width),
        "checkerboard": checkerboard.clone(),
        "one line": torch.zeros(3, height, width).index_fill(2, torch.tensor([width // 2]), 1.0),
        "one pixel": one_pixel,
    }
