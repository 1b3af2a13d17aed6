"""Datamodules under the names that papers and users know."""

from anomalib.data import BTech, MVTecAD


class MVTec(MVTecAD):
    """anomalib's :class:`MVTecAD`; results are filed under the shorter name."""


class BTAD(BTech):
    """anomalib's :class:`BTech`, the beanTech data set, under the name its paper gave it."""
