"""``Engine.predict`` on a datamodule, a folder and one file."""

from pathlib import Path

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch

from .comparison import assert_same_output
from .conftest import Surfaces, Trained
from .small_models import SmallModel, quiet_engine


@pytest.fixture(scope="package")
def expected(trained: Trained, surface_batch: ImageBatch) -> dict[str, InferenceBatch]:
    """What the trained model says of each test file by a plain call, the way an exported model does."""
    with torch.inference_mode():
        return {
            path: trained.model.eval()(image[None])
            for path, image in zip(surface_batch.image_path, surface_batch.image, strict=True)
        }


def assert_as_expected(batches: list[ImageBatch], expected: dict[str, InferenceBatch], paths: list[Path]) -> None:
    predicted = [item for batch in batches for item in batch.items]
    assert sorted(item.image_path for item in predicted) == sorted(str(path) for path in paths)
    for item in predicted:
        assert_same_output(item, expected[item.image_path], tolerance=1e-5)


def test_predict_on_a_datamodule(
    small_model: SmallModel,
    trained: Trained,
    surfaces: Surfaces,
    mvtec_layout: Path,
    expected: dict[str, InferenceBatch],
) -> None:
    batches = quiet_engine().predict(small_model.build(), datamodule=surfaces(), ckpt_path=trained.checkpoint)
    assert [len(batch.image) for batch in batches] == [4, 2]
    assert_as_expected(batches, expected, list((mvtec_layout / "surface" / "test").rglob("*.png")))


@pytest.mark.parametrize("path", ["test/defect", "test/good/001.png"], ids=["folder", "file"])
def test_predict_on_a_path(
    small_model: SmallModel, trained: Trained, mvtec_layout: Path, expected: dict[str, InferenceBatch], path: str
) -> None:
    source = mvtec_layout / "surface" / path
    batches = quiet_engine().predict(small_model.build(), data_path=source, ckpt_path=trained.checkpoint)
    assert_as_expected(batches, expected, sorted(source.glob("*.png")) if source.is_dir() else [source])
