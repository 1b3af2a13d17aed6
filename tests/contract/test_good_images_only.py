"""Trainings without defects to choose a threshold by say so, and so do predictions without a threshold."""

from pathlib import Path
from typing import Any

import pytest
from anomalib.data import AnomalibDataModule, Folder
from torch.utils.data import DataLoader

from .conftest import Surfaces
from .small_models import SmallModel, quiet_engine

NO_IMAGES = "there are no validation images"
ONLY_GOOD = "no defect among the validation images"
NO_THRESHOLD = "has no image threshold"


def good_images(mvtec_layout: Path, **arguments: Any) -> Folder:
    return Folder(
        name="good",
        root=mvtec_layout / "surface",
        normal_dir="train/good",
        train_batch_size=2,
        eval_batch_size=2,
        num_workers=0,
        seed=0,
        **arguments,
    )


@pytest.mark.parametrize("kind", ["too few", "good", "both"])
def test_a_training_without_defects_to_validate_on_warns(
    small_model: SmallModel,
    mvtec_layout: Path,
    surfaces: Surfaces,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    datamodule: AnomalibDataModule = {
        "too few": lambda: good_images(mvtec_layout),
        "good": lambda: good_images(mvtec_layout, normal_test_dir="test/good"),
        "both": surfaces,
    }[kind]()
    rarely = 2 if kind == "good" else 1  # not due in the only epoch: Lightning then loads no validation data before it
    engine = quiet_engine(max_epochs=1, limit_train_batches=1, check_val_every_n_epoch=rarely)
    model = small_model.build()
    engine.fit(model, datamodule=datamodule)
    folder = mvtec_layout / "surface" / "test" / "good"
    batches = engine.predict(model, data_path=folder)
    warnings = [record.getMessage() for record in caplog.records]
    expected = {"too few": (1, 0, 1), "good": (0, 1, 0), "both": (0, 0, 0)}[kind]
    assert tuple(sum(part in text for text in warnings) for part in (NO_IMAGES, ONLY_GOOD, NO_THRESHOLD)) == expected
    assert bool(model.post_processor.image_threshold.isnan()) == (kind == "too few")
    if kind == "too few":  # what the warnings say of the decisions
        assert all(bool(batch.pred_label) == (float(batch.pred_score) > 0.5) for batch in batches)


def test_a_training_without_validation_warns(
    small_model: SmallModel, ordered_loader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loader: DataLoader = ordered_loader(2)
    quiet_engine(max_epochs=1, limit_train_batches=1).fit(small_model.build(), train_dataloaders=loader)
    assert f"{small_model.name}: {NO_IMAGES}" in caplog.text
