"""Kinds of synthetic defects, and one defect of a kind on an image."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from anomalib_plus.transforms.augmenter import Augmenter
from anomalib_plus.transforms.delete_paste import CutPaste
from anomalib_plus.transforms.mix import ALL_DEFECTS, Mix, with_arguments
from anomalib_plus.transforms.perlin_anomaly import PerlinAnomaly
from anomalib_plus.transforms.region import RegionOfInterest
from anomalib_plus.validation.object_region import object_region

SEVERITIES = (0.3, 0.8)
"""Range from which the severity of a defect is drawn."""
_TRIES = 20


class Kind(NamedTuple):
    """A kind of defect."""

    name: str
    augmenter: Augmenter
    weight: float
    draws_severity: bool = False
    """True if each defect has a severity of its own instead of the transform's."""
    is_on_object: bool = False
    """True if defects lie on the object, where there is one, instead of the transform's region of interest."""


def default_kinds(names: Sequence[str] | None = None, roi: RegionOfInterest = None) -> list[Kind]:
    """Return the kinds of defects by default, all equally frequent, or those with the given names.

    Args:
        names: Names of the kinds; None for all.
        roi: Region of interest; None for the object, where there is one.

    Raises:
        ValueError: If there is no kind of a name.
    """
    known: dict[str, Augmenter] = {kind.__name__.lower(): kind() for kind in ALL_DEFECTS}
    known["misplaced"] = CutPaste(area_ratio=(0.002, 0.02), severity=0.5)
    known["texture"] = PerlinAnomaly(
        "self", 1.0, (0.5, 1.0), perlin_log2_scales=(1, 3), roi=None, num_augmentations=0, severity=0.5, blend="feather"
    )
    if unknown := sorted(set(names or ()) - known.keys()):
        msg = f"There is no kind of defect {', '.join(unknown)}. Known are {', '.join(known)}."
        raise ValueError(msg)
    chosen = {name: augmenter for name, augmenter in known.items() if not names or name in names}
    if roi is None:
        return [Kind(name, augmenter, 1.0, True, True) for name, augmenter in chosen.items()]
    return [Kind(name, with_arguments(augmenter, {"roi": roi}), 1.0, True) for name, augmenter in chosen.items()]


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
    return [Kind(*parts) for parts in zip(numbered, members, weights, strict=True)]


class PlannedImage(NamedTuple):
    """Plan of an image: a good image, the kind and severity of its defect, and the seed."""

    image_path: str
    kind: str
    severity: float | None
    seed: int


def plan_defects(
    paths: Sequence[str], kinds: Sequence[Kind], seed: int, severity: float | None = None
) -> list[PlannedImage]:
    """Plan one defect for each image; every kind gets its share of them, as far as their number allows.

    Args:
        paths: Files of good images; one may occur several times.
        kinds: Kinds of defects.
        seed: Seed of the plan.
        severity: Severity of all defects of kinds that draw it; None for one of ``SEVERITIES`` for each.
    """
    weights = torch.tensor([kind.weight for kind in kinds], dtype=torch.float64).cumsum(0)
    positions = (torch.arange(len(paths)) + 0.5) / len(paths) * weights[-1]
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))
    chosen = [kinds[position] for position in torch.searchsorted(weights, positions)[order].tolist()]
    repetitions: dict[tuple[str, str], int] = defaultdict(int)
    planned = []
    for path, kind in zip(paths, chosen, strict=True):
        repetition = repetitions[path, kind.name]
        repetitions[path, kind.name] += 1
        own_seed = image_seed(seed, path, f"{kind.name} {repetition}")
        drawn = float(torch.rand(1, generator=torch.Generator().manual_seed(own_seed)))
        own = round(SEVERITIES[0] + drawn * (SEVERITIES[1] - SEVERITIES[0]), 3) if severity is None else severity
        given = getattr(kind.augmenter, "severity", None)
        planned.append(PlannedImage(path, kind.name, own if kind.draws_severity else given, own_seed))
    return planned


def image_seed(seed: int, path: str, purpose: str) -> int:
    """Return the seed of an image by the names of its file and folder, not by where the data lie on a machine."""
    text = "/".join([str(seed), *Path(path).parts[-2:], purpose])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:6], "big")


def add_defect(image: Tensor, kind: Kind, severity: float | None, seed: int, source: str) -> tuple[Tensor, Tensor]:
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
    arguments: dict[str, Any] = {"severity": severity} if kind.draws_severity else {}
    if kind.is_on_object:
        arguments["roi"] = object_region(image)
    augmenter = with_arguments(kind.augmenter, arguments)
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
    rounded = image.float().mul(255).round_().clamp_(0, 255).byte()
    return to_dtype(rounded, torch.float32, scale=True)  # as files are read
