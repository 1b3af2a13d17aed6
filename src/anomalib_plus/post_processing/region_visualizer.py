"""Pictures of predictions with the outline of the region of interest."""

from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import ImageBatch
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from skimage.segmentation import find_boundaries

from anomalib_plus.post_processing.region_of_interest import masks_inside


class RegionVisualizer(ImageVisualizer):
    """anomalib's visualizer, which also draws the outline of the region of interest into every picture.

    The region is that of the model's :class:`~anomalib_plus.post_processing.RegionPostProcessor`, or a subclass.

    Args:
        outline: Colour of the outline, red, green and blue from 0 to 255.
        arguments: Arguments of ``ImageVisualizer``.
    """

    output_dir: str | Path | None

    def __init__(self, outline: tuple[int, int, int] = (0, 255, 255), **arguments: Any) -> None:
        super().__init__(**arguments)
        self.outline = outline

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ImageBatch, *args: Any, **kwargs: Any
    ) -> None:
        """Save a picture of each image of the batch."""
        masks = masks_inside(batch, pl_module)
        if masks is None:
            super().on_test_batch_end(trainer, pl_module, outputs, batch, *args, **kwargs)
            return
        self.output_dir = self.output_dir or Path(trainer.default_root_dir) / "images"
        datamodule = getattr(trainer, "datamodule", None)
        each = masks.expand(batch.anomaly_map.shape).reshape(len(batch.image), *masks.shape[-2:]).cpu().numpy()
        for item, mask in zip(batch, each, strict=True):
            picture = self.visualize(item)
            if picture is not None:
                file = generate_output_filename(
                    input_path=item.image_path or "",
                    output_path=self.output_dir,
                    dataset_name=getattr(datamodule, "name", None),
                    category=getattr(datamodule, "category", None),
                )
                self.draw(picture, mask).save(file)

    def draw(self, picture: Image.Image, mask: np.ndarray) -> Image.Image:
        """Draw the outline of a mask (H, W) into each field of a picture, which are in one row."""
        cell = Image.fromarray(mask).resize(self.field_size, Image.Resampling.NEAREST)
        boundary = find_boundaries(np.asarray(cell), mode="inner")
        pixels = np.array(picture.convert("RGB"))
        pixels[np.tile(boundary, (1, pixels.shape[1] // boundary.shape[1]))] = self.outline
        return Image.fromarray(pixels)
