"""The memory layout depends on the width and changes no result."""

import pytest
import torch
from torch import nn

from anomalib_plus.models.components.memory_layout import choose_memory_layout


@pytest.mark.parametrize(("width", "channels_last"), [(8, True), (31, True), (32, False), (64, False)])
def test_narrow_networks_are_held_channels_last(width: int, channels_last: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    images = torch.rand(2, 3, 16, 16)
    before = network(images)
    choose_memory_layout(network, width)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    torch.testing.assert_close(network(images), before)
