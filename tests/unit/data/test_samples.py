"""Which data sets are known by type, and what is read of their samples."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import AnomalibDataset, MVTecAD, PredictDataset
from pandas import DataFrame
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from anomalib_plus.data import PredictImages
from anomalib_plus.data.samples import Sample, read_samples, samples_of


@pytest.fixture
def datamodule(mvtec_layout: Path) -> MVTecAD:
    datamodule = MVTecAD(root=mvtec_layout, category="surface")
    datamodule.setup()
    return datamodule


def test_samples_of_a_test_set(datamodule: MVTecAD, mvtec_layout: Path) -> None:
    category = mvtec_layout / "surface"
    assert read_samples(datamodule.test_data) == [
        Sample(
            str(category / "test" / "defect" / f"00{index}.png"),
            label=1,
            masks=(category / "ground_truth" / "defect" / f"00{index}_mask.png",),
            needs_mask=True,
        )
        for index in range(3)
    ] + [Sample(str(category / "test" / "good" / f"00{index}.png"), label=0) for index in range(3)]


def test_a_table_of_ones_own_may_lack_labels_and_masks(mvtec_layout: Path) -> None:
    image = str(mvtec_layout / "surface" / "train" / "good" / "000.png")
    dataset = AnomalibDataset()
    dataset.samples = DataFrame({"image_path": [image], "split": ["train"]})
    assert read_samples(dataset) == [Sample(image, label=-1)]
    columns = {"image_path": [image] * 2, "split": ["test"] * 2, "label_index": [None, 1], "part": [7, None]}
    dataset.samples = DataFrame(columns, dtype=object)
    dataset.samples.attrs["task"] = "segmentation"
    assert [sample.needs_mask for sample in read_samples(dataset)] == [False, True]
    assert [sample.part for sample in read_samples(dataset)] == ["7", None]


def test_subsets_and_concatenations_keep_their_items(datamodule: MVTecAD) -> None:
    train, test = read_samples(datamodule.train_data), read_samples(datamodule.test_data)
    unknown = TensorDataset(torch.zeros(2, 3))
    mixed = ConcatDataset([unknown, Subset(datamodule.train_data, [0, 2]), datamodule.test_data])
    assert samples_of(mixed) == [None, None, train[0], train[2], *test]
    assert samples_of(Subset(mixed, [1, 3, 8])) == [None, train[2], test[4]]


@pytest.mark.parametrize("kind", [PredictDataset, PredictImages])
def test_images_to_predict(kind: type, mvtec_layout: Path) -> None:
    folder = mvtec_layout / "surface" / "test" / "good"
    assert samples_of(kind(folder)) == [Sample(str(folder / f"00{index}.png")) for index in range(3)]


class Own(Dataset):
    """A data set whose attributes have names that other data sets use for something else."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"samples": [("a.png", 0)]},
        {"samples": DataFrame({"file": ["a.png"]})},
        {"indices": [0]},
        {"indices": [0], "dataset": SimpleNamespace(samples=None)},
        {"datasets": 3},
        {"image_filenames": ["a.png"]},
    ],
    ids=str,
)
def test_other_data_sets_are_left_alone(attributes: dict) -> None:
    assert samples_of(Own(**attributes)) == []
    assert samples_of(Subset(Own(**attributes), [0])) == []


def test_image_folders_of_torchvision_are_left_alone(mvtec_layout: Path) -> None:
    assert samples_of(ImageFolder(str(mvtec_layout / "surface" / "test"))) == []
    assert samples_of(None) == []
