"""Kinds of defects of the twins, and one defect of a kind on an image."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from anomalib_plus.transforms.augmenter import Augmenter
from anomalib_plus.transforms.delete_paste import DeletePaste
from anomalib_plus.transforms.mix import ALL_DEFECTS, Mix, with_arguments
from anomalib_plus.transforms.perlin_anomaly import PerlinAnomaly
from anomalib_plus.validation.object_region import object_region

SEVERITIES = (0.2, 0.8)
"""Range from which the severity of a defect is drawn."""
_TRIES = 20


class Kind(NamedTuple):
    """A kind of defect."""

    name: str
    augmenter: Augmenter
    weight: float
    is_ours: bool
    """True for a kind of :func:`default_kinds`, which is placed on the object with a severity that is drawn."""


def default_kinds(names: Sequence[str] | None = None) -> list[Kind]:
    """Return the kinds of defects by default, all equally frequent, or those with the given names.

    Raises:
        ValueError: If there is no kind of a name.
    """
    known: dict[str, Augmenter] = {kind.__name__.lower(): kind() for kind in ALL_DEFECTS}
    known["misplaced"] = DeletePaste(area_ratio=(0.003, 0.03), severity=0.5)
    known["texture"] = PerlinAnomaly(
        "self", probability=1.0, opacity=(0.5, 1.0), perlin_log2_scales=(2, 4), roi=None, severity=0.5, blend="feather"
    )
    if unknown := sorted(set(names or ()) - known.keys()):
        msg = f"There is no kind of defect {', '.join(unknown)}. Known are {', '.join(known)}."
        raise ValueError(msg)
    return [Kind(name, augmenter, 1.0, True) for name, augmenter in known.items() if not names or name in names]


def kinds_of(augmenter: Augmenter | None) -> list[Kind]:
    """List the kinds that a transform can make: the members of a :class:`Mix` of single defects, or the transform.

    None stands for the kinds by default.
    """
    if augmenter is None:
        return default_kinds()
    if isinstance(augmenter, Mix) and augmenter.defects_per_image == (1, 1) and augmenter.nuisance is None:
        members, weights = augmenter.transforms, augmenter.weights
    else:
        members, weights = (augmenter,), [1.0]
    names = [type(member).__name__.lower() for member in members]
    numbered = [
        name if names.count(name) == 1 else f"{name}_{names[: position + 1].count(name)}"
        for position, name in enumerate(names)
    ]
    return [Kind(*parts, False) for parts in zip(numbered, members, weights, strict=True)]


def add_defect(image: Tensor, kind: Kind, severity: float | None, seed: int, source: Any = "") -> tuple[Tensor, Tensor]:
    """Add one defect to an image, the same for a seed.

    Args:
        image: (C, H, W) of 8-bit values divided by 255; left as it is.
        kind: Kind of the defect.
        severity: In (0, 1]; None if the transform has its own.
        seed: Seed of the defect.
        source: Name of the image, for errors.

    Returns:
        The image of 8-bit values divided by 255, which equals the given one outside the mask; and the mask (H, W),
        uint8, not empty.

    Raises:
        ValueError: If the transform gives no defect.
    """
    augmenter = kind.augmenter
    if kind.is_ours:
        arguments: Mapping[str, Any] = {"roi": object_region(image), "severity": severity}
        augmenter = with_arguments(augmenter, arguments)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_TRIES):  # some transforms leave a share of the images as they are
        changed, mask = augmenter(image[None], generator)
        if mask.any():
            return to_8_bits(changed[0]), (mask[0, 0] > 0).byte()
    msg = (
        f"{kind.name} gave no defect on {source} in {_TRIES} tries: raise its probability or its severity, or give a "
        "larger region of interest."
    )
    raise ValueError(msg)


def to_8_bits(image: Tensor) -> Tensor:
    """Round values in [0, 1] to those that an 8-bit file holds, so that no machine sees another image."""
    return to_dtype(
        image.float().mul(255).round_().clamp_(0, 255).byte(), torch.float32, scale=True
    )  # as files are read
