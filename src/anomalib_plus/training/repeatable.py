"""Whether the same file gives the same image in every epoch, so that what was computed from it can be kept."""

from anomalib.data.transforms import SquarePad
from torch import nn
from torchvision.transforms import v2

_REPEATABLE = (
    v2.CenterCrop,
    v2.Grayscale,
    v2.Identity,
    v2.Normalize,
    v2.Pad,
    v2.Resize,
    v2.ToDtype,
    v2.ToImage,
    SquarePad,
)


def is_repeatable(transform: nn.Module | None) -> bool:
    """Whether a transform is known to make the same of an image every time; None, that is nothing, does."""
    if isinstance(transform, v2.Compose | nn.Sequential):
        return all(map(is_repeatable, transform.transforms if isinstance(transform, v2.Compose) else transform))
    return transform is None or isinstance(transform, _REPEATABLE)
