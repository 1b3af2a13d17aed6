"""Texture operations that look at neighbours or mix channels: on whole images, and some of them at single pixels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from anomalib_plus.transforms.rotation import rotate_where

# Operations on pixels: (B, 3, H, W) uint8, which may be overwritten, host numbers (B, 2) -> (B, 3, H, W) uint8.


def _sharpness(images: Tensor, numbers: Tensor) -> Tensor:
    """Blend with (factor < 1) or away from (factor > 1) a 3x3 smoothing whose centre weighs 5 and whose rim 1.

    Sums of slices, because a depth-wise convolution is several times slower on a CPU.
    """
    factor = numbers[:, 0].float().to(images.device, non_blocking=True)[:, None, None, None]
    values = images.short()
    centre = values[..., 1:-1, 1:-1]
    rows = (values[..., :-2, :] + values[..., 1:-1, :]).add_(values[..., 2:, :])
    total = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(centre, alpha=4)
    smooth = total.float().mul_(1 / 13).round_()  # never at a tie, because 13 is odd
    sharp = smooth.lerp_(centre.float(), factor).short().clamp_(0, 255)
    images[..., 1:-1, 1:-1] = sharp  # directly, the conversion is not vectorised and takes five times as long
    return images


def _rotation(images: Tensor, numbers: Tensor) -> Tensor:
    everyone = torch.ones(len(images), dtype=torch.bool)
    return rotate_where(everyone, images.float(), numbers[:, 0], highest=255).round_().byte()


def _hue_saturation(images: Tensor, numbers: Tensor) -> Tensor:
    shift, saturation = numbers.float().to(images.device, non_blocking=True)[..., None, None, None].unbind(1)
    return _turn_colours(images.float(), shift, saturation)


def _turn_colours(values: Tensor, shift: Tensor, saturation: Tensor) -> Tensor:
    """Blend with grey or away from it, then turn the colour circle; in HSV terms, value and chroma stay."""
    red, green, blue = values.unbind(1)
    grey = (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_().unsqueeze(1)
    values = grey.lerp(values, saturation).clamp_(0, 255).floor_()

    red, green, blue = values.unbind(1)
    low, high = values.amin(1), values.amax(1)
    chroma = (high - low).clamp_min_(1)
    hue = torch.where(high == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma)
    hue = torch.where(high == red, (green - blue) / chroma, hue).unsqueeze_(1)
    distance = (hue + shift * 6 + torch.tensor([5, 3, 1]).to(values.device, non_blocking=True)[:, None, None]) % 6
    share = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return (high[:, None] - (high - low)[:, None] * share).round_().byte()


def _auto_augment(images: Tensor, numbers: Tensor) -> Tensor:
    """One ImageNet policy per image; torchvision draws it from torch's default generator, which is put back."""
    augmented = []
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, numbers[:, 0].long().tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            augmented.append(_AUTO_AUGMENT(image))
    return torch.stack(augmented)


_AUTO_AUGMENT = v2.AutoAugment()

PIXEL_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sharpness": _sharpness,
    "rotation": _rotation,
    "hue_saturation": _hue_saturation,
    "auto_augment": _auto_augment,
}


# At N pixels: a function that reads (..., N) positions in the flattened plane as (..., 3, N) float32, the positions
# (N,), the size of the images, and the numbers (N, 2) -> (3, N) uint8, the same as on whole images to the bit.

_Reader = Callable[[Tensor], Tensor]


def _sharpness_at(read: _Reader, positions: Tensor, size: tuple[int, int], numbers: Tensor) -> Tensor:
    height, width = size
    down, across = positions // width, positions % width
    inner = (down > 0) & (down < height - 1) & (across > 0) & (across < width - 1)
    step = torch.arange(-1, 2, device=positions.device)
    # On the rim nine times the pixel itself, whose smoothing and sharpening leave it as it is.
    values = read(positions + inner * (step[:, None] * width + step).view(9, 1))
    centre = values[4]
    smooth = values.sum(0).add_(centre, alpha=4).mul_(1 / 13).round_()
    return smooth.lerp_(centre, numbers[:, 0]).short().clamp_(0, 255).byte()


def _hue_saturation_at(read: _Reader, positions: Tensor, _: tuple[int, int], numbers: Tensor) -> Tensor:
    shift, saturation = numbers.T.contiguous()
    return _turn_colours(read(positions)[None, :, None], shift, saturation)[0, :, 0]


POINT_OPERATIONS: dict[str, Callable[[_Reader, Tensor, tuple[int, int], Tensor], Tensor]] = {
    "sharpness": _sharpness_at,
    "hue_saturation": _hue_saturation_at,
}
