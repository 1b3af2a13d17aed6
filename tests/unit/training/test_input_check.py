"""The callback stops a run on bad files, for every stage and every way to pass data, before the model works."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from anomalib.data import BTech, Folder, MVTecAD, PredictDataset
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_plus.data import MVTec, dataset_check
from anomalib_plus.data.dataset_check import check_datasets
from anomalib_plus.image_files import ImageFacts, inspect_image, inspect_mask
from anomalib_plus.training.input_check import ImageFileCheck


class Recorder(LightningModule):
    """Does nothing but remember that it was asked to work."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.was_set_up = False

    def setup(self, stage: str) -> None:
        self.was_set_up = True

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.steps.append("train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.steps.append("validate")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.steps.append("test")

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self.steps.append("predict")

    def configure_optimizers(self) -> None:
        return None


@pytest.fixture
def category(mvtec_layout: Path, tmp_path: Path) -> Path:
    return shutil.copytree(mvtec_layout, tmp_path / "root") / "surface"


@pytest.fixture
def trainer() -> Trainer:
    return Trainer(
        callbacks=[ImageFileCheck()],
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _mvtec(category: Path) -> MVTec:
    return MVTec(root=category.parent, category=category.name, num_workers=0)


def _make_deep(path: Path) -> None:
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(path)


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _loaders(datamodule: MVTec, *parts: str) -> list[DataLoader]:
    datamodule.prepare_data()
    datamodule.setup()
    return [getattr(datamodule, f"{part}_dataloader")() for part in parts]


RUNS: dict[str, tuple[str, Callable[[Trainer, Recorder, Path], Any]]] = {
    "fit": ("train/good/002.png", lambda t, m, c: t.fit(m, datamodule=_mvtec(c))),
    "fit, validation": ("test/good/001.png", lambda t, m, c: t.fit(m, datamodule=_mvtec(c))),
    "validate": ("test/good/001.png", lambda t, m, c: t.validate(m, datamodule=_mvtec(c), verbose=False)),
    "test": ("test/defect/001.png", lambda t, m, c: t.test(m, datamodule=_mvtec(c), verbose=False)),
    "predict": ("test/defect/001.png", lambda t, m, c: t.predict(m, datamodule=_mvtec(c))),
    "fit loaders": ("train/good/002.png", lambda t, m, c: t.fit(m, *_loaders(_mvtec(c), "train", "val"))),
    "fit loaders, validation": ("test/good/001.png", lambda t, m, c: t.fit(m, *_loaders(_mvtec(c), "train", "val"))),
    "validate loaders": ("test/good/001.png", lambda t, m, c: t.validate(m, _loaders(_mvtec(c), "val"), verbose=False)),
    "test loaders": ("test/good/001.png", lambda t, m, c: t.test(m, _loaders(_mvtec(c), "test"), verbose=False)),
    "predict folder": (
        "test/good/001.png",
        lambda t, m, c: t.predict(
            m, DataLoader(data := PredictDataset(c / "test" / "good"), collate_fn=data.collate_fn)
        ),
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_bad_file_stops_the_run_before_any_step(run: str, category: Path, trainer: Trainer) -> None:
    file, start = RUNS[run]
    _cut_off(category / file)
    model = Recorder()
    with pytest.raises(ValueError, match=f"(?s)1 image file cannot be used.*{file}: .*damaged or cut off"):
        start(trainer, model, category)
    assert model.steps == []
    assert model.was_set_up == ("loaders" in run or "folder" in run), "a datamodule is checked before anything else"


@pytest.mark.parametrize("run", RUNS)
def test_good_files_pass_in_every_run_and_each_is_inspected_once(
    run: str, category: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected: list[Path] = []

    def inspect(path: Path, inspection: Callable[[Path], ImageFacts]) -> ImageFacts:
        inspected.append(path)
        return inspection(path)

    for inspection in (inspect_image, inspect_mask):
        monkeypatch.setattr(dataset_check, inspection.__name__, partial(inspect, inspection=inspection))
    model = Recorder()
    RUNS[run][1](trainer, model, category)
    assert model.steps
    assert inspected
    assert len(inspected) == len(set(inspected))


def test_files_of_other_stages_are_not_looked_at_and_good_masks_give_no_warning(
    category: Path, trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    _cut_off(category / "train" / "good" / "000.png")
    trainer.test(Recorder(), datamodule=_mvtec(category), verbose=False)
    assert "mask" not in caplog.text


def test_error_names_three_files_of_a_kind_and_counts_the_rest(category: Path) -> None:
    for index in range(5):
        _make_deep(category / "train" / "good" / f"{index:03d}.png")
    _cut_off(category / "train" / "good" / "005.png")
    datamodule = _mvtec(category)
    datamodule.setup()
    with pytest.raises(ValueError, match="6 image files") as error:
        check_datasets([datamodule.train_data])
    headline, deep, cut = str(error.value).splitlines()
    assert headline == "6 image files cannot be used; repair or remove:"
    assert "002.png and 2 more: has pixels of more than 8 bits" in deep
    assert "003.png" not in deep
    assert cut.endswith("005.png: is damaged or cut off")


def test_mask_of_another_size_is_refused(category: Path, trainer: Trainer) -> None:
    Image.new("L", (32, 32), 255).save(category / "ground_truth" / "defect" / "000_mask.png")
    with pytest.raises(ValueError, match=r"000_mask\.png: .a mask. differs in size from its image"):
        trainer.test(Recorder(), datamodule=_mvtec(category))


def test_mask_that_lies_across_its_image_is_explained(category: Path, trainer: Trainer) -> None:
    Image.new("RGB", (64, 48)).save(category / "test" / "defect" / "000.png")
    Image.new("L", (48, 64), 255).save(category / "ground_truth" / "defect" / "000_mask.png")
    with pytest.raises(ValueError, match=r"000_mask\.png: .*differs in size.*as if one were rotated: .*EXIF"):
        trainer.test(Recorder(), datamodule=_mvtec(category), verbose=False)


def test_damaged_mask_is_refused(category: Path, trainer: Trainer) -> None:
    _cut_off(category / "ground_truth" / "defect" / "002_mask.png")
    with pytest.raises(ValueError, match=r"002_mask\.png: .a mask. is damaged or cut off"):
        trainer.test(Recorder(), datamodule=_mvtec(category))


def test_mask_that_anomalib_takes_for_granted_is_looked_for(category: Path, trainer: Trainer) -> None:
    btech = category.parent / "01"
    shutil.copytree(category / "train" / "good", btech / "train" / "ok")
    shutil.copytree(category / "test" / "good", btech / "test" / "ok")
    shutil.copytree(category / "test" / "defect", btech / "test" / "ko")
    with pytest.raises(ValueError, match=r"(?s)3 image files .*ground_truth/ko/002\.png: .a mask. does not exist"):
        trainer.test(Recorder(), datamodule=BTech(root=category.parent, category="01", num_workers=0))


def test_anomalous_sample_without_any_mask_is_refused(category: Path) -> None:
    datamodule = _mvtec(category)
    datamodule.setup()
    datamodule.test_data.samples.loc[datamodule.test_data.samples.label_index == 1, "mask_path"] = None
    with pytest.raises(ValueError, match=r"002\.png: is anomalous but has no mask"):
        check_datasets([datamodule.test_data])


@pytest.mark.parametrize("black", [1, 3])
def test_masks_that_mark_nothing_are_named_once(
    black: int, category: Path, trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(black):
        Image.new("L", (64, 64)).save(category / "ground_truth" / "defect" / f"00{index}_mask.png")
    trainer.test(Recorder(), datamodule=_mvtec(category), verbose=False)
    (warning,) = [record.getMessage() for record in caplog.records if "all black" in record.getMessage()]
    assert warning.startswith(f"{black} of 3 masks of anomalous images {'is' if black == 1 else 'are'} all black: ")
    assert all((f"00{index}_mask.png" in warning) == (index < black) for index in range(3))


def test_one_black_mask_of_several_is_fine(category: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("L", (64, 64)).save(category.parent / "black.png")
    datamodule = _mvtec(category)
    datamodule.setup()
    table = datamodule.test_data.samples
    table["mask_path"] = [
        [str(mask), str(category.parent / "black.png")] if label else ""
        for mask, label in zip(table.mask_path, table.label_index, strict=True)
    ]
    checked = check_datasets([datamodule.test_data])
    assert sorted(len(sample.masks) for sample in checked) == [0, 0, 0, 2, 2, 2]
    assert not caplog.records


def test_images_without_masks_are_fine_for_classification(category: Path, trainer: Trainer) -> None:
    folder = Folder(
        name="f",
        root=category,
        normal_dir="train/good",
        abnormal_dir="test/defect",
        normal_test_dir="test/good",
        num_workers=0,
    )
    trainer.test(Recorder(), datamodule=folder, verbose=False)


def test_empty_training_folder_is_named(category: Path, trainer: Trainer) -> None:
    shutil.rmtree(category / "train" / "good")
    (category / "train" / "good").mkdir()
    with pytest.raises(ValueError, match=r"MVTec has no images to fit: \S*surface/train is empty"):
        trainer.fit(Recorder(), datamodule=_mvtec(category))


def test_sanity_check_of_plain_loaders_is_preceded_by_ours(category: Path, trainer: Trainer) -> None:
    _cut_off(category / "test" / "good" / "001.png")
    trainer.num_sanity_val_steps = 1
    model = Recorder()
    with pytest.raises(ValueError, match=r"good/001\.png: is damaged or cut off"):
        trainer.fit(model, *_loaders(_mvtec(category), "train", "val"))
    assert model.steps == []


def test_empty_test_folder_makes_anomalib_test_on_training_images(category: Path, trainer: Trainer) -> None:
    shutil.rmtree(category / "test")
    shutil.rmtree(category / "ground_truth")
    datamodule = _mvtec(category)
    trainer.test(Recorder(), datamodule=datamodule, verbose=False)
    assert all("train/good" in path for path in datamodule.test_data.samples.image_path)


def test_anomalib_itself_names_other_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError, match=r"Found 0 images in .*empty"):
        MVTecAD(root=tmp_path, category="empty").setup()
    with pytest.raises(RuntimeError, match=r"Found 0 .* images in .*empty"):
        Folder(name="f", root=tmp_path, normal_dir="empty").setup()
    with pytest.raises(ValueError, match=r"Found 0 images in .*empty"):
        PredictDataset(tmp_path / "empty")


@pytest.mark.parametrize("own_datamodule", [False, True])
def test_refused_letters_get_an_advice(
    own_datamodule: bool, category: Path, trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    root = category.parent.rename(category.parent.with_name("José"))
    folder = Folder(name="f", root=root / "surface", normal_dir="train/good", num_workers=0)
    datamodule = MVTec(root=root, category="surface") if own_datamodule else folder
    with pytest.raises(ValueError, match="José"):
        trainer.fit(Recorder(), datamodule=datamodule)
    assert own_datamodule or "ln -s FOLDER" in caplog.text


def test_only_the_first_process_looks(category: Path) -> None:
    _cut_off(category / "train" / "good" / "000.png")
    (loader,) = _loaders(_mvtec(category), "train")
    trainer = SimpleNamespace(is_global_zero=False, train_dataloader=loader, val_dataloaders=None)
    ImageFileCheck().on_train_start(trainer, Recorder())
    trainer.is_global_zero = True
    with pytest.raises(ValueError, match=r"good/000\.png"):
        ImageFileCheck().on_train_start(trainer, Recorder())
