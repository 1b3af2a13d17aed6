"""Resizing with antialiasing that can be exported, so that exports resize as in training.

anomalib disables antialiasing in exports, because OpenVINO computes ONNX's operator wrongly. For images twice as large
as the model's, scores then differ from the engine's by a tenth of their spread and more.
"""

from typing import Any

import torch
from anomalib.pre_processing import PreProcessor
from anomalib.pre_processing.utils.transform import get_exportable_transform
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, InterpolationMode, Resize, Transform


def pre_process(pre_processor: nn.Module | None, images: Tensor) -> Tensor:
    """Apply a pre-processor to images (B, C, H, W) as anomalib's engine does, in exported graphs too."""
    if not isinstance(pre_processor, PreProcessor):
        return images if pre_processor is None else pre_processor(images)
    if pre_processor.transform is None:
        return images
    if torch.compiler.is_exporting():
        return transform_for_export(pre_processor.transform, images)
    return pre_processor.transform(images)


class AntialiasedPreProcessor(PreProcessor):
    """Pre-processor whose exports resize as the engine does; for anomalib's own models, whose exports do not."""

    def forward(self, batch: Tensor) -> Tensor:
        """Apply the transform to images (B, C, H, W) in [0, 1] of any size."""
        return pre_process(self, batch)


def transform_for_export(transform: Transform, images: Tensor) -> Tensor:
    """Apply a pre-processor's transform to images (B, C, H, W), by operations that can be exported for any size."""
    if isinstance(transform, Compose):
        for part in transform.transforms:
            images = transform_for_export(part, images)
        return images
    if _is_antialiased(transform):
        height, width = transform.size
        return resize_antialiased(images, (height, width))
    exportable = get_exportable_transform(transform)
    return exportable(images) if exportable else images


def resize_antialiased(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, H, W), of any size, as torchvision does, bilinearly with antialiasing, by two matrix products."""
    height, width = images.shape[-2:]
    if isinstance(height, int) and isinstance(width, int) and (height, width) == size:
        return images
    rows = interpolation_weights(height, size[0], images)
    columns = interpolation_weights(width, size[1], images)
    return rows @ (images @ columns.T)


def interpolation_weights(old: int, new: int, like: Tensor) -> Tensor:
    """Compute the weights (new, old) of the old pixels of a line in the new ones.

    Each row is a triangle around the centre of the new pixel that extends to the centres of its neighbours, and at
    least to those of the old pixel's. Integers up to the last step keep it exact in any precision of the graph:
    bfloat16 cannot represent the index of every pixel of a thousand. ``old`` may be symbolic; the result gets device
    and type of ``like``.
    """
    old_centres = (2 * torch.arange(old, device=like.device) + 1) * new
    new_centres = (2 * torch.arange(new, device=like.device) + 1) * old
    reach: Any = 2 * torch.sym_max(old, new)
    distances = (old_centres - new_centres[:, None]).abs()
    weights = (reach - distances).clamp(min=0)
    return weights.to(like.dtype) / weights.sum(dim=1, keepdim=True).to(like.dtype)


def _is_antialiased(transform: Transform) -> bool:
    return (
        isinstance(transform, Resize)
        and bool(transform.antialias)
        and InterpolationMode(transform.interpolation) == InterpolationMode.BILINEAR
        and transform.size is not None
        and len(transform.size) == 2
    )
