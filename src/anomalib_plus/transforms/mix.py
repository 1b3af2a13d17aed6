"""Different defects on different images of a batch."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anomalib_plus.counts import counted
from anomalib_plus.transforms.augmenter import Augmenter, SyntheticBatch, build_augmenter
from anomalib_plus.transforms.contamination import Contamination
from anomalib_plus.transforms.crack import Crack
from anomalib_plus.transforms.draws import ImageDraws, check_severity
from anomalib_plus.transforms.fibre import Fibre
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.hole import Hole
from anomalib_plus.transforms.image_batch import as_image_batch
from anomalib_plus.transforms.nuisance import Nuisance
from anomalib_plus.transforms.region import RegionOfInterest
from anomalib_plus.transforms.rows import rows_where
from anomalib_plus.transforms.scratch import Scratch
from anomalib_plus.transforms.stain import Stain
from anomalib_plus.transforms.visibility import ensure_visible
from anomalib_plus.transforms.warp import Dent, Warp

ALL_DEFECTS: tuple[type[Augmenter], ...] = (Scratch, Crack, Stain, Hole, Dent, Warp, Fibre, Contamination)


class Mix(Augmenter):
    """Mix: another transform for every image, or several one after the other.

    A :class:`Nuisance` among the transforms works in :meth:`corrupt` only, because it changes the target.

    Args:
        transforms: Transforms or their plain data (class_path and init_args); all eight placed defects if None.
        weights: Relative frequency of each; all alike if None.
        severity: In (0, 1]; replaces that of every transform. None keeps theirs.
        defects_per_image: Fewest and most transforms per image.
        probability: Share of the images that get any.
        roi: Replaces the region of interest of every transform that has one. None keeps theirs.
        foreground_polarity: Side of Otsu's threshold that is the object, for a ``roi`` of "foreground".
        nuisance: Applied to all images before, by :meth:`corrupt` only, because it changes the target.

    Raises:
        ValueError: If an argument is out of its range or a transform cannot be built.
    """

    def __init__(
        self,
        transforms: Sequence[Augmenter | Mapping[str, Any]] | None = None,
        weights: Sequence[float] | None = None,
        severity: float | None = None,
        defects_per_image: tuple[int, int] = (1, 1),
        probability: float = 1.0,
        roi: RegionOfInterest = None,
        foreground_polarity: Polarity = "auto",
        nuisance: Nuisance | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_severity(severity)
        chosen = [kind() for kind in ALL_DEFECTS] if transforms is None else transforms
        members = [build_augmenter(one) for one in chosen]
        weights = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
        if len(weights) != len(members) or not members or min(weights) < 0 or sum(weights) == 0:
            msg = (
                "Mix needs at least one transform and one weight for each, none below 0 and not all 0, "
                f"got weights {weights} for {counted(len(members), 'transform')}."
            )
            raise ValueError(msg)
        low, high = defects_per_image
        if not 1 <= low <= high or not 0 <= probability <= 1:
            msg = (
                "Mix: defects_per_image must satisfy 1 <= low <= high and probability lie in [0, 1], "
                f"got {defects_per_image} and {probability}."
            )
            raise ValueError(msg)
        replaced: dict[str, Any] = {} if severity is None else {"severity": severity}
        if roi is not None:
            replaced |= {"roi": roi, "foreground_polarity": foreground_polarity}
        # A tuple, not a ModuleList: there are no weights, and `config` reads it.
        self.transforms = tuple(with_arguments(member, replaced) for member in members)
        self.weights = weights
        self.severity = severity
        self.defects_per_image = (low, high)
        self.probability = probability
        self.roi = roi
        self.foreground_polarity = foreground_polarity
        self.nuisance = None if nuisance is None else build_augmenter(nuisance)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms to a copy of ``images``; the ``nuisance`` is left out.

        Args:
            images: (B, C, H, W) or (C, H, W), float in [0, 1]; left as it is.
            generator: CPU generator; torch's default one if None.

        Returns:
            Changed images and their masks (B, 1, H, W) or (1, H, W), 1 on a defect and 0 elsewhere.
        """
        _, image, mask = self._mix(as_image_batch(images), generator, None, moves_target=False)
        return (image, mask) if images.ndim == 4 else (image[0], mask[0])

    def corrupt(
        self, images: Tensor, generator: torch.Generator | None = None, keys: Sequence[str] | None = None
    ) -> SyntheticBatch:
        """Apply ``nuisance`` and the transforms' own ``corrupt``; without a batch axis there is none in the result."""
        batch = as_image_batch(images)
        if self.nuisance is not None:
            batch = self.nuisance.corrupt(batch, generator).image
            if getattr(self.nuisance, "moves", True):  # what is known of an image by its key lies elsewhere then
                keys = None
        synthetic = self._mix(batch, generator, keys, moves_target=True)
        return synthetic if images.ndim == 4 else SyntheticBatch(*(part[0] for part in synthetic))

    def check(self) -> None:
        """Raise the errors that the transforms' own checks raise."""
        for member in self.transforms:
            member.check()

    def prepare(self, images: Any, transform: Callable[[Tensor], Tensor], description: str, progress: bool) -> None:
        """Let each transform prepare itself."""
        for member in self.transforms:
            member.prepare(images, transform, description, progress)

    def _mix(
        self, clean: Tensor, generator: torch.Generator | None, keys: Sequence[str] | None, moves_target: bool
    ) -> SyntheticBatch:
        low, high = self.defects_per_image
        draws = ImageDraws(len(clean), generator)
        numbers = draws.uniform(low, high + 1).long().clamp_max(high)
        numbers = torch.where(draws.uniform(0, 1) < self.probability, numbers, 0)
        kinds = draws.choice(self.weights, high)
        target, image = clean.clone(), clean.clone()
        mask = torch.zeros_like(clean[:, :1], memory_format=torch.contiguous_format)
        for turn in range(high):
            for position, member in enumerate(self.transforms):
                chosen = (kinds[:, turn] == position) & (numbers > turn)
                fixed = turn > 0 or not moves_target  # a later defect must not move the picture under an earlier label
                if not chosen.any() or (fixed and isinstance(member, Nuisance)):
                    continue
                rows = rows_where(chosen, clean.device)
                own = image[rows]
                if fixed:
                    changed, labels = member(own, generator)
                else:
                    own_keys = None if keys is None else [keys[row] for row in chosen.nonzero().flatten().tolist()]
                    target[rows], changed, labels = member.corrupt(own, generator, own_keys)
                image[rows] = changed
                mask[rows] = torch.maximum(mask[rows], labels)
        if (several := numbers > 1).any():  # where defects overlap, one can undo the other
            rows = rows_where(several, clean.device)
            own = target[rows]
            image[rows], mask[rows] = ensure_visible(own, own.float(), image[rows].float(), mask[rows].float(), 0.5)
        return SyntheticBatch(target, image, mask)


def with_arguments(member: Augmenter, replaced: Mapping[str, Any]) -> Augmenter:
    """Build the transform again with other arguments, those that its constructor knows; textures are shared."""
    parameters = inspect.signature(type(member)).parameters
    known = {name: value for name, value in replaced.items() if name in parameters}
    if not known:
        return member
    return type(member)(**{name: getattr(member, name) for name in parameters} | known)
