"""The one-class MNIST protocol: split, drawing of anomalies, files, and a run of anomalib's Engine on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import AnomalibDataModule, ImageBatch
from anomalib.engine import Engine
from anomalib.models import Padim
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torchvision.transforms.v2 import Resize

from anomalib_plus.data import OneClassMNIST
from anomalib_plus.data.one_class_mnist import fit_digit, split_one_class

OFFICIAL_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
PER_DIGIT = 10


def _write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of each digit d: noise, but with the value 20 d + 10 in their corner pixel."""
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10), PER_DIGIT))
    images = rng.integers(0, 255, (labels.size, 28, 28))
    images[:, 0, 0] = 20 * labels + 10
    for part in ("train", "t10k"):
        _write_idx(raw / f"{part}-images-idx3-ubyte", images)
        _write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    return root


def _datamodule(root: Path, **kwargs: object) -> OneClassMNIST:
    datamodule = OneClassMNIST(root, num_workers=0, **kwargs)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize(("percent", "anomalies"), [(10, 132), (20, 296), (30, 508), (40, 790), (50, 1185)])
def test_split_of_official_digit_zero_has_the_counts_of_the_protocol(percent: int, anomalies: int) -> None:
    labels = np.repeat(np.arange(10), OFFICIAL_COUNTS)
    split = split_one_class(labels, normal_digit=0, anomaly_share=percent / 100, seed=0)
    assert [len(part) for part in split] == [4738, 1185, anomalies]
    assert sorted([*split.train, *split.test_normal]) == list(range(5923))
    assert len(set(split.test_anomalous)) == anomalies
    assert (labels[split.test_anomalous] != 0).all()


def test_anomalies_come_from_all_nine_other_digits_in_their_proportion() -> None:
    labels = np.repeat(np.arange(10), OFFICIAL_COUNTS)
    split = split_one_class(labels, normal_digit=4, anomaly_share=0.5, seed=1)
    drawn = np.bincount(labels[split.test_anomalous], minlength=10)
    expected = len(split.test_anomalous) * np.array(OFFICIAL_COUNTS) / (60000 - OFFICIAL_COUNTS[4])
    assert drawn[4] == 0
    others = np.arange(10) != 4
    assert (np.abs(drawn - expected)[others] < 5 * np.sqrt(expected[others])).all()


def test_split_is_decided_by_the_seed() -> None:
    labels = np.repeat(np.arange(10), 50)
    first, again, other = (split_one_class(labels, 3, 0.3, seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_split_that_needs_more_anomalies_than_there_are_is_refused() -> None:
    labels = np.repeat(np.arange(10), 10)
    with pytest.raises(ValueError, match="needs 198 of the 90 images of other digits"):
        split_one_class(labels, 0, 0.99, seed=0)
    with pytest.raises(ValueError, match="digit 0 has 0 images"):
        split_one_class(labels[10:], 0, 0.5, seed=0)


def test_padding_surrounds_the_unchanged_digit_with_zeros() -> None:
    digit = np.random.default_rng(0).integers(1, 256, (28, 28), dtype=np.uint8)
    padded = fit_digit(digit, 32, "pad")
    assert padded.shape == (32, 32)
    assert np.array_equal(padded[2:-2, 2:-2], digit)
    assert np.count_nonzero(padded) == 28 * 28
    assert fit_digit(digit, 33, "pad").shape == (33, 33)


def test_resizing_interpolates_the_digit_to_the_full_size() -> None:
    ramp = np.tile(np.arange(28, dtype=np.uint8) * 9, (28, 1))
    enlarged = fit_digit(ramp, 256, "resize")
    assert enlarged.shape == (256, 256)
    centres = (np.arange(256) + 0.5) * 28 / 256 - 0.5
    assert np.abs(enlarged[128] - np.interp(centres, np.arange(28), ramp[0])).max() <= 1


def test_datamodule_reads_back_the_digits_it_was_given(mnist_root: Path) -> None:
    datamodule = _datamodule(mnist_root, normal_digit=3, anomaly_share=0.5)
    assert [len(d) for d in (datamodule.train_data, datamodule.test_data, datamodule.val_data)] == [8, 4, 4]
    assert datamodule.category == "digit_3"
    digits = {False: set(), True: set()}
    for item in [*datamodule.train_data, *datamodule.test_data]:
        assert item.image.shape == (3, 32, 32)
        assert torch.equal(item.image[0], item.image[1])
        assert torch.equal(item.image[0], item.image[2])
        assert item.image[:, :2].abs().max() == 0
        digits[bool(item.gt_label)].add(round((float(item.image[0, 2, 2]) * 255 - 10) / 20))
    assert digits[False] == {3}
    assert digits[True]
    assert 3 not in digits[True]


def test_batches_are_anomalib_batches_without_masks(mnist_root: Path) -> None:
    batch = next(iter(_datamodule(mnist_root, eval_batch_size=3).test_dataloader()))
    assert isinstance(batch, ImageBatch)
    assert batch.image.shape == (3, 3, 32, 32)
    assert batch.gt_label.dtype == torch.bool
    assert batch.gt_mask is None
    assert all(Image.open(path).size == (32, 32) for path in batch.image_path)


def test_image_size_and_fitting_reach_the_images_and_do_not_mix(mnist_root: Path) -> None:
    padded = _datamodule(mnist_root, image_size=40)
    resized = _datamodule(mnist_root, image_size=40, fitting="resize")
    assert padded.train_data[0].image.shape == resized.train_data[0].image.shape == (3, 40, 40)
    assert padded.train_data[0].image[:, 0].abs().max() == 0
    assert resized.train_data[0].image[:, 0].abs().max() > 0


def test_files_are_written_once_and_left_alone(mnist_root: Path) -> None:
    datamodule = _datamodule(mnist_root, normal_digit=5)
    files = sorted(datamodule.test_data.samples.image_path)
    times = [Path(file).stat().st_mtime_ns for file in files]
    datamodule.prepare_data()
    assert [Path(file).stat().st_mtime_ns for file in files] == times
    assert not list((mnist_root / "OneClassMNIST").rglob(".*"))


def test_missing_files_are_named_with_the_place_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"MNIST/raw: train-images-idx3-ubyte, train-labels.*download=True"):
        OneClassMNIST(tmp_path).prepare_data()


def test_damaged_files_are_reported(tmp_path: Path, mnist_root: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (mnist_root / "MNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes())
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(FileNotFoundError, match="a file is damaged"):
        OneClassMNIST(tmp_path).prepare_data()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normal_digit": 10}, "digit from 0 to 9, got 10"),
        ({"anomaly_share": 50}, "between 0 and 1, got 50"),
        ({"anomaly_share": 0.0}, "between 0 and 1"),
        ({"image_size": 24}, "image_size must be at least 28"),
        ({"fitting": "crop"}, "fitting one of pad, resize"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneClassMNIST(**arguments)


def test_yaml_reaches_own_and_inherited_arguments(tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    config.write_text(
        "class_path: anomalib_plus.data.OneClassMNIST\n"
        "init_args: {normal_digit: 7, anomaly_share: 0.2, val_split_mode: from_test, val_split_ratio: 0.25}\n"
    )
    datamodule = AnomalibDataModule.from_config(config)
    assert (datamodule.normal_digit, datamodule.anomaly_share, datamodule.val_split_ratio) == (7, 0.2, 0.25)
    assert datamodule.val_split_mode == "from_test"


def test_engine_trains_tests_and_draws_heatmaps(mnist_root: Path) -> None:
    datamodule = OneClassMNIST(mnist_root, normal_digit=1, num_workers=0)
    model = Padim(
        backbone="resnet18",
        layers=["layer1"],
        pre_trained=False,
        n_features=4,
        pre_processor=PreProcessor(Resize((32, 32))),
    )
    engine = Engine(accelerator="cpu", logger=False, enable_progress_bar=False)
    engine.fit(model, datamodule=datamodule)
    (results,) = engine.test(model, datamodule=datamodule)
    assert 0 <= results["image_AUROC"] <= 1
    assert not any(name.startswith("pixel_") for name in results)
    heatmaps = list(Path("results").rglob("images/**/*.png"))
    assert len(heatmaps) == len(datamodule.test_data)
