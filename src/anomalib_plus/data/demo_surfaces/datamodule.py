"""The demo data set as an anomalib datamodule."""

from pathlib import Path
from typing import Any

from anomalib.data import MVTecAD
from anomalib.utils.path import resolve_dataset_root

from anomalib_plus.data.demo_surfaces.writing import CATEGORIES, check_category, write_category
from anomalib_plus.data.plain_paths import acceptable_root


class DemoSurfaces(MVTecAD):
    """Small data set that needs no download: drawn once from a seed, in MVTec AD's folder layout.

    ``washer`` is a rendered metal part; ``brick``, ``gravel`` and ``grass`` are crops of photographs that scikit-image
    contains, with training and test crops from different regions. ``sheet`` is a rendered steel sheet of 1024x768
    pixels with defects of 6 to 20 pixels; the others have 256x256. Each category has 60 good images for training, and
    20 good and 40 defective ones for testing: scratch, hole, contamination and deformation, with exact masks.

    Args:
        root: Folder for all categories; ``None`` for anomalib's own data folder.
        category: ``"washer"``, ``"brick"``, ``"gravel"``, ``"grass"`` or ``"sheet"``.
        seed: Seed of the images and of anomalib's random splits.
        **kwargs: Other arguments of :class:`anomalib.data.MVTecAD`.

    Raises:
        ValueError: If there is no such category.
    """

    root: Path

    def __init__(
        self,
        root: Path | str | None = "./datasets/DemoSurfaces",
        category: str = "washer",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if category not in CATEGORIES:
            msg = f"DemoSurfaces has no category {category!r}. Choose one of {', '.join(CATEGORIES)}."
            raise ValueError(msg)
        super().__init__(root=resolve_dataset_root(root, "DemoSurfaces"), category=category, seed=seed, **kwargs)

    def prepare_data(self) -> None:
        """Draw the category, in seconds, unless it exists already.

        Raises:
            ValueError: If the folder holds something else, for example images of another seed.
        """
        directory = self.root / self.category
        if not directory.exists():
            write_category(directory, self.category, self.seed)
        check_category(directory, self.category, self.seed)

    def _setup(self, _stage: str | None = None) -> None:
        self.root = acceptable_root(self.root, self.category)
        super()._setup(_stage)
