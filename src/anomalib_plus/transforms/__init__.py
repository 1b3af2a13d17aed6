"""Synthetic anomalies: batched, reproducible image transforms."""

from anomalib_plus.transforms.augmenter import Augmenter, SyntheticBatch, build_augmenter
from anomalib_plus.transforms.delete_paste import Cutout, CutPaste, DeletePaste
from anomalib_plus.transforms.image_only import ImageOnly
from anomalib_plus.transforms.perlin_anomaly import PerlinAnomaly
from anomalib_plus.transforms.superpixel_filling import SuperpixelFilling
from anomalib_plus.transforms.texture_source import TextureSource

__all__ = [
    "Augmenter",
    "CutPaste",
    "Cutout",
    "DeletePaste",
    "ImageOnly",
    "PerlinAnomaly",
    "SuperpixelFilling",
    "SyntheticBatch",
    "TextureSource",
    "build_augmenter",
]
