"""One-class MNIST: one digit is normal, the other nine are anomalies (the MNIST protocol of the RAMFAE paper)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import LabelName, Split, TestSplitMode, ValSplitMode
from pandas import DataFrame
from PIL import Image
from torchvision.datasets import MNIST

from anomalib_plus.files import unfinished_file

DIGIT_SIZE = 28
TRAIN_SHARE = 0.8
FITTINGS = {"pad": 32, "resize": 64}
"""Size of the images that each way of fitting gives, unless another is asked for."""


class OneClassSplit(NamedTuple):
    """Indices of the images in the official training set."""

    train: np.ndarray
    test_normal: np.ndarray
    test_anomalous: np.ndarray


def split_one_class(labels: np.ndarray, normal_digit: int, anomaly_share: float, seed: int) -> OneClassSplit:
    """Split the normal digit's images into 80 % for training and 20 % for testing, and draw anomalies to test on.

    ``anomaly_share`` is the share p of anomalies in the test set: n normal images need n * p / (1 - p) anomalies.

    Raises:
        ValueError: If a part would be empty, or there are not enough images of other digits.
    """
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(labels == normal_digit))
    train, test_normal = np.split(normal, [round(TRAIN_SHARE * len(normal))])
    wanted = round(len(test_normal) * anomaly_share / (1 - anomaly_share))
    others = np.flatnonzero(labels != normal_digit)
    if not (len(train) and len(test_normal) and 0 < wanted <= len(others)):
        msg = (
            f"digit {normal_digit} has {len(normal)} images, {len(test_normal)} of them for testing, so "
            f"anomaly_share={anomaly_share} needs {wanted} of the {len(others)} images of other digits. "
            "Each part must have at least one image; choose another anomaly_share."
        )
        raise ValueError(msg)
    return OneClassSplit(train, test_normal, rng.choice(others, size=wanted, replace=False))


def fit_digit(digit: np.ndarray, image_size: int, fitting: str) -> np.ndarray:
    """Enlarge a 28x28 digit to ``image_size`` by zero padding (``"pad"``) or bilinear interpolation (``"resize"``)."""
    if fitting == "resize":
        return np.asarray(Image.fromarray(digit).resize((image_size, image_size), Image.Resampling.BILINEAR))
    before = (image_size - DIGIT_SIZE) // 2
    after = image_size - DIGIT_SIZE - before
    return np.pad(digit, (before, after))


class OneClassMNISTDataset(AnomalibDataset):
    """One part of the split: grey PNG files with a label and without masks."""

    def __init__(self, files: list[Path], labels: list[LabelName], split: Split) -> None:
        super().__init__()
        samples = DataFrame({"image_path": map(str, files), "split": split.value, "label_index": map(int, labels)})
        samples["mask_path"] = ""
        samples.attrs["task"] = "classification"
        self.samples = samples


class OneClassMNIST(AnomalibDataModule):
    """MNIST with one normal digit, from the 60 000 images of the official training set.

    The images are written once as PNG files below ``root``, because anomalib identifies images by their files. There
    are no masks, so there are no pixel metrics.

    Args:
        root: Folder with ``MNIST/raw/train-images-idx3-ubyte`` and the three other files of MNIST.
        normal_digit: The digit to learn, 0 to 9.
        anomaly_share: Share of anomalies in the test set, between 0 and 1.
        image_size: Height and width of the images; None for 32 padded or 64 enlarged. Give the model a pre-processor of
            the same size.
        fitting: ``"pad"`` surrounds the 28x28 digit with zeros, ``"resize"`` enlarges it.
        train_batch_size: Images per training batch.
        eval_batch_size: Images per batch of validation, test and prediction.
        num_workers: Processes that load images.
        download: Download MNIST if it is missing.
        val_split_mode: Source of the validation set; by default it equals the test set.
        seed: Seed of the split, the drawn anomalies and anomalib's random splits.
        **kwargs: Augmentations and ``val_split_ratio`` of :class:`anomalib.data.AnomalibDataModule`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        root: Path | str = "./datasets",
        normal_digit: int = 0,
        anomaly_share: float = 0.5,
        image_size: int | None = None,
        fitting: str = "pad",
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 8,
        download: bool = False,
        val_split_mode: ValSplitMode | str = ValSplitMode.SAME_AS_TEST,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if normal_digit not in range(10):
            msg = f"normal_digit must be a digit from 0 to 9, got {normal_digit!r}."
            raise ValueError(msg)
        if not 0 < anomaly_share < 1:
            msg = f"anomaly_share must lie between 0 and 1, got {anomaly_share}; 0.1 stands for 10 % anomalies."
            raise ValueError(msg)
        image_size = FITTINGS.get(fitting, DIGIT_SIZE) if image_size is None else image_size
        if fitting not in FITTINGS or image_size < DIGIT_SIZE:
            msg = f"digits of {DIGIT_SIZE} pixels cannot be fitted to image_size={image_size} by fitting={fitting!r}: "
            msg += f"image_size must be at least {DIGIT_SIZE} and fitting one of {', '.join(FITTINGS)}."
            raise ValueError(msg)
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            test_split_mode=TestSplitMode.FROM_DIR,
            val_split_mode=val_split_mode,
            seed=seed,
            **kwargs,
        )
        self.root = Path(root)
        self.normal_digit = normal_digit
        self.anomaly_share = anomaly_share
        self.image_size = image_size
        self.fitting = fitting
        self.download = download
        self.category = f"digit_{normal_digit}"

    def prepare_data(self) -> None:
        """Write the images of the split as PNG files unless they exist.

        Raises:
            FileNotFoundError: If MNIST is missing and ``download`` is off.
        """
        mnist = self._open_mnist(download=self.download)
        for index in np.concatenate(self._split(mnist)):
            self._write_once(mnist, index)

    def _setup(self, _stage: str | None = None) -> None:
        mnist = self._open_mnist(download=False)
        train, test_normal, test_anomalous = ([self._file(mnist, i) for i in part] for part in self._split(mnist))
        labels = [LabelName.NORMAL] * len(test_normal) + [LabelName.ABNORMAL] * len(test_anomalous)
        self.train_data = OneClassMNISTDataset(train, [LabelName.NORMAL] * len(train), Split.TRAIN)
        self.test_data = OneClassMNISTDataset(test_normal + test_anomalous, labels, Split.TEST)
        self.train_data.category = self.test_data.category = self.category

    def _open_mnist(self, download: bool) -> MNIST:
        try:
            return MNIST(self.root, train=True, download=download)
        except (RuntimeError, AssertionError, KeyError, TypeError, ValueError) as error:
            if download:
                raise
            folder = (self.root / "MNIST" / "raw").absolute()
            names = [name.removesuffix(".gz") for name, _ in MNIST.resources]
            missing = [name for name in names if not (folder / name).is_file()]
            trouble = f"{', '.join(missing)} missing" if missing else f"a file is damaged ({error})"
            msg = (
                f"cannot read MNIST in {folder}: {trouble}. Put the four official files there, uncompressed, "
                "or pass download=True once."
            )
            raise FileNotFoundError(msg) from error

    def _split(self, mnist: MNIST) -> OneClassSplit:
        return split_one_class(mnist.targets.numpy(), self.normal_digit, self.anomaly_share, self.seed)

    def _file(self, mnist: MNIST, index: int) -> Path:
        folder = self.root / self.name / f"{self.fitting}_{self.image_size}"
        return folder / str(int(mnist.targets[index])) / f"{index:05d}.png"

    def _write_once(self, mnist: MNIST, index: int) -> None:
        """Write a file under a temporary name first, so that no run ever finds half a file."""
        file = self._file(mnist, index)
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_file(file) as unfinished:
            Image.fromarray(fit_digit(mnist.data[index].numpy(), self.image_size, self.fitting)).save(unfinished)
