"""The figure of the normality estimator: what it measures, and that the command draws it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from anomalib_plus import TSDN
from anomalib_plus.models.tsdn.figure import Normality, main, measure_normality

SMALL: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "pre_trained": False,
    "bottleneck_width": 16,
    "decoder_widths": (16, 8, 8, 8, 8),
    "fne_hidden_widths": (16,),
    "ssim_size": 16,
    "augmenter": {"class_path": "SuperpixelFilling", "init_args": {"n_segments": 64, "n_filled": 8}},
    "evaluator": False,
    "visualizer": False,
}


def test_parts_run_one_by_one_give_what_the_network_gives() -> None:
    model = TSDN(**SMALL).eval()
    image = torch.rand(3, 64, 64)
    seen = measure_normality(model, image)
    with torch.inference_mode():
        _, expected = model.model.map_generator(image[None], seen.reconstruction[None])
        torch.testing.assert_close(model.model(image[None]).anomaly_map, expected)
    assert seen.weights.shape == seen.similarity.shape == seen.target.shape == (16,)


@pytest.mark.parametrize(("weights", "correlation"), [([0.9, 0.5, 0.1, 0.0], -1), ([0.1, 0.2, 0.3, 0.4], 1)])
def test_rank_correlation(weights: list[float], correlation: float) -> None:
    nothing = torch.zeros(1)
    seen = Normality(nothing, nothing, nothing, nothing, torch.tensor(weights), torch.tensor([-0.2, 0.0, 0.3, 0.9]))
    assert seen.rank_correlation == pytest.approx(correlation)


def test_a_model_without_estimator_is_refused() -> None:
    with pytest.raises(ValueError, match="gate='mask'"):
        measure_normality(TSDN(**SMALL, gate="mask"), torch.rand(3, 64, 64))


def test_command_draws_the_figure(mvtec_layout: Path, tmp_path: Path) -> None:
    model = TSDN(**SMALL, pre_processor=TSDN.configure_pre_processor((64, 64)))
    saved: dict[str, Any] = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    saved["pytorch-lightning_version"] = "2.6.6"
    model.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "model.ckpt")
    image = next((mvtec_layout / "surface" / "test" / "defect").glob("*.png"))
    main([str(tmp_path / "model.ckpt"), str(image), "--output", str(tmp_path / "figure.png")])
    assert Image.open(tmp_path / "figure.png").width == 1500
