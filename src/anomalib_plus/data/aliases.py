"""Datamodules of anomalib under the usual names of their data sets."""

from pathlib import Path

from anomalib.data import BTech, MVTecAD

from anomalib_plus.data.mask_pairs import check_mask_pairs
from anomalib_plus.data.plain_paths import acceptable_root


class MVTec(MVTecAD):
    """anomalib's :class:`anomalib.data.MVTecAD` under a shorter name, which results folders get too."""

    root: Path

    def _setup(self, _stage: str | None = None) -> None:
        self.root = acceptable_root(self.root, self.category)
        check_mask_pairs(self)
        super()._setup(_stage)


class BTAD(BTech):
    """anomalib's :class:`anomalib.data.BTech` (beanTech) under the name in its paper."""

    root: Path

    def _setup(self, _stage: str | None = None) -> None:
        self.root = acceptable_root(self.root, self.category)
        super()._setup(_stage)
