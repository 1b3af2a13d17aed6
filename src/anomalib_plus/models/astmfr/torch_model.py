"""AstMFR's networks: a frozen teacher, a student of another architecture, and blocks that regenerate features."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_plus.layers.backbone import Backbone, stage_indices, stages_of_strides
from anomalib_plus.layers.checks import check_choice, check_input_size
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.layers.pretrained import WeightArguments
from anomalib_plus.models.astmfr.anomaly_map import (
    AnomalyMapGenerator,
    MapType,
    Residual,
    residual_distance,
    unit_residual,
)
from anomalib_plus.models.astmfr.whitening import Moments, Whitening

TEACHER = "wide_resnet50_2.tv_in1k"
STUDENT = "resnext50_32x4d.tv_in1k"
STRIDES = (4, 8, 16)

Stages = Sequence[str | int]

_TEACHER_ARGUMENTS = WeightArguments("teacher", "teacher_weights", "pre_trained")
_STUDENT_ARGUMENTS = WeightArguments("student", "student_weights", "student_pretrained")


class AstMFROutput(NamedTuple):
    """Output in training mode: the student's regenerated features and the teacher's, (B, C, h, w) per level."""

    student: list[Tensor]
    teacher: list[Tensor]


class RegenerationBlock(nn.Sequential):
    """Two 3x3 convolutions with a ReLU between that regenerate the teacher's features from the student's.

    Kernel, width and bias follow from the parameter and MAC counts in the paper's Table 5.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )


def draw_mask(shape: tuple[int, int, int], rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw masks (B, 1, h, w) for a shape (B, h, w) on the CPU: False (masked) with probability ``rate``."""
    return torch.rand(shape, generator=generator).unsqueeze(1) >= rate


def resize(features: Tensor, size: torch.Size) -> Tensor:
    """Resize (B, C, h, w) bilinearly."""
    return features if features.shape[-2:] == size else F.interpolate(features, size, mode="bilinear")


class AstMFRModel(nn.Module):
    """AstMFR as plain networks: images in [0, 1] in, pairs of feature maps or anomaly maps out.

    Args: Those of :class:`~anomalib_plus.models.astmfr.lightning_model.AstMFR` of the same name, with the same errors.
    """

    map_generator: AnomalyMapGenerator

    def __init__(
        self,
        teacher: str = TEACHER,
        student: str = STUDENT,
        layers: Stages | None = None,
        student_layers: Stages | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        student_weights: str | Path | None = None,
        student_pretrained: bool = True,
        regenerate: bool | Sequence[bool] = True,
        mask_rate: float = 0.5,
        anomaly_map: MapType = "sum",
        residual: Residual = "paper",
        sigma: float | None = None,
        pool_size: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("residual", residual, Residual)
        if not 0 <= mask_rate <= 1:
            msg = f"mask_rate must lie in [0, 1], got {mask_rate}."
            raise ValueError(msg)
        stages = tuple(layers) if layers is not None else stages_of_strides(teacher, STRIDES, _TEACHER_ARGUMENTS)
        self.teacher = Backbone(teacher, stages, pre_trained, teacher_weights, _TEACHER_ARGUMENTS)
        if student_layers is None:
            student_layers = _matching_stages(student, layers, self.teacher.strides)
        arguments = _STUDENT_ARGUMENTS if pre_trained else _STUDENT_ARGUMENTS._replace(switch="pre_trained")
        self.student = Backbone(student, student_layers, pre_trained and student_pretrained, student_weights, arguments)
        levels = len(self.teacher.channels)
        if len(self.student.channels) != levels:
            msg = f"layers and student_layers must have equal lengths, got {levels} and {len(self.student.channels)}."
            raise ValueError(msg)
        self.regenerate = (regenerate,) * levels if isinstance(regenerate, bool) else tuple(regenerate)
        if len(self.regenerate) != levels:
            msg = f"regenerate needs one value for each of {levels} levels, got {len(self.regenerate)}."
            raise ValueError(msg)
        self.mask_rate = mask_rate
        channels = zip(self.student.channels, self.teacher.channels, self.regenerate, strict=True)
        self.blocks = nn.ModuleList([_make_block(*level) for level in channels])
        self.size_divisor = max(self.teacher.strides + self.student.strides)
        whitened = self.teacher.channels if residual == "whitened" else ()
        self.whitening = nn.ModuleList(Whitening(width) for width in whitened)
        self.map_generator = AnomalyMapGenerator(sigma, pool_size, anomaly_map, bounded=not whitened)
        identical = teacher == student and teacher_weights == student_weights
        if identical and pre_trained and student_pretrained and not any(self.regenerate):
            warnings.warn(
                "Teacher and student are equal networks with equal weights and no regeneration blocks, so there is "
                "almost nothing to learn. The paper's baseline trains the student from scratch: "
                "set student_pretrained=False.",
                stacklevel=2,
            )
        self.teacher.requires_grad_(False)
        self.train()
        self.to(memory_format=torch.channels_last)  # a fifth faster for the teacher, a tenth for the student

    def train(self, mode: bool = True) -> "AstMFRModel":
        """Set the mode of student and blocks; the teacher stays in evaluation mode, its batch statistics fixed."""
        super().train(mode)
        self.teacher.eval()
        return self

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters of the student and the blocks."""
        return [*self.student.parameters(), *self.blocks.parameters()]

    def teacher_features(self, images: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to the teacher's features (B, C, H / stride, W / stride), without gradients."""
        with torch.no_grad():
            return self.teacher(images)

    def student_features(
        self, images: Tensor, sizes: Sequence[torch.Size], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Map images to features of the teacher's shapes, regenerated from masked ones in training mode."""
        levels = zip(self.student(images), sizes, self.regenerate, self.blocks, strict=True)
        return [
            block(self._hide(resize(features, size), generator) if self.training and masked else resize(features, size))
            for features, size, masked, block in levels
        ]

    @property
    def knows_residuals(self) -> bool:
        """True unless residuals are whitened and :meth:`estimate_residuals` was never called."""
        return all(int(cast(Whitening, level).count) > 0 for level in self.whitening)

    @torch.no_grad()
    def estimate_residuals(self, batches: Iterable[Tensor]) -> None:
        """Estimate mean and covariance of the residuals of good images (B, 3, H, W) in [0, 1], per level.

        Raises:
            ValueError: If the model does not whiten residuals, or there is no image.
        """
        if not self.whitening:
            msg = "estimate_residuals needs residual='whitened', got 'paper'."
            raise ValueError(msg)
        training = self.training
        self.eval()
        moments = [Moments(width) for width in self.teacher.channels]
        for images in batches:
            teacher = self.teacher_features(images)
            for level, residual in zip(moments, self._residuals(images, teacher), strict=True):
                level.add(residual)
        self.train(training)
        if not moments[0].count:
            msg = "estimate_residuals needs at least one image, got none."
            raise ValueError(msg)
        for level, whitening in zip(moments, self.whitening, strict=True):
            cast(Whitening, whitening).fit(level)

    def _residuals(self, images: Tensor, teacher: Sequence[Tensor]) -> list[Tensor]:
        student = self.student_features(images, [features.shape[-2:] for features in teacher])
        with full_precision(images.device.type):
            return [unit_residual(*level) for level in zip(student, teacher, strict=True)]

    def _hide(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        batch, _, height, width = features.shape
        mask = draw_mask((batch, height, width), self.mask_rate, generator)
        return features * mask.to(features.device, non_blocking=True)

    def forward(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        teacher_features: Sequence[Tensor] | None = None,
    ) -> AstMFROutput | InferenceBatch:
        """Compute features (training mode) or predict (evaluation mode) for images (B, 3, H, W) in [0, 1].

        Args:
            images: Images.
            generator: CPU generator of the masks, used in training; the global one if None.
            teacher_features: Result of :meth:`teacher_features`, of any scale; computed if None.

        Returns:
            ``AstMFROutput`` in training mode, else ``InferenceBatch`` with scores (B,) and maps (B, 1, H, W) in [0, 1].

        Raises:
            ValueError: If the images do not have three channels, or height or width is not divisible by
                ``size_divisor`` or is smaller than half the window of the map's blur.
        """
        check_input_size(images, self.size_divisor, "AstMFR", minimum=self.map_generator.smallest_map)
        teacher = list(teacher_features) if teacher_features is not None else self.teacher_features(images)
        if self.training:
            sizes = [features.shape[-2:] for features in teacher]
            return AstMFROutput(self.student_features(images, sizes, generator), teacher)
        residuals = self._residuals(images, teacher)
        with full_precision(images.device.type):
            if self.whitening:
                distances = [level(residual) for level, residual in zip(self.whitening, residuals, strict=True)]
            else:
                distances = [residual_distance(residual) for residual in residuals]
            anomaly_map = self.map_generator(distances, images.shape[-2:])
        return InferenceBatch(pred_score=anomaly_map.amax(dim=(1, 2, 3)), anomaly_map=anomaly_map)


def _make_block(in_channels: int, out_channels: int, regenerate: bool) -> nn.Module:
    if regenerate:
        return RegenerationBlock(in_channels, out_channels)
    if in_channels == out_channels:
        return nn.Identity()
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def _matching_stages(student: str, layers: Stages | None, strides: Sequence[int]) -> Stages:
    """Find the student's stages with the teacher's names, or else those with the teacher's strides."""
    if layers is not None and all(isinstance(layer, str) for layer in layers):
        try:
            return stage_indices(student, layers, _STUDENT_ARGUMENTS)
        except ValueError:
            pass
    return stages_of_strides(student, strides, _STUDENT_ARGUMENTS)
