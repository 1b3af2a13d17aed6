"""Datamodules: aliases of anomalib's, the embedded demo and one-class MNIST."""

from anomalib_plus.data.aliases import BTAD, MVTec
from anomalib_plus.data.demo_surfaces import DemoSurfaces

__all__ = ["BTAD", "DemoSurfaces", "MVTec"]
