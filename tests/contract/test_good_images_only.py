"""Trainings without defects to choose a threshold by say so, and so do predictions without a threshold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anomalib.data import AnomalibDataModule, Folder
from anomalib.models import Padim
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_plus import ConformalPostProcessor, SyntheticValidation

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


@pytest.mark.parametrize(("together", "group_by"), [(True, None), (False, None), (False, ".*")])
def test_thresholds_from_parts_of_the_training_are_warned_of(
    together: bool, group_by: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For any model: here one of anomalib's, on two photographs of each part, in different light.

    What ``group_by`` says of the parts holds before what the images look like.
    """
    (tmp_path / "good").mkdir()
    for number in range(12):
        part = np.random.default_rng(number).uniform(40, 200, (32, 32, 1)).repeat(3, axis=2)
        for name, light in (("a", 1.0), ("b", 0.6)):
            file = tmp_path / "good" / f"{10 * number + ord(name)}.png"
            Image.fromarray((light * part).astype(np.uint8)).save(file)
    model = Padim(
        "test_resnet", ["layer1"], pre_trained=False, n_features=4, evaluator=False, visualizer=False,
        pre_processor=Padim.configure_pre_processor((32, 32)),
        post_processor=ConformalPostProcessor(0.2, group_by=group_by),
    )  # fmt: skip
    good = Folder(
        "parts", "good", root=tmp_path, num_workers=0, val_split_mode="from_train", val_split_ratio=0.3, seed=0
    )
    data = SyntheticValidation(good, nuisance=None, holdout=0.3) if together else good
    engine = quiet_engine()
    with caplog.at_level("WARNING"):
        engine.fit(model, data)
    is_warned = "look like images of parts that it was trained on" in caplog.text
    assert is_warned == (not together and group_by != ".*")
    found = model.post_processor
    assert (found.n, found.n_parts) == ((6, 3) if together else (6, 6)), "thresholds count the parts that are known"
    if together:
        data = SyntheticValidation(good, nuisance=None, holdout=0.3, group_by=".*")
        engine.validate(model, datamodule=data, verbose=False)
        assert (found.n, found.n_parts) == (7, 7), "each image is a part of its own"
