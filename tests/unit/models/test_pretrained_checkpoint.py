"""A checkpoint is all one needs: neither the network nor the file of the pre-trained weights is asked again."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from anomalib_plus import TSDN

SMALL: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "bottleneck_width": 8,
    "decoder_widths": (8, 8, 8, 4, 4),
    "fne_hidden_widths": (8,),
    "evaluator": False,
    "visualizer": False,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[TSDN, Path]:
    """A model that was built with the weights of a file, which is gone, and its checkpoint."""
    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_efficientnet", pretrained=False).state_dict(), weights)
    model = TSDN(**SMALL, weights=weights)
    weights.unlink()
    saved: dict[str, Any] = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    saved["pytorch-lightning_version"] = "2.6.6"
    model.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "model.ckpt")
    return model, tmp_path / "model.ckpt"


def test_loading_reads_the_checkpoint_only(checkpoint: tuple[TSDN, Path]) -> None:
    model, file = checkpoint
    loaded = TSDN.load_from_checkpoint(file)
    torch.testing.assert_close(dict(loaded.model.state_dict()), dict(model.model.state_dict()), rtol=0, atol=0)
    assert loaded.hparams["pre_trained"] is False


def test_who_asks_for_the_weights_gets_the_error(checkpoint: tuple[TSDN, Path]) -> None:
    _, file = checkpoint
    with pytest.raises(FileNotFoundError, match=r"weights\.pth"):
        TSDN.load_from_checkpoint(file, pre_trained=True, weights="weights.pth")
