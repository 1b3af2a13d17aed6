"""A synthetic anomaly as an ordinary image augmentation."""

from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv


class ImageOnly(v2.Transform):
    """Keep the image of an (image, mask) transform and drop its mask.

    Made for places that expect a torchvision transform, such as ``train_augmentations`` of an anomalib datamodule.
    Images, float in [0, 1] or 8-bit, keep their type; masks and other companions pass through untouched.

    Args:
        transform: A transform of this package.
    """

    _transformed_types: ClassVar = (tv_tensors.Image, tv.is_pure_tensor)

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.synthesis = transform

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse PIL images, which would pass unchanged.

        Raises:
            TypeError: If there is a PIL image among the inputs.
        """
        if any(isinstance(item, Image.Image) for item in flat_inputs):
            msg = "ImageOnly works on tensors: put torchvision.transforms.v2.ToImage() before it."
            raise TypeError(msg)

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Corrupt one image or batch."""
        del params
        dtype = inpt.dtype
        images = tv.to_dtype(inpt.as_subclass(Tensor), dtype if dtype.is_floating_point else torch.float32, scale=True)
        corrupted, _ = self.synthesis(images)
        return tv_tensors.wrap(tv.to_dtype(corrupted, dtype, scale=True), like=inpt)
