"""Datamodule that validates another one's model on good images and synthetic defects."""

import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

from anomalib.data import AnomalibDataModule, AnomalibDataset, get_datamodule
from anomalib.data.datamodules.base import AnomalibVideoDataModule
from anomalib.data.datasets.base.depth import AnomalibDepthDataset
from anomalib.data.utils import LabelName, TestSplitMode, ValSplitMode

from anomalib_plus.counts import counted
from anomalib_plus.data.mask_pairs import check_links, check_mask_pairs, shorten
from anomalib_plus.transforms.augmenter import Augmenter, build_augmenter
from anomalib_plus.transforms.nuisance import Nuisance
from anomalib_plus.validation.dataset import SyntheticValidationDataset
from anomalib_plus.validation.holding_out import hold_out
from anomalib_plus.validation.image_groups import group_files
from anomalib_plus.validation.kinds import kinds_of


class SyntheticValidation(AnomalibDataModule):
    """Datamodule whose validation images are held-out good images and defective copies of them.

    Early stopping, thresholds, the choice of a model and INT8 calibration then need no image of a defect. The wrapped
    datamodule's own splits are not used: all its good training images are trained on, except the share held out here,
    and its test images, whole, remain for the test. If these are defects only, a further share
    (its ``test_split_ratio``) of the good images is held out for the test; if there are none, the test takes the
    validation images. No image of the training is in the validation or the test.

    A defective copy is a held-out image with one defect, the same in every epoch and on every machine, for any number
    of workers and batch size. It is made when it is read, in about 12 ms at 256x256 pixels, so nothing is kept in
    memory and worker processes have nothing to share. ``val_data.samples`` tells kind and severity of each.

    Args:
        datamodule: Datamodule of images to take the training images from, or its class_path and init_args.
        augmenter: Transform that makes the defects, or its class_path and init_args. None for ten kinds of defects,
            equally frequent, of severities from 0.3 to 0.8, on the object where there is one before a background.
        nuisance: Variation (light, focus, noise, position) of all validation images, below the defects, which shows
            whether a model takes light for a defect. "default" for :class:`~anomalib_plus.transforms.Nuisance`, None
            for none.
        holdout: Share of the good training images to hold out, at least one image. Images of one part stay together:
            scores of parts that the model has seen are too low. ``val_data.samples`` names the part of each image,
            which thresholds from good images need.
        group_by: Regular expression, searched in each path: images with the same first group, or without one the same
            match, show the same part. None groups by names of one burst (``017_a``, ``017_b``) and by similar
            details. ``".*"`` takes each image for a part of its own.
        seed: Seed of the split and of everything drawn.

    Raises:
        ValueError: If an argument is out of its range or the datamodule gives no ordinary images.
    """

    def __init__(
        self,
        datamodule: AnomalibDataModule | dict[str, Any],
        augmenter: Augmenter | dict[str, Any] | None = None,
        nuisance: Nuisance | dict[str, Any] | Literal["default"] | None = "default",
        holdout: float = 0.2,
        seed: int = 0,
        group_by: str | None = None,
    ) -> None:
        wrapped = get_datamodule(datamodule) if isinstance(datamodule, Mapping) else datamodule
        if not isinstance(wrapped, AnomalibDataModule) or isinstance(
            wrapped, AnomalibVideoDataModule | SyntheticValidation
        ):
            msg = (
                "SyntheticValidation needs a datamodule of images to take the training images from, such as Folder or "
                f"MVTecAD, got {type(wrapped).__name__}."
            )
            raise ValueError(msg)
        if not 0 < holdout < 1:
            msg = f"holdout must lie between 0 and 1, got {holdout}; 0.2 holds out a fifth of the good images."
            raise ValueError(msg)
        super().__init__(
            train_batch_size=wrapped.train_batch_size,
            eval_batch_size=wrapped.eval_batch_size,
            num_workers=wrapped.num_workers,
            train_augmentations=wrapped.train_augmentations,
            val_augmentations=wrapped.val_augmentations,
            test_augmentations=wrapped.test_augmentations,
            val_split_mode=ValSplitMode.SYNTHETIC,
            test_split_mode=TestSplitMode.FROM_DIR,
            seed=seed,
        )
        self.external_collate_fn = wrapped.external_collate_fn
        self.datamodule = wrapped
        self.augmenter = None if augmenter is None else build_augmenter(augmenter)
        self.nuisance: Augmenter | None = None
        if nuisance is not None:
            self.nuisance = Nuisance() if nuisance == "default" else build_augmenter(nuisance)
        self.holdout = holdout
        self.seed: int = seed
        self.group_by = group_by
        self._groups: dict[str, str] = {}
        self._pictures: Path | None = None

    @property
    def name(self) -> str:
        """Name of the wrapped datamodule."""
        return self.datamodule.name

    @property
    def category(self) -> str:
        """Category of the wrapped datamodule."""
        return self.datamodule.category

    @category.setter
    def category(self, category: str) -> None:
        self.datamodule.category = category

    def prepare_data(self) -> None:
        """Let the wrapped datamodule prepare its data."""
        self.datamodule.prepare_data()

    def _setup(self, _stage: str | None = None) -> None:
        wrapped = self.datamodule
        check_links(wrapped)
        check_mask_pairs(wrapped)
        wrapped._setup(_stage)  # setup() would also split, at random, and move images to the test
        train, test = wrapped.train_data, getattr(wrapped, "test_data", None)
        if self.augmenter is not None:
            self.augmenter.check()
        good = _good_rows(train, wrapped)
        rest, held_out = self._hold_out(train, good, self.holdout, self.seed)
        if test is not None and test.has_anomalous and not test.has_normal:
            rest, tested = self._hold_out(train, rest, wrapped.test_split_ratio, self.seed + 1)
            task = test.samples.attrs.get("task")
            test = test + train.subsample(tested)
            test.samples.attrs["task"] = task
        others = sorted(set(range(len(train))) - set(good))
        self.train_data = train.subsample(sorted([*rest, *others]))
        self.val_data = self._synthetic(train, held_out)
        self.test_data = self._test_of(train, held_out) if test is None or len(test) == 0 else test
        if test is not None:
            _check_disjoint(self.train_data, test)

    def _hold_out(
        self, train: AnomalibDataset, rows: list[int], share: float, seed: int
    ) -> tuple[list[int], list[int]]:
        files = [str(Path(path).resolve()) for path in train.samples.image_path.iloc[rows]]  # one may be listed twice
        if not set(files) <= set(self._groups):
            self._groups = group_files(sorted(set(files)), self.group_by)
        kept, held_out = hold_out(len(rows), share, seed, [self._groups[file] for file in files])
        return [rows[index] for index in kept], [rows[index] for index in held_out]

    def _synthetic(
        self, train: AnomalibDataset, held_out: list[int], pictures: Path | None = None
    ) -> SyntheticValidationDataset:
        paths = train.samples.image_path.iloc[held_out].tolist()
        parts = {path: self._groups[str(Path(path).resolve())] for path in paths}
        dataset = SyntheticValidationDataset(paths, kinds_of(self.augmenter), self.nuisance, self.seed, pictures, parts)
        dataset.category = self.category
        return dataset

    def _test_of(self, train: AnomalibDataset, held_out: list[int]) -> SyntheticValidationDataset:
        """Make the validation images for the test, with files for the visualizer."""
        if self._pictures is None:
            self._pictures = Path(mkdtemp(prefix="anomalib_plus_"))
            weakref.finalize(self, shutil.rmtree, self._pictures, ignore_errors=True)
        return self._synthetic(train, held_out, self._pictures)

    def _create_test_split(self) -> None:
        """Keep the test data: :meth:`_setup` makes all three."""

    def _create_val_split(self) -> None:
        """Keep the validation data: :meth:`_setup` makes all three."""


def _good_rows(train: AnomalibDataset, datamodule: AnomalibDataModule) -> list[int]:
    """Return the positions of the good images, at least two.

    Raises:
        ValueError: If there are fewer, or these are no ordinary images.
    """
    if isinstance(train, AnomalibDepthDataset):
        msg = f"SyntheticValidation makes defects on images only, and {datamodule.name} has depth maps too."
        raise ValueError(msg)
    good = [row for row, label in enumerate(train.samples.label_index) if label == LabelName.NORMAL]
    if len(good) < 2:
        msg = f"SyntheticValidation needs at least two good training images, and {datamodule.name} has {len(good)}."
        raise ValueError(msg)
    return good


def _check_disjoint(train: AnomalibDataset, test: AnomalibDataset) -> None:
    trained, tested = ({Path(path).resolve() for path in part.samples.image_path} for part in (train, test))
    if both := sorted(trained & tested):
        images = counted(len(both), "image is", "images are")
        msg = f"{images} in the training and in the test data: {shorten(both)}. Give separate folders."
        raise ValueError(msg)
