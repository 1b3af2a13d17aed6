"""Blobs of gradient noise on the object, filled with a texture (FEAR, section 3; RB-AE, section 3; after DRAEM)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from anomalib_plus.transforms.augmenter import Augmenter, SyntheticBatch
from anomalib_plus.transforms.blending import Blend, blend
from anomalib_plus.transforms.draws import check_severity, narrow
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.gradient_noise import draw_gradient_noise
from anomalib_plus.transforms.image_batch import as_image_batch
from anomalib_plus.transforms.region import FOREGROUND, Region, RegionOfInterest
from anomalib_plus.transforms.rotation import rotate_where
from anomalib_plus.transforms.rows import replace_rows, rows_where, select_rows, take, true_positions
from anomalib_plus.transforms.texture_operations import OPERATION_SETS, apply_operations, draw_operations
from anomalib_plus.transforms.texture_source import TextureSource
from anomalib_plus.transforms.visibility import Grey, check_grey, ensure_visible, gets_grey

BlendInverse = Literal["mask", "perlin"]


class PerlinAnomaly(Augmenter):
    """Synthetic anomalies whose outline is thresholded Perlin noise and whose filling is a foreign texture.

    No anomaly lies in the black corners of a rotated image, whatever the region of interest. An image is left normal
    if no try gives a blob that meets its region.

    Args:
        textures: Folder of texture images, "self" for other locations of the batch, a :class:`TextureSource` or its
            arguments, or None for procedural textures.
        probability: Share of the images that are corrupted.
        opacity: Opacity of the texture, one number or a range to draw from per image.
        threshold: Noise above it is anomalous.
        perlin_log2_scales: Lattice cells per axis are 2 to a power uniform in this range, both ends included.
        roi: Region of the anomalies: "foreground", the object that Otsu's threshold finds; a mask (H, W), one mask per
            image or an image file; None for everywhere, as textures need it.
        foreground_polarity: Side of Otsu's threshold that is the object; "auto" takes the one that is rarer at the
            image border.
        blend_inverse: Region of the clean image: outside the "mask", or, literally as FEAR's equation 2 is printed,
            outside the "perlin" blob, which blackens the blob's unlabelled part.
        rotate_image_probability: Share of the images that :meth:`corrupt` rotates, with their foreground.
        rotate_noise_probability: Share of the noise maps that are rotated.
        rotation_degrees: Range of both rotations.
        operations: Texture augmentations to choose from, a key of ``OPERATION_SETS``.
        num_augmentations: Distinct operations per texture.
        max_tries: Draws of the noise before an empty mask is accepted.
        severity: In (0, 1]: opacity and size are drawn from the parts of their ranges around it, and an anomaly that
            could not be seen is strengthened. None uses the whole ranges, and anomalies may be invisible.
        blend: Transition from image to texture: "none", a hard edge; "feather"; or "poisson", which gives it the
            brightness and colour of its surroundings.
        grey: Make textures grey: True, False, or "auto" for images without colours, whose channels differ by
            less than 0.02 on average, and where colour alone would give the anomaly away.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        textures: TextureSource | str | Path | Mapping[str, Any] | None = None,
        probability: float = 0.5,
        opacity: float | tuple[float, float] = (0.1, 1.0),
        threshold: float = 0.5,
        perlin_log2_scales: tuple[int, int] = (0, 5),
        roi: RegionOfInterest = FOREGROUND,
        foreground_polarity: Polarity = "auto",
        blend_inverse: BlendInverse = "mask",
        rotate_image_probability: float = 0.3,
        rotate_noise_probability: float = 0.3,
        rotation_degrees: tuple[float, float] = (-90.0, 90.0),
        operations: str = "draem",
        num_augmentations: int = 3,
        max_tries: int = 10,
        severity: float | None = None,
        blend: Blend = "none",
        grey: Grey = False,
    ) -> None:
        super().__init__()
        self.textures = TextureSource.build(textures)
        self.probability = probability
        self.opacity = (opacity, opacity) if isinstance(opacity, int | float) else (opacity[0], opacity[1])
        self.threshold = threshold
        self.perlin_log2_scales = (perlin_log2_scales[0], perlin_log2_scales[1])
        self.roi = roi
        self.foreground_polarity = foreground_polarity
        self.blend_inverse = blend_inverse
        self.rotate_image_probability = rotate_image_probability
        self.rotate_noise_probability = rotate_noise_probability
        self.rotation_degrees = (rotation_degrees[0], rotation_degrees[1])
        self.operations = operations
        self.num_augmentations = num_augmentations
        self.max_tries = max_tries
        self.severity = severity
        self.blend = blend
        self.grey = grey
        self._check_arguments()
        self.region = Region(roi, foreground_polarity)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Corrupt a copy of ``images`` where they stand: no image is rotated, so they remain the clean target.

        That makes the module the ``augmenter`` of anomalib's ``Draem``.

        Args:
            images: (B, 3, H, W) or (3, H, W), float in [0, 1]; left as they are.
            generator: CPU generator; torch's default one if None.

        Returns:
            Corrupted images and their masks (B, 1, H, W) or (1, H, W), 1 on an anomaly and 0 elsewhere.
        """
        synthetic = self._corrupt(images, 0.0, generator)
        return synthetic.image, synthetic.mask

    def corrupt(
        self, images: Tensor, generator: torch.Generator | None = None, keys: Sequence[str] | None = None
    ) -> SyntheticBatch:
        """Do what :meth:`forward` does after rotating some of the images, which are then the target too.

        Without a batch axis in ``images`` there is none in the result.
        """
        del keys
        return self._corrupt(images, self.rotate_image_probability, generator)

    @torch.no_grad()
    def _corrupt(self, images: Tensor, rotate_probability: float, generator: torch.Generator | None) -> SyntheticBatch:
        clean = as_image_batch(images)
        count, channels, height, width = clean.shape
        if channels != 3:
            msg = f"Expected RGB images (3 channels), got {channels} channels."
            raise ValueError(msg)
        rotated = torch.rand(count, generator=generator) < rotate_probability
        degrees = _uniform(self.rotation_degrees, count, generator)
        chosen = torch.rand(count, generator=generator) < self.probability

        target = clean
        if rotated.any():
            target = rotate_where(rotated, clean.clone(memory_format=torch.contiguous_format), degrees)
        image = target.clone(memory_format=torch.contiguous_format)  # to be written through flat views
        mask = target.new_zeros(1).expand(count, 1, height, width)  # no memory, because most are replaced
        if chosen.any():
            allowed = self._allowed(clean, chosen, rotated, degrees)
            rows = rows_where(chosen, clean.device)
            blobs = self._draw_blobs(len(rows), (height, width), allowed, generator)
            anomalous = blobs & allowed
            places = _places(rows, anomalous)
            mask = replace_rows(mask, chosen, anomalous.view(torch.uint8).to(mask.dtype))  # bytes convert faster
            self._paste(image, rows, anomalous, places, clean, generator)
            if self.blend_inverse == "perlin":
                image.view(-1).scatter_(0, _places(rows, blobs & ~allowed).colours.flatten(), 0)
            if self.severity is not None:
                image, mask = ensure_visible(target, target.float(), image.float(), mask.float(), 0.5)
        synthetic = SyntheticBatch(target, image, mask.contiguous())
        return synthetic if images.ndim == 4 else SyntheticBatch(*(part[0] for part in synthetic))

    def _allowed(self, clean: Tensor, chosen: Tensor, rotated: Tensor, degrees: Tensor) -> Tensor:
        """Return where anomalies may lie in the chosen, rotated images, bool (R, 1, H, W); (R, 1, 1, 1) if anywhere.

        The object is sought before the rotation, whose black corners would pass for part of a dark object.
        """
        rotated, degrees = rotated[chosen], degrees[chosen]
        if self.region.is_everywhere and not rotated.any():
            return clean.new_ones(len(rotated), 1, 1, 1, dtype=torch.bool)
        if self.region.is_foreground:
            allowed = self.region.masks(select_rows(clean, chosen))
        else:
            allowed = select_rows(self.region.masks(clean), chosen)
        if not rotated.any():
            return allowed
        # Bytes, because conversions between numbers and booleans take six times as long.
        masks = allowed.view(torch.uint8).clone(memory_format=torch.contiguous_format)
        return rotate_where(rotated, masks, degrees, "nearest").view(torch.bool)

    def _draw_blobs(
        self, count: int, size: tuple[int, int], allowed: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Blobs (B, 1, H, W) that meet what is allowed, bool; no blob where no try gave one.

        Once per try the host asks, for the whole batch, which images need another.
        """
        device = allowed.device
        low, high = self.perlin_log2_scales
        fine, coarse = narrow((high, low), self.severity)  # the coarser the noise, the larger the blobs
        log2_cells = (low, high) if self.severity is None else (round(coarse), round(fine))
        blobs = torch.empty(count, 1, *size, dtype=torch.bool, device=device)  # the first try replaces all
        missing = torch.ones(count, dtype=torch.bool)
        for _ in range(self.max_tries):
            number = int(missing.sum())
            noise = draw_gradient_noise(number, size, log2_cells, device, generator).unsqueeze(1)
            rotated = torch.rand(number, generator=generator) < self.rotate_noise_probability
            noise = rotate_where(rotated, noise, _uniform(self.rotation_degrees, number, generator))
            drawn = noise.gt_(self.threshold).short().byte().view(torch.bool)  # in half the time of ``>``
            blobs = replace_rows(blobs, missing, drawn)
            meeting = (drawn & select_rows(allowed, missing)).flatten(1)
            missing[missing.clone()] = meeting.view(torch.uint8).amax(1).cpu() == 0  # bytes are faster than bool
            if not missing.any():
                return blobs
        return blobs & ~missing.to(device, non_blocking=True)[:, None, None, None]

    def _paste(
        self,
        images: Tensor,
        rows: Tensor,
        masks: Tensor,
        places: "_Places",
        clean: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        """Blend textures into ``images[rows]``, in place, on the masks (len(rows), 1, H, W) and nowhere else.

        The images must be contiguous. (``put_`` would take any, but has no deterministic implementation.)
        """
        count, _, height, width = masks.shape
        plan = draw_operations(self.operations, count, self.num_augmentations, generator)
        sampled, histograms = self.textures.sample_counted(count, (height, width), masks.device, generator, clean)
        textures = apply_operations(sampled, plan, histograms)
        opacity = _uniform(narrow(self.opacity, self.severity), count, generator).to(masks.device, non_blocking=True)
        greys = None if self.grey is False else gets_grey(clean, self.grey).index_select(0, rows)
        if self.blend != "none":
            own, filling = images[rows], textures.images().float() / 255
            if greys is not None:
                filling = torch.where(greys, filling.mean(1, keepdim=True), filling)
            blended, _ = blend(own.float(), filling, masks, self.blend, opacity[:, None, None, None])
            images[rows] = torch.where(masks, blended.clamp_(0, 1).to(images.dtype), own)
            return
        values = textures.at(places.drawn, places.positions)
        if greys is not None:
            values = torch.where(greys.flatten().index_select(0, places.drawn), values.mean(0, keepdim=True), values)
        own = take(images, places.colours).float()
        blended = own.lerp_(values, opacity.index_select(0, places.drawn)).to(images.dtype)
        images.view(-1).scatter_(0, places.colours.flatten(), blended.flatten())

    def check(self) -> None:
        """Raise ``FileNotFoundError`` or ``ValueError`` if the textures or the region's file cannot be used."""
        super().check()
        self.textures.check()

    def _check_arguments(self) -> None:
        check_severity(self.severity)
        check_grey(self.grey)
        shares = (self.probability, self.rotate_image_probability, self.rotate_noise_probability, *self.opacity)
        low, high = self.perlin_log2_scales
        problems = {
            "probabilities and opacity must lie in [0, 1]": not all(0 <= share <= 1 for share in shares),
            "opacity must be a number or a (low, high) range": self.opacity[0] > self.opacity[1],
            "perlin_log2_scales must satisfy 0 <= low <= high": not 0 <= low <= high,
            "rotation_degrees must satisfy low <= high": self.rotation_degrees[0] > self.rotation_degrees[1],
            f"blend must be one of {get_args(Blend)}": self.blend not in get_args(Blend),
            'blend_inverse "perlin" needs blend "none"': self.blend_inverse == "perlin" and self.blend != "none",
            f"blend_inverse must be one of {get_args(BlendInverse)}": self.blend_inverse not in get_args(BlendInverse),
            f"operations must be one of {tuple(OPERATION_SETS)}": self.operations not in OPERATION_SETS,
            "num_augmentations must not exceed the number of operations": not (
                0 <= self.num_augmentations <= len(OPERATION_SETS.get(self.operations, ()))
            ),
            "max_tries must be at least 1": self.max_tries < 1,
        }
        messages = [message for message, is_wrong in problems.items() if is_wrong]
        if messages:
            msg = f"PerlinAnomaly: {'; '.join(messages)}."
            raise ValueError(msg)


def _uniform(bounds: tuple[float, float], count: int, generator: torch.Generator | None) -> Tensor:
    return bounds[0] + torch.rand(count, generator=generator) * (bounds[1] - bounds[0])


class _Places(NamedTuple):
    """N pixels of a batch of images."""

    colours: Tensor
    """(3, N), where the three colours stand in the flattened batch."""
    drawn: Tensor
    """(N,), the mask of each pixel."""
    positions: Tensor
    """(N,), the position in that."""


def _places(rows: Tensor, masks: Tensor) -> _Places:
    """Return where the masks (R, 1, H, W) of the images ``rows`` (R,) of a batch are True."""
    area = masks[0].numel()
    inside = true_positions(masks)
    drawn = inside // area
    positions = inside - drawn * area
    red = rows.index_select(0, drawn).mul_(3 * area).add_(positions)
    return _Places(torch.stack([red, red + area, red + 2 * area]), drawn, positions)
