"""The bottleneck of TSDN is a plain convolution; checkpoints from before it was one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from anomalib_plus import TSDN
from anomalib_plus.training.checkpoint_files import CheckpointError

SMALL: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "pre_trained": False,
    "bottleneck_width": 16,
    "decoder_widths": (16, 8, 8, 8, 4),
    "fne_width": 4,
    "fne_hidden_widths": (16,),
    "fne_size": 2,
    "visualizer": False,
}


def test_bottleneck_is_linear_in_the_deepest_map() -> None:
    """No normalisation and no ReLU behind the 1x1 convolution (section 2.3)."""
    model = TSDN(**SMALL).model.train()
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda *args: seen.append(args[2][-1]))
    features = model(torch.rand(2, 3, 64, 64)).features
    weight, bias = model.reduce.weight.flatten(1), model.reduce.bias
    expected = torch.einsum("oc,bchw->bohw", weight, seen[0]) + bias.view(1, -1, 1, 1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    assert features.min() < 0


def test_a_checkpoint_with_a_normalised_bottleneck_is_refused_by_name(tmp_path: Path) -> None:
    """As they were before the bottleneck became linear."""
    model = TSDN(**SMALL)
    weights = model.state_dict()
    weights["model.reduce.0.weight"] = weights.pop("model.reduce.weight")
    weights["model.reduce.1.weight"] = weights.pop("model.reduce.bias")
    content = {"state_dict": weights, "hyper_parameters": dict(model.hparams), "pytorch-lightning_version": "2.6.6"}
    model.on_save_checkpoint(content)
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(
        CheckpointError, match=r"2 missing \(model\.reduce\.weight, .*unknown \(model\.reduce\.0\.weight"
    ):
        TSDN.load_from_checkpoint(tmp_path / "model.ckpt")
