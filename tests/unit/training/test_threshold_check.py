"""When a warning about thresholds is given, and when not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anomalib.data import AnomalibDataset, MVTecAD
from anomalib.post_processing import PostProcessor
from torch.utils.data import ConcatDataset, DataLoader, Subset

from anomalib_plus.post_processing import ConformalPostProcessor
from anomalib_plus.training.threshold_check import ThresholdCheck

MODEL = SimpleNamespace(post_processor=PostProcessor())


@pytest.fixture
def surface(mvtec_layout: Path) -> MVTecAD:
    datamodule = MVTecAD(root=mvtec_layout, category="surface")
    datamodule.setup()
    return datamodule


def warning_at_start(caplog: pytest.LogCaptureFixture, *datasets: Any, model: Any = MODEL, first: bool = True) -> str:
    loaders = [DataLoader(dataset) for dataset in datasets]
    trainer = SimpleNamespace(is_global_zero=first, val_dataloaders=loaders or None, enable_validation=False)
    caplog.clear()
    ThresholdCheck().on_train_start(trainer, model)
    return caplog.text


def test_good_images_alone_are_named_and_counted(surface: MVTecAD, caplog: pytest.LogCaptureFixture) -> None:
    good, defects = surface.train_data, Subset(surface.test_data, [0, 1, 2])
    assert "no defect among the validation images (6)" in warning_at_start(caplog, good)
    assert "no defect among the validation images (8)" in warning_at_start(
        caplog, good, Subset(surface.test_data, [3, 4])
    )
    assert not warning_at_start(caplog, good, defects)
    assert not warning_at_start(caplog, ConcatDataset([good, defects]))
    assert not warning_at_start(caplog, good, first=False)


def test_no_validation_images(surface: MVTecAD, caplog: pytest.LogCaptureFixture) -> None:
    empty = Subset(surface.train_data, [])
    assert "no validation images" in warning_at_start(caplog)
    trainer = SimpleNamespace(is_global_zero=True, val_dataloaders=SimpleNamespace(dataset=empty))
    ThresholdCheck().on_train_start(trainer, MODEL)
    assert caplog.text.count("no validation images") == 2


def test_a_threshold_from_good_images_needs_no_defects(surface: MVTecAD, caplog: pytest.LogCaptureFixture) -> None:
    model = SimpleNamespace(post_processor=ConformalPostProcessor())
    assert not warning_at_start(caplog, surface.train_data, model=model)
    warning = warning_at_start(caplog, Subset(surface.train_data, []), model=model)
    assert "no validation images" in warning
    assert "val_split_mode: from_train" in warning


def test_labels_that_are_not_known_are_no_reason_to_warn(surface: MVTecAD, caplog: pytest.LogCaptureFixture) -> None:
    unlabelled = AnomalibDataset()
    unlabelled.samples = surface.train_data.samples[["image_path", "split"]]
    assert not warning_at_start(caplog, unlabelled)
    assert not warning_at_start(caplog, [1, 2, 3])


@pytest.mark.parametrize("post_processor", [None, PostProcessor(enable_thresholding=False)])
def test_models_without_thresholds_need_none(
    post_processor: PostProcessor | None, surface: MVTecAD, caplog: pytest.LogCaptureFixture
) -> None:
    model = SimpleNamespace(post_processor=post_processor)
    assert not warning_at_start(caplog, surface.train_data, model=model)
    ThresholdCheck().on_predict_start(SimpleNamespace(is_global_zero=True), model)
    assert not caplog.text
