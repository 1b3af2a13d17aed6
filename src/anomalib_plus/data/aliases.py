"""Datamodules under the names that papers and users know."""

from anomalib.data import BTech, MVTecAD

from anomalib_plus.data.mask_pairs import check_mask_pairs


class MVTec(MVTecAD):
    """anomalib's :class:`MVTecAD`; results are filed under the shorter name."""

    def _setup(self, _stage: str | None = None) -> None:
        check_mask_pairs(self)
        super()._setup(_stage)


class BTAD(BTech):
    """anomalib's :class:`BTech`, the beanTech data set, under the name its paper gave it."""
