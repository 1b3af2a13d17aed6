"""Full precision for statistics of images."""

import contextlib
from contextlib import AbstractContextManager

import torch


def full_precision(device_type: str) -> AbstractContextManager:
    """Disable autocast: variances computed as differences of means (SSIM, GMSD) are noise in half precision.

    The caller casts the inputs (``tensor.float()``). If autocast is off anyway, this does nothing, which keeps it out
    of exported graphs.
    """
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
