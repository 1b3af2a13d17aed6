"""Normal variations of good parts: light, focus, sensor noise and location. None of them is a defect."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_plus.transforms.augmenter import Augmenter, SyntheticBatch
from anomalib_plus.transforms.defect import column
from anomalib_plus.transforms.draws import ImageDraws, check_severity
from anomalib_plus.transforms.image_batch import as_image_batch
from anomalib_plus.transforms.rows import rows_where
from anomalib_plus.transforms.visibility import is_grey

_TILE = 128


class Nuisance(Augmenter):
    """Nuisance: other light, focus, noise and position of a good part; the mask stays empty.

    :meth:`corrupt` returns the varied images as target too, so that a network learns to leave them alone. Each amount
    is drawn uniformly up to the given one, in either direction where it has two, times twice the severity: with the
    default of 0.5 the arguments are the largest amounts. Half of the images each are moved and out of focus.

    Args:
        severity: In (0, 1]; scales all amounts.
        probability: Share of the images that are varied.
        brightness: Shift of all values.
        contrast: Relative change of the distance from the mean.
        light_gradient: Relative change of the light from the middle to the border of the image.
        defocus: Standard deviation of the blur at 256 pixels, in pixels.
        noise: Standard deviation of the sensor's noise.
        shift: Displacement as a share of the image's side.
        rotation: Rotation in degrees.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        severity: float = 0.5,
        probability: float = 1.0,
        brightness: float = 0.06,
        contrast: float = 0.12,
        light_gradient: float = 0.12,
        defocus: float = 1.0,
        noise: float = 0.015,
        shift: float = 0.015,
        rotation: float = 2.0,
    ) -> None:
        super().__init__()
        check_severity(severity)
        amounts = (brightness, contrast, light_gradient, defocus, noise, shift, rotation)
        if not 0 <= probability <= 1 or min(amounts) < 0:
            msg = f"Nuisance: probability must lie in [0, 1] and no amount be negative, got {probability}, {amounts}."
            raise ValueError(msg)
        self.severity = severity
        self.probability = probability
        self.brightness = brightness
        self.contrast = contrast
        self.light_gradient = light_gradient
        self.defocus = defocus
        self.noise = noise
        self.shift = shift
        self.rotation = rotation

    @property
    def moves(self) -> bool:
        """True if images are shifted or rotated."""
        return self.shift > 0 or self.rotation > 0

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Vary a copy of ``images``.

        Args:
            images: (B, C, H, W) or (C, H, W), float in [0, 1]; left as it is.
            generator: CPU generator; torch's default one if None.

        Returns:
            Varied images and masks of zeros (B, 1, H, W) or (1, H, W).
        """
        batch = as_image_batch(images)
        draws = ImageDraws(len(batch), generator)
        chosen = draws.uniform(0, 1) < self.probability
        with torch.autocast(batch.device.type, enabled=False):
            values = batch.float().clone(memory_format=torch.contiguous_format)
            self._move(values, draws)
            self._defocus(values, draws)
            self._light(values, draws)
            self._add_noise(values, draws)
            varied = values.clamp_(0, 1).to(batch.dtype)
        if not chosen.all():
            varied = torch.where(column(chosen, batch.device), varied, batch)
        masks = torch.zeros_like(batch[:, :1])
        return (varied, masks) if images.ndim == 4 else (varied[0], masks[0])

    def corrupt(
        self, images: Tensor, generator: torch.Generator | None = None, keys: Sequence[str] | None = None
    ) -> SyntheticBatch:
        """Do what :meth:`forward` does; the varied images are the target too."""
        del keys
        image, mask = self(images, generator)
        return SyntheticBatch(image, image, mask)

    def _amount(self, largest: float, draws: ImageDraws, low: float = -1.0) -> Tensor:
        return 2 * self.severity * largest * draws.uniform(low, 1)

    def _move(self, values: Tensor, draws: ImageDraws) -> None:
        """Shift and rotate half of the images, with the border mirrored."""
        height, width = values.shape[2:]
        radians = torch.deg2rad(self._amount(self.rotation, draws))
        down, right = self._amount(2 * self.shift, draws), self._amount(2 * self.shift, draws)
        moves = draws.uniform(0, 1) < 0.5
        if not moves.any() or not self.moves:
            return
        cos, sin = radians.cos(), radians.sin()
        to_rows = torch.stack([cos, -sin * height / width, right], 1)
        to_columns = torch.stack([sin * width / height, cos, down], 1)
        theta = torch.stack([to_rows, to_columns], 1)[moves].to(values.device, non_blocking=True)
        rows = rows_where(moves, values.device)
        grid = F.affine_grid(theta, [len(theta), 1, height, width], align_corners=False)
        values[rows] = F.grid_sample(
            values[rows], grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )

    def _defocus(self, values: Tensor, draws: ImageDraws) -> None:
        """Blur half of the images with two passes of a (w, 1 - 2 w, w) filter; at most 1.15 pixels."""
        scale = (values.shape[2] * values.shape[3]) ** 0.5 / 256
        variance = (self._amount(self.defocus, draws, 0) * scale).square()
        blurs = draws.uniform(0, 1) < 0.5
        if not blurs.any() or self.defocus == 0:
            return
        rows = rows_where(blurs, values.device)
        blurred = values[rows]
        side = column((variance[blurs] / 4).clamp_max(1 / 3), values.device)
        for _ in range(2):
            for axis in (2, 3):
                length = blurred.shape[axis]
                centre = blurred.narrow(axis, 1, length - 2)
                around = blurred.narrow(axis, 0, length - 2) + blurred.narrow(axis, 2, length - 2)
                centre.add_(around.sub_(centre, alpha=2).mul_(side))
        values[rows] = blurred

    def _light(self, values: Tensor, draws: ImageDraws) -> None:
        """Change brightness and contrast and let the light fall off to one side."""
        device = values.device
        height, width = values.shape[2:]
        direction = draws.uniform(0, 2 * math.pi)
        slope = self._amount(self.light_gradient, draws, 0)
        rows = torch.linspace(-1, 1, height, device=device)[:, None]
        columns = torch.linspace(-1, 1, width, device=device)
        light = rows * column(slope * direction.sin(), device) + columns * column(slope * direction.cos(), device) + 1
        factor = column(1 + self._amount(self.contrast, draws), device)
        offset = column(self._amount(self.brightness, draws), device)
        mean = values.mean((1, 2, 3), keepdim=True)
        values.mul_(light * factor).add_(light * (mean * (1 - factor) + offset))

    def _add_noise(self, values: Tensor, draws: ImageDraws) -> None:
        """Add the sensor's noise: one tile, moved from colour to colour; the same for all colours of a grey image."""
        height, width = values.shape[2:]
        sigma = self._amount(self.noise, draws, 0)[:, None, None, None]
        tile = (draws.normal(1, _TILE, _TILE) * sigma).to(values.device, non_blocking=True)
        colours = [tile.roll((_TILE // 3 * index, _TILE // 2 * index), (2, 3)) for index in range(values.shape[1])]
        noise = torch.where(is_grey(values), tile, torch.cat(colours, 1))
        values.add_(noise.repeat(1, 1, -(-height // _TILE), -(-width // _TILE))[..., :height, :width])
