"""Baselines that anomalib lacks. A sweep names them by their class path; they are not registered in anomalib."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import Batch, InferenceBatch
from anomalib.models import AnomalibModule, Draem
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, ReconstructiveSubNetwork
from anomalib.pre_processing import PreProcessor
from kornia.losses import FocalLoss
from torch import Tensor, nn
from torchvision.transforms.v2 import Resize

from anomalib_plus.layers.blur import GaussianBlur
from anomalib_plus.layers.paper_size import PaperSize
from anomalib_plus.layers.similarity import msgms_distance_map


class FocalTerm(FocalLoss):
    """DRAEM's focal loss with equal class weights: mean over pixels of ``-(1 - p)^2 log p``.

    anomalib passes ``alpha=1`` to kornia, which gives the normal pixels (class 0) no weight. kornia's mean divides by
    pixels times classes, hence the factor 2.
    """

    def __init__(self) -> None:
        super().__init__(alpha=None, gamma=2.0, reduction="mean")

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Map logits (B, 2, H, W) and classes (B, H, W) to a scalar."""
        return 2 * super().forward(pred, target)


class DraemVariant(Draem):
    """anomalib's Draem with configurable widths, no download, and its loss repaired or as shipped.

    Args:
        repaired: Give normal pixels weight in the focal loss.
        widths: Channels of the first stage of the reconstruction and of the segmentation; anomalib's are 128 and 64.
        dtd_dir: Folder of textures; without it, defects are filled with anomalib's noise.
        learning_rate: Learning rate of Adam.
        **kwargs: Anomalib's components.
    """

    def __init__(
        self,
        repaired: bool = True,
        widths: Sequence[int] = (128, 64),
        dtd_dir: Path | str | None = None,
        learning_rate: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        with TemporaryDirectory() as empty:  # an existing folder keeps Draem from downloading one
            super().__init__(dtd_dir=dtd_dir or empty, **kwargs)
        self.learning_rate = learning_rate
        reconstruction, segmentation = widths
        self.model.reconstructive_subnetwork = ReconstructiveSubNetwork(base_width=reconstruction)
        self.model.discriminative_subnetwork = DiscriminativeSubNetwork(6, 2, base_width=segmentation)
        if repaired:
            self.loss.focal_loss = FocalTerm()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at a constant rate: anomalib's drops at epochs 400 and 600, which short budgets do not reach."""
        return torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)


class EdgeMap(nn.Module):
    """Anomaly map that marks edges: the MSGMS distance of an image to a constant one, which has no gradient.

    Args:
        smoothing_kernel: Side of the Gaussian window in pixels, odd; None for 21 at 256 pixels, scaled; 0 for none.
        sigma: Standard deviation of the Gaussian in pixels; None for 3.5 at 256 pixels, scaled; 0 for none.
    """

    def __init__(self, smoothing_kernel: int | None = None, sigma: float | None = None) -> None:
        super().__init__()
        self.smooth = GaussianBlur(
            PaperSize(3.5, 256) if sigma is None else sigma,
            PaperSize(21, 256) if smoothing_kernel is None else smoothing_kernel,
        )

    def forward(self, images: Tensor) -> InferenceBatch:
        """Map images (B, C, H, W) in [0, 1] to maps (B, 1, H, W) in [0, 1] and scores (B,), their maxima."""
        distance = msgms_distance_map(images, torch.full_like(images, 0.5))
        maps = self.smooth(distance.mean(dim=1, keepdim=True)).clamp(0, 1)
        return InferenceBatch(anomaly_map=maps, pred_score=maps.amax(dim=(1, 2, 3)))


class Untrained(AnomalibModule):
    """Baseline without a model: the map of a reconstruction method whose reconstruction is a constant grey image.

    It learns nothing and marks every edge. Where a trained model is not better, the defects are the strongest edges of
    the images, and the data set cannot show the quality of a model.

    Args:
        smoothing_kernel: See :class:`EdgeMap`.
        sigma: See :class:`EdgeMap`.
        **kwargs: anomalib's components.
    """

    no_model: ClassVar[bool] = True
    """Mark of a baseline that the report compares all models with."""

    def __init__(self, smoothing_kernel: int | None = None, sigma: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = EdgeMap(smoothing_kernel, sigma)

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Return a resize without normalisation."""
        return PreProcessor(transform=Resize(image_size or (256, 256), antialias=True))

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments of the trainer: one epoch, in which nothing is learned."""
        return {"max_epochs": 1, "num_sanity_val_steps": 0, "devices": 1}

    @property
    def learning_type(self) -> LearningType:
        """One-class, although the images are not used."""
        return LearningType.ONE_CLASS

    def configure_optimizers(self) -> None:
        """Return no optimizer."""

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Return a loss without gradients, as anomalib's memory banks do."""
        del batch, args, kwargs
        return torch.tensor(0.0, requires_grad=True, device=self.device)

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Batch:
        """Predict for the batch, as anomalib's test step does."""
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())
