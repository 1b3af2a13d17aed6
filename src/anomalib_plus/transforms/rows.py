"""Rows of a batch that the host chose."""

import torch
from torch import Tensor


def rows_where(chosen: Tensor, device: torch.device) -> Tensor:
    """Positions of True in ``chosen`` (B,), a host tensor, as an index on ``device``.

    Indexing an accelerator's tensor with ``chosen`` itself would make the host wait for the device.
    """
    return chosen.nonzero().flatten().to(device, non_blocking=True)


def select_rows(batch: Tensor, chosen: Tensor) -> Tensor:
    """``batch[chosen]`` for a host mask; the batch itself, uncopied, if all are chosen."""
    return batch if chosen.all() else batch.index_select(0, rows_where(chosen, batch.device))


def replace_rows(batch: Tensor, chosen: Tensor, replacement: Tensor) -> Tensor:
    """Copy of ``batch`` with ``batch[chosen]`` replaced; the replacement itself if all rows are chosen.

    Slice by slice, because the host knows the slices and ``index_copy`` is no block copy.
    """
    if chosen.all():
        return replacement
    result = batch.clone()
    for row, new in zip(chosen.nonzero().flatten().tolist(), replacement, strict=True):
        result[row] = new
    return result
