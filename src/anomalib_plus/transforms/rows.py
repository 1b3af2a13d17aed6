"""Rows of a batch that the host chose, and scattered elements of a batch."""

import numpy as np
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

    One copy of whole slices, because the host knows the slices and ``index_copy`` is no block copy.
    """
    if chosen.all():
        return replacement
    rows = list(batch)
    for row, new in zip(chosen.nonzero().flatten().tolist(), replacement, strict=True):
        rows[row] = new
    return torch.stack(rows)


def take(batch: Tensor, positions: Tensor) -> Tensor:
    """Do what ``batch.take(positions)`` does, for a contiguous batch in half the time on a CPU."""
    return batch.view(-1).index_select(0, positions.flatten()).view(positions.shape)


def true_positions(masks: Tensor) -> Tensor:
    """Positions (N,) of True in a flattened batch of masks."""
    flat = masks.flatten()
    # On a CPU NumPy takes a quarter of the time.
    return torch.from_numpy(np.flatnonzero(flat.numpy())) if flat.device.type == "cpu" else flat.nonzero().flatten()
