"""Detection of deterministic transforms, whose results can be cached between epochs."""

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
    """Return True if a transform is known to be deterministic; None counts as the identity."""
    if isinstance(transform, v2.Compose | nn.Sequential):
        return all(map(is_repeatable, transform.transforms if isinstance(transform, v2.Compose) else transform))
    return transform is None or isinstance(transform, _REPEATABLE)
