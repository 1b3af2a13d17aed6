"""Synthetic anomalies: batched, reproducible image transforms."""

from anomalib_plus.transforms.augmenter import Augmenter, SyntheticBatch, build_augmenter
from anomalib_plus.transforms.contamination import Contamination
from anomalib_plus.transforms.crack import Crack
from anomalib_plus.transforms.defect_bank import DefectBank
from anomalib_plus.transforms.delete_paste import Cutout, CutPaste, DeletePaste
from anomalib_plus.transforms.fibre import Fibre
from anomalib_plus.transforms.hole import Hole
from anomalib_plus.transforms.image_only import ImageOnly
from anomalib_plus.transforms.mix import Mix
from anomalib_plus.transforms.nuisance import Nuisance
from anomalib_plus.transforms.perlin_anomaly import PerlinAnomaly
from anomalib_plus.transforms.scratch import Scratch
from anomalib_plus.transforms.stain import Stain
from anomalib_plus.transforms.superpixel_filling import SuperpixelFilling
from anomalib_plus.transforms.texture_source import TextureSource
from anomalib_plus.transforms.warp import Dent, Warp

__all__ = [
    "Augmenter",
    "Contamination",
    "Crack",
    "CutPaste",
    "Cutout",
    "DefectBank",
    "DeletePaste",
    "Dent",
    "Fibre",
    "Hole",
    "ImageOnly",
    "Mix",
    "Nuisance",
    "PerlinAnomaly",
    "Scratch",
    "Stain",
    "SuperpixelFilling",
    "SyntheticBatch",
    "TextureSource",
    "Warp",
    "build_augmenter",
]
