"""Scores of good validation images and the parts that they show, gathered from all processes."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from anomalib.data import Batch
from anomalib.data.utils import LabelName
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import CatMetric, Metric
from torchmetrics.utilities import dim_zero_cat

from anomalib_plus.counts import counted
from anomalib_plus.data.samples import samples_of
from anomalib_plus.data.stage_data import datasets_of
from anomalib_plus.validation.image_groups import compiled, named_part

_ALONE = -1
"""Number of an image that is taken for a part of its own."""


class PartNumbers(Metric):
    """Numbers of parts (n,), int64, gathered from all processes; ``CatMetric`` would round them to float32."""

    numbers: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("numbers", [], dist_reduce_fx="cat")

    def update(self, numbers: Tensor) -> None:
        """Add numbers (B,)."""
        self.numbers.append(numbers)

    def compute(self) -> Tensor:
        """Concatenate the numbers."""
        return dim_zero_cat(self.numbers)


class GoodImages(nn.Module):
    """Collection of the good images of a validation, with the parts that they show.

    The methods' ``group_by`` is a regular expression that finds the part in an image's path; None to take it from the
    datasets' samples, as far as these name it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_scores, self.pixel_scores = CatMetric(nan_strategy="disable"), CatMetric(nan_strategy="disable")
        self.parts = PartNumbers()
        self._named: dict[str, str] | None = None

    def add(self, batch: Batch, trainer: Trainer, group_by: str | None) -> None:
        """Add the scores and largest pixels of the good images of a batch."""
        scores, maps = batch.pred_score, batch.anomaly_map
        if scores is None and maps is not None:
            scores = maps.flatten(1).amax(1)
        if batch.gt_label is None or scores is None:
            return
        good = batch.gt_label == LabelName.NORMAL  # a process without any must also take part in the exchange
        self.image_scores.update(scores.flatten()[good].float())
        if maps is not None:
            self.pixel_scores.update(maps.flatten(1).amax(1)[good].float())
        paths: Sequence[Any] | None = getattr(batch, "image_path", None)
        part_of = self._part_of(trainer, group_by)
        names = [None] * len(good) if paths is None else [part_of(str(path)) for path in paths]
        self.parts.update(torch.tensor([_number(name) for name in names], device=good.device)[good])

    def take(self, group_by: str | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what was collected in all processes, and forget it; warn if ``group_by`` does not match all images.

        Returns:
            Scores (n,), largest pixels (n,), or (0,) for models without maps, and numbers from 0 on of the parts (n,),
            int64; each image whose part is not known has a number of its own.

        Raises:
            ValueError: If ``group_by``, the one of :meth:`add`, matches no image; None to let that pass.
        """
        metrics = (self.image_scores, self.pixel_scores, self.parts)
        images, pixels, parts = (
            torch.as_tensor(metric.compute()).flatten() if metric.update_called else torch.empty(0)
            for metric in metrics
        )
        for metric in metrics:
            metric.reset()
        self._named = None
        alone = int((parts == _ALONE).sum())
        if group_by is not None and alone:
            matched = len(parts) - alone
            if not matched:
                msg = f"group_by {group_by!r} matches no good validation image: change it, or leave it out."
                raise ValueError(msg)
            matching = f"{matched} of {counted(len(parts), 'good validation image')}"
            rank_zero_warn(f"group_by {group_by!r} matches only {matching}; the others count as a part each.")
        return images, pixels, _from_zero(parts.cpu().long())

    def _part_of(self, trainer: Trainer, group_by: str | None) -> Callable[[str], str | None]:
        """Return the function that names the part of an image file."""
        if group_by is not None:
            return partial(named_part, compiled(group_by))
        if self._named is None:
            datasets = datasets_of(trainer.val_dataloaders)
            samples = (sample for dataset in datasets for sample in samples_of(dataset) if sample)
            self._named = {sample.image: sample.part for sample in samples if sample.part is not None}
        return self._named.get


def _number(name: str | None) -> int:
    """Return the number of a part, which is the same in every process."""
    if name is None:
        return _ALONE
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:7], "big")


def _from_zero(numbers: Tensor) -> Tensor:
    """Renumber parts (n,) from 0 on, and give each image that stands alone a number of its own."""
    alone = numbers == _ALONE
    named, renumbered = numbers[~alone].unique(return_inverse=True)
    result = torch.empty_like(numbers)
    result[~alone] = renumbered
    result[alone] = len(named) + torch.arange(int(alone.sum()))
    return result
