"""Baselines that anomalib lacks. A sweep names them by their class path; they are not registered in anomalib."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from anomalib.models import Draem
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, ReconstructiveSubNetwork
from kornia.losses import FocalLoss
from torch import Tensor, nn


class FocalTerm(nn.Module):
    """DRAEM's focal loss with equal class weights: mean over pixels of ``-(1 - p)^2 log p``.

    anomalib passes ``alpha=1`` to kornia, which gives the normal pixels (class 0) no weight. kornia's mean divides by
    pixels times classes, hence the factor 2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = FocalLoss(alpha=None, gamma=2.0, reduction="mean")

    def forward(self, prediction: Tensor, mask: Tensor) -> Tensor:
        """Map logits (B, 2, H, W) and classes (B, H, W) to a scalar."""
        return 2 * self.loss(prediction, mask)


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
