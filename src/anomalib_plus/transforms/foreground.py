"""The foreground of an image: Otsu's threshold and the side of it that is the background (FEAR, section 3)."""

from typing import Literal

import torch
from torch import Tensor

from anomalib_plus.transforms.histogram import byte_histograms

Polarity = Literal["auto", "bright", "dark"]

FRAME_WIDTH = 0.02
FOREGROUND_SHARE = (0.01, 0.99)


def otsu_thresholds(histograms: Tensor) -> Tensor:
    """Level t that separates values <= t from values > t best (Otsu 1979).

    The level is the one OpenCV finds. (kornia's function spreads its bins between the darkest and the brightest pixel
    and so finds another.)

    Args:
        histograms: (..., 256), integer counts of 8-bit values.

    Returns:
        (...), int64; 0 if there is one value only.
    """
    levels = torch.arange(256, device=histograms.device)
    dark_count, dark_sum = histograms.cumsum(-1), (histograms * levels).cumsum(-1)
    count, total = dark_count[..., -1:], dark_sum[..., -1:]
    # Between-class variance times count squared. The integers are exact, so empty bins tie exactly and argmax, like
    # OpenCV, returns the first of them.
    spread = (total * dark_count - count * dark_sum).double().square()
    return (spread / (dark_count * (count - dark_count)).clamp_min(1)).argmax(-1)


def otsu_foreground(images: Tensor, polarity: Polarity = "auto") -> Tensor:
    """Mask of the object in each image: the pixels on one side of Otsu's threshold.

    With ``polarity="auto"`` the background is the side that holds the majority of a frame of 2 % of the shorter side
    along the image border. An image with less than 1 % or more than 99 % foreground has no usable background: its
    foreground is everything.

    Args:
        images: (B, 3, H, W), values in [0, 1].
        polarity: Side of the threshold that is the object, if that is known.

    Returns:
        (B, 1, H, W), bool.
    """
    red, green, blue = images.float().unbind(1)
    half = torch.full_like(red[:1, :1, :1], 0.5)  # so that cutting off the decimals rounds
    grey = half.add(red, alpha=0.299 * 255).add_(green, alpha=0.587 * 255).add_(blue, alpha=0.114 * 255)
    grey = grey.clamp_(0, 255).short().byte()  # in two steps it is vectorised, and so in half the time
    histograms = byte_histograms(grey)
    thresholds = otsu_thresholds(histograms)
    if polarity == "auto":
        object_is_dark = _frame(grey).gt_(thresholds.byte()[:, None]).float().mean(1) > 0.5
    else:
        object_is_dark = torch.full_like(thresholds, polarity == "dark", dtype=torch.bool)

    dark_share = histograms.cumsum(1).gather(1, thresholds[:, None])[:, 0] / grey[0].numel()
    share = torch.where(object_is_dark, dark_share, 1 - dark_share)
    unusable = (share < FOREGROUND_SHARE[0]) | (share > FOREGROUND_SHARE[1])
    # Of the negative, 255 - grey, what was <= t is >= 255 - t. Bytes that are overwritten by what is compared, 0 or 1,
    # take a tenth of the time of a comparison that returns booleans.
    bounds = torch.where(object_is_dark, 255 - thresholds, thresholds + 1).masked_fill_(unusable, 0)
    grey ^= torch.where(object_is_dark, 255, 0).byte()[:, None, None]
    return grey.ge_(bounds.byte()[:, None, None]).view(torch.bool).unsqueeze(1)


def _frame(grey: Tensor) -> Tensor:
    """Pixels (B, N) of the frame along the border of (B, H, W)."""
    height, width = grey.shape[1:]
    thickness = max(1, int(FRAME_WIDTH * min(height, width)))
    between = grey[:, thickness : height - thickness]
    sides = [
        grey[:, :thickness],
        grey[:, height - thickness :],
        between[..., :thickness],
        between[..., width - thickness :],
    ]
    return torch.cat([side.flatten(1) for side in sides], dim=1)
