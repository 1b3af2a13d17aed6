"""Every loss, similarity and transform of ours on images that divide by nothing: finite values, finite gradients."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from anomalib_plus import RbAE
from anomalib_plus.layers.similarity import gms_map, gradient_magnitude, msgms_distance_map, ssim_map
from anomalib_plus.models.astmfr.loss import AstMFRLoss
from anomalib_plus.models.fear.loss import FEARLoss, focal_loss
from anomalib_plus.models.ramfae.loss import RamFAELoss
from anomalib_plus.models.rbae.loss import RbAELoss
from anomalib_plus.models.rbae.torch_model import EncodingOutput, RepairOutput
from anomalib_plus.models.tsdn.loss import TSDNLoss
from anomalib_plus.models.tsdn.torch_model import TSDNOutput
from anomalib_plus.post_processing import OtsuForeground
from anomalib_plus.transforms import Cutout, CutPaste, DeletePaste, PerlinAnomaly, SuperpixelFilling
from difficult_images import difficult_images

SIDE = 32
IMAGES = difficult_images(SIDE, SIDE)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Clean image, what the network made of it, and a mask (B, 1, H, W)."""


def astmfr(clean: Tensor, made: Tensor, mask: Tensor) -> Tensor:
    return AstMFRLoss()([made, made[..., ::2, ::2]], [clean, clean[..., ::2, ::2]]).total


def fear(clean: Tensor, made: Tensor, mask: Tensor, certainty: float = 1.0) -> Tensor:
    return FEARLoss()(made, certainty * (made[:, :2] - 0.5), clean, mask).total


def rbae_phase_1(clean: Tensor, made: Tensor, mask: Tensor) -> Tensor:
    output = EncodingOutput(made, [clean, clean[..., ::2, ::2]], [made, made[..., ::2, ::2]])
    return RbAELoss()(output, clean, mask).total


def rbae_phase_2(clean: Tensor, made: Tensor, mask: Tensor, certainty: float = 1.0) -> Tensor:
    logits = [certainty * (made[:, :1] - 0.5), certainty * (made[:, :1, ::2, ::2] - 0.5)]
    return RbAELoss()(RepairOutput(made, [made], [clean], logits), clean, mask).total


def tsdn(clean: Tensor, made: Tensor, mask: Tensor) -> Tensor:
    logits = 1e4 * (made.mean(dim=(2, 3)) - 0.5)
    output = TSDNOutput(made, made[:, :1], made, logits)
    return TSDNLoss(gms_scales=2, ssim_size=16)(output, clean, mask).total


def ramfae(clean: Tensor, made: Tensor, mask: Tensor, **arguments: str) -> Tensor:
    return RamFAELoss(**arguments)(made, clean).total


def focal(clean: Tensor, made: Tensor, mask: Tensor, gamma: float) -> Tensor:
    return focal_loss(1000 * (made[:, :2] - 0.5), mask, gamma)


LOSSES: dict[str, Loss] = {
    "AstMFR": astmfr,
    "FEAR": fear,
    "FEAR, certain": partial(fear, certainty=1e4),
    "RamFAE": ramfae,
    "RamFAE, standard deviation": partial(ramfae, gmsd_form="std"),
    "RamFAE, grey": partial(ramfae, channel_reduction="gray"),
    "RbAE, phase 1": rbae_phase_1,
    "RbAE, phase 2": rbae_phase_2,
    "RbAE, phase 2, certain": partial(rbae_phase_2, certainty=1e4),
    "TSDN, certain": tsdn,
    "focal, no focus": partial(focal, gamma=0.0),
    "focal, gamma 1": partial(focal, gamma=1.0),
    "focal, gamma 2": partial(focal, gamma=2.0),
    "SSIM": lambda clean, made, mask: ssim_map(clean, made).mean(),
    "GMS": lambda clean, made, mask: gms_map(clean, made).mean(),
    "MSGMS": lambda clean, made, mask: msgms_distance_map(clean, made).mean(),
    "gradient magnitude": lambda clean, made, mask: gradient_magnitude(made).mean(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_their_gradients_are_finite(loss: str, dtype: torch.dtype) -> None:
    """Every image beside every image, with no mask, a full one, and one of a single pixel."""
    if dtype == torch.bfloat16 and loss in ("SSIM", "GMS", "MSGMS", "gradient magnitude"):
        pytest.skip("called in float32 by every loss")
    masks = {"none": torch.zeros(1, SIDE, SIDE), "full": torch.ones(1, SIDE, SIDE), "one": torch.zeros(1, SIDE, SIDE)}
    masks["one"][:, 5, 7] = 1
    cases = list(product(IMAGES, IMAGES, masks))
    clean, made, mask = (
        torch.stack([images[name] for name in names]).to(dtype)
        for images, names in zip((IMAGES, IMAGES, masks), zip(*cases, strict=True), strict=True)
    )
    made.requires_grad_()
    value = LOSSES[loss](clean, made, mask)
    (gradient,) = torch.autograd.grad(value, made)
    assert [case for case, rows in zip(cases, gradient, strict=True) if not rows.isfinite().all()] == []
    assert value.isfinite()


TRANSFORMS: dict[str, Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]] = {
    "DeletePaste": DeletePaste(),
    "CutPaste": CutPaste(),
    "Cutout": Cutout(),
    "PerlinAnomaly": PerlinAnomaly(probability=1.0),
    "PerlinAnomaly, inverse": PerlinAnomaly(probability=1.0, blend_inverse="perlin"),
    "PerlinAnomaly, RB-AE": RbAE.configure_augmenter(),
    "SuperpixelFilling": SuperpixelFilling(n_segments=16, n_filled=4),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_give_images_and_masks(transform: str) -> None:
    """All in one batch and each alone, ten draws."""
    generator = torch.Generator().manual_seed(0)
    for batch in (torch.stack(list(IMAGES.values())), *(image[None] for image in IMAGES.values())):
        for _ in range(10):
            images, masks = TRANSFORMS[transform](batch, generator)
            assert images.isfinite().all()
            assert images.min() >= 0
            assert images.max() <= 1
            assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_foregrounds_are_masks() -> None:
    masks = OtsuForeground()(torch.stack(list(IMAGES.values())))
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    for name in ("black", "grey", "white"):
        assert masks[list(IMAGES).index(name)].all(), name
