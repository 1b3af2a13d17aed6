"""Small defects in large images: any model on overlapping tiles."""

from anomalib_plus.tiling.lightning_model import Tiled

__all__ = ["Tiled"]
