"""Keep statistics of images out of half precision."""

import contextlib
from contextlib import AbstractContextManager

import torch


def full_precision(device_type: str) -> AbstractContextManager:
    """Switch autocast off: variances computed as differences of means (SSIM, GMSD) are noise in half precision.

    Nothing is entered where autocast is off anyway, which keeps exported graphs free of it. Inputs must be cast by the
    caller (``tensor.float()``).
    """
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
