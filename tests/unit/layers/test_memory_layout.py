"""The memory layout depends on width and processor and changes no result."""

import pytest
import torch
from torch import nn

from anomalib_plus.layers.memory_layout import choose_memory_layout


@pytest.mark.parametrize(
    ("width", "capability", "channels_last"),
    [(8, "AVX2", True), (31, "AVX2", True), (32, "AVX2", False), (64, "DEFAULT", False), (64, "AVX512", True)],
)
def test_channels_last_unless_wide_without_avx512(
    width: int, capability: str, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    images = torch.rand(2, 3, 16, 16)
    before = network(images)
    choose_memory_layout(network, width)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    torch.testing.assert_close(network(images), before)
