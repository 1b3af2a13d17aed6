"""Which memory layout makes a convolutional network train fastest."""

import torch
from torch import nn

WIDTH_OF_CHANNELS_FIRST = 32
"""From this width on oneDNN's weight gradients for channels-last (AVX2) take up to three times as long, which outweighs
the faster forward pass."""


def choose_memory_layout(network: nn.Module, width: int) -> None:
    """Hold the weights channels-last if the network's first stage is narrow; the numbers it computes stay the same.

    On a CPU that saves a fifth of a training step of RamFAE at 8 channels, and would cost 40 % of one at 64.
    """
    if width < WIDTH_OF_CHANNELS_FIRST:
        network.to(memory_format=torch.channels_last)
