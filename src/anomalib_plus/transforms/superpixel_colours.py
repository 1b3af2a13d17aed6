"""Colours of superpixels: which are filled, with what and how opaque."""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_fillings(
    counts: Sequence[int],
    n_filled: int,
    probability: float = 1.0,
    generator: torch.Generator | None = None,
    candidates: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose ``n_filled`` of each image's ``counts[i]`` superpixels (all if there are fewer), and colours.

    With ``candidates``, the labels to choose from, one list per image, the others are left alone.

    Returns:
        Colours (B, 3, max(counts)), uniform in [0, 1), and which superpixels are filled, bool (B, 1, max(counts)).
    """
    colours = torch.zeros(len(counts), 3, max(counts))
    filled = torch.zeros(len(counts), 1, max(counts), dtype=torch.bool)
    for index, count in enumerate(counts):
        if torch.rand((), generator=generator) < probability:
            if candidates is None:
                chosen = torch.randperm(count, generator=generator)[:n_filled]
            else:
                own = candidates[index].long()
                chosen = own[torch.randperm(len(own), generator=generator)[:n_filled]]
            colours[index, :, chosen] = torch.rand(3, len(chosen), generator=generator)
            filled[index, :, chosen] = True
    return colours, filled


def draw_opacity(filled: Tensor, bounds: tuple[float, float], generator: torch.Generator | None = None) -> Tensor:
    """Draw an opacity for each superpixel, uniform between the bounds; the shape of ``filled``."""
    low, high = bounds
    if low == high:  # without a draw, so that those of the paper's filling stay as they are
        return torch.full(filled.shape, float(low))
    return low + (high - low) * torch.rand(filled.shape, generator=generator)


def fill_superpixels(
    images: Tensor, labels: Tensor, colours: Tensor, filled: Tensor, opacity: Tensor
) -> tuple[Tensor, Tensor]:
    """Look up each pixel's colour by its label.

    Args:
        images: (B, 3, H, W).
        labels: Integer label maps (B, H, W), values below L.
        colours: (B, 3, L).
        filled: True for the labels that take their colour, bool (B, 1, L).
        opacity: Share of their colour that they take, (B, 1, L) in [0, 1].

    Returns:
        Corrupted images and masks (B, 1, H, W), both of the images' dtype.
    """
    index = labels.flatten(1).long().unsqueeze(1)
    masks = filled.gather(2, index).unflatten(2, labels.shape[1:])
    colours = colours.to(images.dtype).gather(2, index.expand(-1, 3, -1)).unflatten(2, labels.shape[1:])
    opacity = opacity.to(images.dtype).gather(2, index).unflatten(2, labels.shape[1:])
    return torch.where(masks, images.lerp(colours, opacity), images), masks.to(images.dtype)
