"""Perceptual distance of two images by features of VGG-16."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from anomalib_plus.layers.pretrained import WeightArguments, check_shapes, create_network, read_state_dict
from anomalib_plus.training.reduced_training import ReducedTrainingWarning

VGG = "vgg16.tv_in1k"
PRESETS: dict[str, tuple[str, ...]] = {
    "first5": ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"),
    "lpips": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
}
"""Layers by name: the paper's wording taken literally, and those of LPIPS."""

_CONVOLUTIONS_PER_BLOCK = (2, 2, 3, 3, 3)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ARGUMENTS = WeightArguments(None, "vgg_weights", "perceptual", "trains without them and without this warning")


def relu_indices(layers: str | Sequence[str]) -> tuple[int, ...]:
    """Return the indices of ReLU layers in VGG-16's ``features``, ascending.

    Args:
        layers: A key of ``PRESETS``, or names such as ``relu3_1``, the first activation of the third block.

    Raises:
        ValueError: If there is no such preset or layer.
    """
    names = PRESETS.get(layers, ()) if isinstance(layers, str) else tuple(layers)
    known, index = {}, 0
    for block, convolutions in enumerate(_CONVOLUTIONS_PER_BLOCK, 1):
        for number in range(1, convolutions + 1):
            known[f"relu{block}_{number}"] = index + 1
            index += 2
        index += 1  # the pooling
    if not names or any(name not in known for name in names):
        msg = f"perceptual_layers must be one of {', '.join(PRESETS)} or some of {', '.join(known)}, got {layers!r}."
        raise ValueError(msg)
    return tuple(sorted(known[name] for name in set(names)))


class PerceptualDistance:
    """Mean absolute difference of features of a frozen network, averaged over its layers.

    Not an ``nn.Module``, so that it stays out of the parameters and checkpoints of the model that holds it.

    Args:
        layers: The network, which is frozen and set to evaluation mode.
        indices: Layers whose outputs are compared.
    """

    def __init__(self, layers: nn.Sequential, indices: Sequence[int]) -> None:
        nodes = {str(index): str(index) for index in indices}
        self.network = create_feature_extractor(layers.eval(), nodes).requires_grad_(False)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))

    def to(self, device: torch.device) -> "PerceptualDistance":
        """Move the network."""
        self.network.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def __call__(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of two batches (B, 3, H, W) in [0, 1], a scalar; the target gets no gradient."""
        with torch.no_grad():
            targets = self.network((target - self.mean) / self.std)
        features = self.network((reconstruction - self.mean) / self.std)
        return torch.stack([F.l1_loss(features[name].float(), targets[name].float()) for name in features]).mean()


def load_vgg(layers: str | Sequence[str] = "first5", weights: str | Path | None = None) -> PerceptualDistance:
    """Load VGG-16 up to the last of ``layers``.

    Args:
        layers: See :func:`relu_indices`.
        weights: State dict with VGG-16's ``features.*``, torchvision's or timm's; None for timm's cache or a download.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds something else, or ``layers`` are unknown.
        RuntimeError: If the weights are neither cached nor can be downloaded.
    """
    indices = relu_indices(layers)
    count = max(indices) + 1
    if weights is None:
        whole: Any = create_network(VGG, arguments=_ARGUMENTS)
        return PerceptualDistance(whole.features[:count], indices)
    with torch.device("meta"):
        network = timm.create_model(VGG, pretrained=False).features[:count]
    network.load_state_dict(_read_features(Path(weights), network), assign=True)
    return PerceptualDistance(network, indices)


def load_vgg_or_warn(
    layers: str | Sequence[str], weights: str | Path | None, device: torch.device
) -> PerceptualDistance | None:
    """Load as above to a device, or warn and return None if the weights are neither cached nor can be downloaded."""
    try:
        return load_vgg(layers, weights).to(device)
    except RuntimeError as error:
        message = f"RbAE trains without its perceptual loss, which checkpoints do not contain. {error}"
        rank_zero_warn(message, category=ReducedTrainingWarning)
        return None


def _read_features(file: Path, network: nn.Sequential) -> dict[str, Tensor]:
    stored = read_state_dict(file, "vgg_weights")
    values = {f"features.{name.removeprefix('features.')}": value for name, value in stored.items()}
    expected = {f"features.{name}": value for name, value in network.state_dict().items()}
    check_shapes(values, expected, f"vgg_weights={file}", "VGG-16")
    return {name.removeprefix("features."): values[name].float() for name in expected}
