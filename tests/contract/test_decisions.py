"""Thresholds from good images and a region of interest, with every model."""

import copy
from pathlib import Path

import pytest
import torch
from anomalib.models import AnomalibModule

from anomalib_plus import ConformalPostProcessor
from anomalib_plus.training.checkpoint_files import CheckpointError

from .comparison import assert_same_output
from .conftest import Surfaces, Trained
from .small_models import SmallModel, quiet_engine


@pytest.fixture
def conformal(trained: Trained, surfaces: Surfaces, left_mask: Path) -> AnomalibModule:
    """A trained model with thresholds from the three good images of the validation set."""
    model = copy.deepcopy(trained.model)
    model.post_processor = ConformalPostProcessor(0.25, roi=left_mask)
    quiet_engine().validate(model, datamodule=surfaces(), verbose=False)
    return model.eval()


def test_decisions_are_the_same_in_engine_forward_and_checkpoint(
    small_model: SmallModel, conformal: AnomalibModule, surfaces: Surfaces, left_mask: Path, tmp_path: Path
) -> None:
    engine = quiet_engine()
    batches = engine.predict(conformal, datamodule=surfaces())
    engine.trainer.save_checkpoint(tmp_path / "model.ckpt")
    left_mask.unlink()  # the checkpoint holds the mask
    loaded = small_model.cls.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    assert isinstance(loaded.post_processor, ConformalPostProcessor)
    assert loaded.post_processor.budget == conformal.post_processor.budget
    assert conformal.post_processor.n == 3
    for batch in batches:
        inside = batch.anomaly_map[..., :32].flatten(1).amax(1)
        assert torch.equal(batch.pred_score.flatten(), inside), "score and map share one scale"
        assert not batch.anomaly_map[..., 32:].any()
        assert torch.equal(batch.pred_label.flatten(), batch.pred_score.flatten() > 0.5)
        good = batch.pred_score.flatten()[~batch.gt_label]
        assert (good <= 0.5 + 1e-3).all(), "they are the validation images, of which the largest is the threshold"
        for model in (conformal, loaded):
            with torch.inference_mode():
                assert_same_output(batch, model(batch.image), tolerance=1e-3)
    with pytest.raises(CheckpointError, match=r"made with another post-processor .*Pass the same --config"):
        engine.predict(small_model.build(), datamodule=surfaces(), ckpt_path=tmp_path / "model.ckpt")
