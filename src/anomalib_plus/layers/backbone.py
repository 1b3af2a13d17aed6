"""Feature pyramids of timm networks."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from anomalib_plus.layers.pretrained import WeightArguments, check_network_name, create_network


class Backbone(nn.Module):
    """Feature maps of a timm network at some of its stages, from images in [0, 1].

    The network's mean and standard deviation are applied inside. Layers after the last stage are not built. All
    parameters are trainable, and the network is in training mode.

    Args:
        name: A timm name, with its weight tag where the tag matters.
        stages: Stages by timm's name (``layer2``, ``blocks.1``) or by index from 0, in the network's order.
        pre_trained: See :func:`~anomalib_plus.layers.pretrained.create_network`, which also lists the errors.
        weights: See there.
        arguments: See there.

    Raises:
        ValueError: If the network has no such stage.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        stages: Sequence[str | int],
        pre_trained: bool = True,
        weights: str | Path | None = None,
        arguments: WeightArguments = WeightArguments(),  # noqa: B008 -- immutable
    ) -> None:
        super().__init__()
        indices = stage_indices(name, stages, arguments)
        self.network = create_network(name, pre_trained, weights, arguments, features_only=True, out_indices=indices)
        info: Any = self.network.feature_info
        drop_later_blocks(self.network, info.module_name()[-1])
        self.channels = tuple(info.channels())
        """Channels of each feature map."""
        self.strides = tuple(info.reduction())
        """Stride of each feature map in pixels of the image."""
        self.channels_come_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        configuration = timm.get_pretrained_cfg(name)
        for statistic in ("mean", "std"):
            values = torch.tensor(getattr(configuration, statistic)).view(1, 3, 1, 1)
            self.register_buffer(statistic, values, persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) in [0, 1] to one feature map (B, C, H / stride, W / stride) per stage."""
        maps = self.network((images - self.mean) / self.std)
        return [values.permute(0, 3, 1, 2) for values in maps] if self.channels_come_last else maps


def drop_later_blocks(network: Any, last_stage: str) -> None:
    """Remove the blocks after ``last_stage``, which timm's EfficientNet and MobileNet families keep and compute.

    They would cost time, and distributed training fails on parameters that no loss depends on.
    """
    container, _, index = last_stage.rpartition(".")
    if container == "blocks" and index.isdigit() and isinstance(getattr(network, "blocks", None), nn.Sequential):
        network.blocks = network.blocks[: int(index) + 1]


@cache
def _known_stages(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """List names and strides of all stages of a network."""
    with torch.device("meta"):
        info = timm.create_model(name, pretrained=False, features_only=True).feature_info
    return tuple(info.module_name()), tuple(info.reduction())


def stages_by_stride(name: str, arguments: WeightArguments = WeightArguments()) -> dict[int, int]:  # noqa: B008
    """Map each stride of a network to the index of its last stage, in the network's order.

    Raises:
        ValueError: If there is no such network.
    """
    check_network_name(name, arguments)
    _, strides = _known_stages(name)
    return {stride: index for index, stride in enumerate(strides)}


def stages_of_strides(name: str, strides: Sequence[int], arguments: WeightArguments) -> tuple[int, ...]:
    """Return the indices of the network's last stages with these strides.

    Raises:
        ValueError: If there is no such network, or no stage of a stride.
    """
    known = stages_by_stride(name, arguments)
    missing = [stride for stride in strides if stride not in known]
    if missing:
        msg = f"{arguments.network}={name!r} has no stage of stride {missing[0]}, only {list(known)}: pass its stages."
        raise ValueError(msg)
    return tuple(known[stride] for stride in strides)


def stage_indices(name: str, stages: Sequence[str | int], arguments: WeightArguments) -> tuple[int, ...]:
    """Return the indices of ``stages`` in timm's list of the network's stages.

    Raises:
        ValueError: If there is no such network or stage, or the stages do not ascend.
    """
    check_network_name(name, arguments)
    known, _ = _known_stages(name)
    known_indices: dict[str | int, int] = {key: index for index, stage in enumerate(known) for key in (stage, index)}
    missing = [stage for stage in stages if stage not in known_indices]
    if missing:
        msg = f"{arguments.network}={name!r} has no stage {missing[0]!r}. Its stages are {', '.join(known)}."
        raise ValueError(msg)
    indices = [known_indices[stage] for stage in stages]
    if not indices or indices != sorted(set(indices)):
        order = ", ".join(known)
        msg = f"The stages of {arguments.network}={name!r} must be named once and in the order {order}, got {stages}."
        raise ValueError(msg)
    return tuple(indices)
