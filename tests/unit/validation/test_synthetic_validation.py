"""Validation data made of held-out good images."""

import copy
import gc
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import AnomalibDataModule, Folder, MVTecAD
from anomalib.data.utils import read_image
from anomalib.visualization import ImageVisualizer
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_plus import Mix, MVTec, Scratch, Stain, SyntheticValidation
from anomalib_plus.data.dataset_check import check_datasets
from anomalib_plus.data.samples import samples_of
from anomalib_plus.transforms import Cutout, PerlinAnomaly
from anomalib_plus.validation.image_groups import images_of_trained_parts
from anomalib_plus.validation.kinds import default_kinds
from anomalib_plus.validation.object_region import object_region


@pytest.fixture
def category(mvtec_layout: Path) -> Path:
    return mvtec_layout / "surface"


@pytest.fixture
def good_folder(category: Path) -> Callable[..., Folder]:
    def folder(**arguments: Any) -> Folder:
        named = {"name": "good", "root": category, "normal_dir": "train/good", "num_workers": 0, **arguments}
        return Folder(**named)

    return folder


def ready(datamodule: AnomalibDataModule | dict, **arguments: Any) -> SyntheticValidation:
    wrapping = SyntheticValidation(datamodule, **arguments)
    wrapping.prepare_data()
    wrapping.setup()
    return wrapping


def files(dataset: Any) -> set[str]:
    return {str(Path(path).resolve()) for path in dataset.samples.image_path}


def images_and_masks(dataset: Any, **loading: Any) -> dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]]:
    found = {}
    for batch in DataLoader(dataset, collate_fn=dataset.collate_fn, **loading):
        for path, label, image, mask in zip(batch.image_path, batch.gt_label, batch.image, batch.gt_mask, strict=True):
            found[path, int(label)] = (image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor))
    return found


def test_good_images_alone_give_all_three_parts(good_folder: Callable[..., Folder]) -> None:
    data = ready(good_folder(), holdout=0.34)
    assert (len(data.train_data), len(data.val_data), len(data.test_data)) == (4, 4, 4)
    assert not files(data.train_data) & files(data.val_data)
    assert files(data.test_data) == files(data.val_data)
    assert data.val_data.samples.label_index.tolist().count(1) == 2
    again = ready(good_folder(), holdout=0.34)
    assert files(again.train_data) == files(data.train_data)
    assert again.val_data.samples.equals(data.val_data.samples)
    assert files(ready(good_folder(), holdout=0.34, seed=2).train_data) != files(data.train_data)
    assert (data.name, data.num_workers) == ("good", 0)


@pytest.mark.parametrize("kind", ["mvtec", "alias", "separate good images", "only defects", "by name"])
def test_the_test_data_are_the_wrapped_ones(kind: str, mvtec_layout: Path, good_folder: Callable[..., Folder]) -> None:
    arguments = {"root": mvtec_layout, "category": "surface", "num_workers": 0}
    datamodule: Any = {
        "mvtec": lambda: MVTecAD(**arguments, val_split_mode="from_test"),
        "alias": lambda: MVTec(**arguments),
        "separate good images": lambda: good_folder(abnormal_dir="test/defect", normal_test_dir="test/good"),
        "only defects": lambda: good_folder(abnormal_dir="test/defect"),
        "by name": lambda: {"class_path": "anomalib_plus.data.MVTec", "init_args": arguments},
    }[kind]()
    data = ready(datamodule)
    train, val, test = files(data.train_data), files(data.val_data), files(data.test_data)
    assert len(test & {str(path) for path in (mvtec_layout / "surface" / "test" / "defect").iterdir()}) == 3
    assert len(val) == 1
    if kind == "only defects":  # then good images for the test are held out, too
        assert len(test) == 4
        assert len(train) == 4
        assert (data.test_data.samples.label_index == 0).sum() == 1
    else:
        assert len(test) == 6
        assert len(train) == 5
    assert not train & val
    assert not train & test
    assert not val & test


def test_a_defective_copy_differs_from_its_image_inside_its_mask_only(good_folder: Callable[..., Folder]) -> None:
    data = ready(good_folder(), holdout=0.9, nuisance=None)
    samples = data.val_data.samples
    for index in range(len(samples)):
        item = data.val_data[index]
        original = read_image(item.image_path, as_tensor=True)
        changed = (item.image != original).any(0)
        assert not (changed & (item.gt_mask == 0)).any()
        assert bool(item.gt_label) == bool(item.gt_mask.any()) == (samples.kind[index] != "good") == bool(changed.any())
    defective = samples[samples.kind != "good"]
    assert defective.severity.between(0.3, 0.8).all()
    assert defective.kind.is_unique  # five images, ten kinds


def test_nuisance_lies_below_the_defects_and_varies_the_good_images(good_folder: Callable[..., Folder]) -> None:
    data = ready(good_folder(), holdout=0.5)
    for index, row in data.val_data.samples.iterrows():
        item, clean = data.val_data[index], data.val_data.clean(row)
        assert torch.equal(item.image * (item.gt_mask == 0), clean * (item.gt_mask == 0))
        assert not torch.equal(clean, read_image(item.image_path, as_tensor=True))
        assert torch.allclose(clean * 255, (clean * 255).round(), atol=1e-4)


def test_the_images_depend_on_seed_and_name_alone(good_folder: Callable[..., Folder], tmp_path: Path) -> None:
    dataset = ready(good_folder(), holdout=0.5).val_data
    first = images_and_masks(dataset, batch_size=1)
    for loading in ({"batch_size": 4}, {"batch_size": 2, "num_workers": 1}, {"batch_size": 3, "shuffle": True}):
        again = images_and_masks(dataset, **loading)
        assert again.keys() == first.keys()
        assert all(torch.equal(a, b) for key in first for a, b in zip(first[key], again[key], strict=True))
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[5].image, dataset[5].image)
    shutil.copytree(good_folder().root / "train", tmp_path / "moved")
    moved = ready(good_folder(root=tmp_path, normal_dir="moved/good"), holdout=0.5).val_data
    assert all(torch.equal(moved[index].image, dataset[index].image) for index in range(len(dataset)))
    other = ready(good_folder(), holdout=0.5, seed=1).val_data
    both = sorted(files(dataset) & files(other))
    assert both
    assert not any(torch.equal(images_and_masks(other, batch_size=1)[path, 0][0], first[path, 0][0]) for path in both)


def test_own_transforms_and_their_kinds(good_folder: Callable[..., Folder]) -> None:
    mix = Mix([Scratch(severity=0.3), Stain(), Stain(severity=0.9)], weights=[2, 1, 0])
    kinds = ready(good_folder(), augmenter=mix, holdout=0.9).val_data.samples.set_index("kind").severity
    assert kinds.drop("good").to_dict() == {"scratch": 0.3, "stain_1": 0.5}
    assert (kinds.index == "scratch").sum() == 3
    several = ready(good_folder(), augmenter=Mix(defects_per_image=(1, 2))).val_data
    assert set(several.samples.kind) == {"good", "mix"}
    half = PerlinAnomaly("self", probability=0.3, roi=None)  # every copy gets a defect nevertheless
    data = ready(good_folder(), augmenter=half.config(), holdout=0.9).val_data
    assert all(bool(data[index].gt_mask.any()) == bool(data[index].gt_label) for index in range(len(data)))
    never = ready(good_folder(), augmenter=Cutout(probability=0.0)).val_data
    with pytest.raises(ValueError, match=r"cutout gave no defect on .*png in 20 tries"):
        list(never)


def test_images_of_several_sizes(good_folder: Callable[..., Folder], tmp_path: Path) -> None:
    folder = tmp_path / "several"
    folder.mkdir()
    for index, path in enumerate(sorted((good_folder().root / "train" / "good").iterdir())):
        with Image.open(path) as image:
            image.resize((48 + 8 * index, 80)).save(folder / path.name)
    data = ready(good_folder(root=tmp_path, normal_dir="several"), holdout=0.9).val_data
    assert {(item.image.shape[1:], item.gt_mask.shape) for item in data} == {
        ((80, 48 + 8 * index), (80, 48 + 8 * index)) for index in range(6) if f"{index:03d}" in str(files(data))
    }


def test_the_file_checks_see_the_data(good_folder: Callable[..., Folder], tmp_path: Path) -> None:
    shutil.copytree(good_folder().root / "train" / "good", tmp_path / "good")
    data = ready(good_folder(root=tmp_path, normal_dir="good"), holdout=0.5)
    checked = check_datasets([data.train_data, data.val_data, data.test_data])
    assert {sample.image for sample in checked} == files(data.train_data) | files(data.val_data)
    assert [sample.label for sample in samples_of(data.val_data)].count(1) == 3
    broken = Path(sorted(files(data.val_data))[0])
    broken.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{broken.name}: is empty"):
        check_datasets([data.val_data])


def test_pictures_of_the_test_show_the_defects(good_folder: Callable[..., Folder], tmp_path: Path) -> None:
    data = ready(good_folder(), holdout=0.5)
    items = [data.test_data[index] for index in range(len(data.test_data))]
    assert len({item.image_path for item in items}) == len(items)
    assert all(torch.equal(read_image(item.image_path, as_tensor=True), item.image) for item in items)
    folders = [Path(item.image_path).parent.name for item in items]
    assert folders == data.test_data.samples.kind.tolist()
    batch = data.test_data.collate_fn(items)
    batch.pred_mask, batch.anomaly_map = batch.gt_mask, batch.gt_mask.float()
    batch.pred_label, batch.pred_score = batch.gt_label, batch.gt_label.float()
    ImageVisualizer(output_dir=tmp_path).on_test_batch_end(None, None, batch, batch, 0)
    assert len(list(tmp_path.rglob("*.png"))) == len(items)
    folder = Path(items[0].image_path).parents[1]
    assert torch.equal(copy.deepcopy(data).test_data[0].image, items[0].image)
    del data
    gc.collect()
    assert not folder.exists()


def test_defects_lie_on_the_object_where_there_is_one(good_folder: Callable[..., Folder], tmp_path: Path) -> None:
    (tmp_path / "discs").mkdir()
    rows, columns = np.mgrid[:96, :128]
    disc = (rows - 50) ** 2 + (columns - 60) ** 2 < 26**2
    for index in range(11):
        noise = np.random.default_rng(index).normal(0, 3, (96, 128, 3))
        hole = (rows - 50) ** 2 + (columns - 60) ** 2 < 3**2
        ground = np.where((disc & ~hole)[..., None], (170, 60, 60), (90, 95, 100)) + columns[..., None] * 0.2
        Image.fromarray((ground + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "discs" / f"{index}.png")
    data = ready(good_folder(root=tmp_path, normal_dir="discs"), holdout=0.9, nuisance=None).val_data
    assert set(data.samples.kind) == {"good", *(kind.name for kind in default_kinds())}
    for index, row in data.samples.iterrows():
        region = object_region(data.clean(row)).numpy()
        assert (region != disc).mean() < 0.02
        assert not (data[index].gt_mask.bool().numpy() & ~region).any()
    surface = ready(good_folder(), holdout=0.9).val_data
    assert not [index for index, row in surface.samples.iterrows() if object_region(surface.clean(row)) is not None]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"holdout": 0.0}, ValueError, "holdout must lie between 0 and 1, got 0.0"),
        ({"augmenter": {"class_path": "Rust"}}, ValueError, "no augmenter 'Rust'"),
        ({"datamodule": 3}, ValueError, "needs a datamodule of images .* got int"),
    ],
)
def test_wrong_arguments(
    arguments: dict, error: type[Exception], message: str, good_folder: Callable[..., Folder]
) -> None:
    with pytest.raises(error, match=message):
        SyntheticValidation(**{"datamodule": good_folder(), **arguments})


def test_data_that_cannot_be_split(good_folder: Callable[..., Folder], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 images are in the training and in the test data"):
        ready(good_folder(normal_dir=["train/good", "test/good"], normal_test_dir="test/good"), holdout=0.01)
    (tmp_path / "one").mkdir()
    shutil.copy(good_folder().root / "train" / "good" / "000.png", tmp_path / "one")
    with pytest.raises(ValueError, match="at least two good training images, and good has 1"):
        ready(good_folder(root=tmp_path, normal_dir="one"))
    with pytest.raises(ValueError, match=r"no kind of defect rust. Known are scratch, crack"):
        default_kinds(["rust"])


@pytest.mark.parametrize("group_by", [None, r"(.*)_light", ".*"])
def test_images_of_one_part_are_not_on_both_sides(group_by: str | None, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for number in range(12):
        part = np.random.default_rng(number).uniform(40, 200, (64, 64, 1)).repeat(3, axis=2)
        for light, name in ((1.0, "light"), (0.6, "light_dark")):
            shown = Image.fromarray((light * part).astype(np.uint8))
            shown.save(tmp_path / "good" / f"p{number}_{name}.png")
    good = Folder("parts", "good", root=tmp_path, num_workers=0)
    data = ready(good, holdout=0.25, group_by=group_by)
    trained, held_out = (
        {Path(path).name.split("_")[0] for path in files(part)} for part in (data.train_data, data.val_data)
    )
    assert bool(trained & held_out) == (group_by == ".*")
    assert len(files(data.val_data)) == 6
    samples = data.val_data.samples
    assert samples.part.nunique() == (6 if group_by == ".*" else 3), "as the post-processor counts them"
    assert samples.groupby("image_path").part.nunique().eq(1).all(), "defective copies show the same part"
    shared = images_of_trained_parts(sorted(files(data.train_data)), sorted(files(data.val_data)))
    assert bool(shared) == (group_by == ".*")
    assert images_of_trained_parts(["1/a.png"], ["2/a.png", "2/b.png"], r"\w\.png") == ["2/a.png"]


def test_a_file_that_is_listed_twice_is_not_in_both_parts(good_folder: Callable[..., Folder]) -> None:
    for seed in range(3):
        data = ready(good_folder(normal_dir=["train/good", "train/good"]), holdout=0.5, seed=seed)
        assert not files(data.train_data) & files(data.val_data)
