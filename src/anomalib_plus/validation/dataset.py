"""Held-out good images and their defective copies as a dataset of anomalib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import torch
from anomalib.data import AnomalibDataset, ImageItem
from anomalib.data.utils import Split, read_image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.tv_tensors import Image, Mask

from anomalib_plus.files import unfinished_file
from anomalib_plus.transforms.augmenter import Augmenter
from anomalib_plus.validation.kinds import Kind, PlannedImage, add_defect, image_seed, plan_defects, to_8_bits

GOOD = "good"


class SyntheticValidationDataset(AnomalibDataset):
    """Good images and defective copies of them, with masks.

    An image is made when it is read, from its file and the seed in its row of ``samples``, so it is the same in every
    epoch, process and batch, and nothing is kept in memory. ``samples`` tells ``kind``, ``severity``, ``seed`` and
    ``part`` of each image; the kind of a good one is "good".

    Args:
        paths: Files of the good images.
        kinds: Kinds of defects.
        nuisance: Variation of all images, below the defects; None for none.
        seed: Seed of everything drawn.
        pictures: Folder into which the images are written as they are read, so that a visualizer finds them; their
            items name these files. None writes none, and items name the files of the good images.
        parts: Name of the part that each file shows; None if each shows another one.
    """

    computes_masks = True  # the masks are no files, so that there are none to check

    def __init__(
        self,
        paths: Sequence[str],
        kinds: Sequence[Kind],
        nuisance: Augmenter | None,
        seed: int,
        pictures: Path | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.kinds = {kind.name: kind for kind in kinds}
        self.nuisance = nuisance
        self.seed = seed
        self.pictures = pictures
        good = [PlannedImage(path, GOOD, None, image_seed(seed, path, GOOD)) for path in paths]
        samples = pandas.DataFrame([*good, *plan_defects(paths, kinds, seed)])
        samples["label_index"] = (samples.kind != GOOD).astype(int)
        samples["mask_path"], samples["split"] = "", Split.VAL.value
        samples["part"] = samples.image_path if parts is None else samples.image_path.map(parts)
        samples.attrs["task"] = "segmentation"
        self.samples = samples

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image (3, H, W) in [0, 1] and make its defect; mask (H, W), uint8."""
        row = self.samples.iloc[index]
        image, mask = self.make(row)
        path = row.image_path if self.pictures is None else self._write(image, row)
        image, mask = Image(image), Mask(mask)
        if self.augmentations:
            image, mask = self.augmentations(image, mask)
        return ImageItem(image=image, gt_mask=mask, gt_label=torch.tensor(int(row.label_index)), image_path=path)

    def make(self, row: Any) -> tuple[Tensor, Tensor]:
        """Make the image (3, H, W), 8-bit values divided by 255, and the mask (H, W) of a row of ``samples``."""
        image = self.clean(row)
        if row.kind == GOOD:
            return image, torch.zeros(image.shape[1:], dtype=torch.uint8)
        severity = None if pandas.isna(row.severity) else float(row.severity)
        return add_defect(image, self.kinds[row.kind], severity, int(row.seed), row.image_path)

    def clean(self, row: Any) -> Tensor:
        """Make the image of a row without its defect."""
        image = read_image(row.image_path, as_tensor=True).as_subclass(Tensor)
        if self.nuisance is None:
            return image
        return to_8_bits(self.nuisance(image, torch.Generator().manual_seed(int(row.seed) + 1))[0])

    def _write(self, image: Tensor, row: Any) -> str:
        file = Path(str(self.pictures)) / row.kind / f"{Path(row.image_path).stem}_{int(row.seed) % 10**6:06d}.png"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with unfinished_file(file) as unfinished:
                to_pil_image(image).save(unfinished)
        return str(file)
