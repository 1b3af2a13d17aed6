"""One region of interest for all images, from an image file or an array."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.tv_tensors import Mask

from anomalib_plus.image_files import inspect_image, printable
from anomalib_plus.transforms.region import Region


class FixedRegion:
    """Mask of the pixels that count, of the size of the images or of the model's input.

    Args:
        source: Image file, or array (H, W); what is not 0 counts. A file is read at first use.
    """

    def __init__(self, source: str | Path | np.ndarray | Tensor) -> None:
        self.name = printable(source) if isinstance(source, str | Path) else "given as an array"
        self._region = Region(source if isinstance(source, str | Path) else torch.as_tensor(source))

    def read(self) -> Tensor:
        """Return the mask (H, W), boolean, as it was given.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no image, or the mask is black or has another number of axes.
        """
        self._region.check()
        mask = self._region.mask
        if mask.shape[0] != 1:
            msg = f"The region of interest {self.name} must be one mask (H, W), got {len(mask)}."
            raise ValueError(msg)
        return mask[0, 0]

    def at(self, size: tuple[int, int], transform: Any = None, image_path: str | None = None) -> Tensor:
        """Bring the mask to the size (height, width) of the anomaly maps.

        A mask of the size of the image at ``image_path`` goes through the model's ``transform``.

        Raises:
            ValueError: If the mask has another size than the image and the maps, or no pixel is left of it.
        """
        mask = self.read()
        if tuple(mask.shape) == tuple(size):
            return mask
        image = inspect_image(Path(image_path)).size if image_path else None
        resized = mask
        if image is not None and image[::-1] == tuple(mask.shape) and transform is not None:
            resized = transform(Mask(mask[None].byte()))[0].as_subclass(Tensor) != 0
        if tuple(resized.shape) != tuple(size):
            seen = f"the image {printable(image_path)} {image[0]}x{image[1]}" if image_path and image else "the image ?"
            msg = (
                f"The region of interest {self.name} has {mask.shape[1]}x{mask.shape[0]} pixels, {seen} and the "
                f"anomaly maps {size[1]}x{size[0]} (width x height). Draw it on one of the images, or at the size of "
                "the maps."
            )
            raise ValueError(msg)
        if not resized.any():
            msg = (
                f"The region of interest {self.name} has no pixel left at {size[1]}x{size[0]}, the size of the anomaly "
                "maps: it is too thin or was cropped. Draw it larger."
            )
            raise ValueError(msg)
        return resized
