"""MVTec and BTAD are anomalib's datamodules under names of their own."""

import shutil
from pathlib import Path
from urllib.error import URLError

import anomalib.data
import pytest
from anomalib.data import AnomalibDataModule, BTech, MVTecAD
from PIL import Image

import anomalib_plus.data
from anomalib_plus.data import BTAD, MVTec
from anomalib_plus.expected_errors import find_expected


@pytest.fixture
def btad_root(tmp_path: Path) -> Path:
    category = tmp_path / "btad" / "01"
    for folder, count in (("train/ok", 3), ("test/ok", 2), ("test/ko", 2)):
        for index in range(count):
            (category / folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16)).save(category / folder / f"{index:04d}.png")
    (category / "ground_truth" / "ko").mkdir(parents=True)
    for index in range(2):
        Image.new("L", (16, 16), 255).save(category / "ground_truth" / "ko" / f"{index:04d}.png")
    return category.parent


def test_no_datamodule_takes_a_name_of_anomalib() -> None:
    for name in anomalib_plus.data.__all__:
        ours = getattr(anomalib_plus.data, name)
        assert ours.__name__ == name
        assert getattr(anomalib.data, name, ours) is ours


@pytest.mark.parametrize(("alias", "original"), [(MVTec, MVTecAD), (BTAD, BTech)])
def test_alias_changes_nothing_but_the_name(alias: type, original: type) -> None:
    ours, theirs = alias(), original()
    assert ours.name == alias.__name__
    for attribute in ("root", "category", "train_batch_size", "eval_batch_size", "val_split_mode", "test_split_mode"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


def test_mvtec_reads_mvtec_layout(mvtec_layout: Path) -> None:
    datamodule = MVTec(root=mvtec_layout, category="surface", train_batch_size=2, num_workers=0)
    datamodule.setup()
    assert next(iter(datamodule.train_dataloader())).image.shape == (2, 3, 64, 64)
    assert len(datamodule.test_data) == 6


def test_btad_reads_btad_layout(btad_root: Path) -> None:
    datamodule = BTAD(root=btad_root, category="01", num_workers=0)
    datamodule.setup()
    assert (len(datamodule.train_data), len(datamodule.test_data)) == (3, 4)
    assert sum(int(item.gt_mask.sum()) for item in datamodule.test_data) == 2 * 256


@pytest.mark.parametrize("name", ["MVTec", "BTAD"])
def test_bare_name_and_inherited_options_resolve_in_yaml(name: str, tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    config.write_text(f"class_path: {name}\ninit_args: {{category: '02', train_batch_size: 5, val_split_ratio: 0.3}}\n")
    datamodule = AnomalibDataModule.from_config(config)
    assert type(datamodule) is getattr(anomalib_plus.data, name)
    assert (datamodule.category, datamodule.train_batch_size, datamodule.val_split_ratio) == ("02", 5, 0.3)


@pytest.mark.parametrize("name", ["MVTec", "BTAD", "DemoSurfaces"])
def test_letters_beyond_ascii_pass_above_the_working_folder_only(
    name: str, mvtec_layout: Path, btad_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, category = (btad_root, "01") if name == "BTAD" else (mvtec_layout, "surface")
    root = shutil.copytree(source, tmp_path / "José" / "data")
    if name == "DemoSurfaces":
        (root / "surface").rename(root / "washer")
        category = "washer"

    def count() -> int:
        datamodule = getattr(anomalib_plus.data, name)(root=root, category=category, num_workers=0)
        datamodule.setup()
        return len(datamodule.test_data)

    with pytest.raises(ValueError, match=rf"refuse the path \S*José/data/{category}\. .*ln -s FOLDER"):
        count()
    (root.parent / "work").mkdir()
    monkeypatch.chdir(root.parent / "work")
    assert count() == (4 if name == "BTAD" else 6)


def test_mvtec_names_the_image_whose_mask_is_missing(mvtec_layout: Path, tmp_path: Path) -> None:
    root = shutil.copytree(mvtec_layout, tmp_path / "copy")
    (root / "surface" / "ground_truth" / "defect" / "001_mask.png").unlink()
    with pytest.raises(ValueError, match=r"3 anomalous images but 2 masks.*without a mask: \S*test/defect/001\.png\. "):
        MVTec(root=root, category="surface").setup()


@pytest.mark.parametrize(("alias", "category"), [(MVTec, "screw"), (BTAD, "01")])
def test_missing_data_without_network(alias, category, tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr("anomalib.data.utils.download.urlretrieve", fail)
    with pytest.raises(FileNotFoundError, match=f"misspelt/{category} is missing.*download.*not known.*root") as caught:
        alias(root=tmp_path / "misspelt", category=category).prepare_data()
    assert find_expected(caught.value) is caught.value  # one message instead of a traceback
