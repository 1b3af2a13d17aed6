"""What RamFAE does with a training batch, and which switch changes what."""

import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_plus import RamFAE

SMALL = {"widths": (4, 8, 16, 32), "evaluator": False, "visualizer": False}


def step(model: RamFAE, images: torch.Tensor) -> torch.Tensor:
    model.log = model.log_dict = lambda *args, **kwargs: None
    return model.training_step(ImageBatch(image=images))


def test_network_sees_the_damaged_image_and_is_compared_with_the_clean_one() -> None:
    model = RamFAE(**SMALL).train()
    images = torch.rand(2, 3, 64, 64)
    seen: dict[str, torch.Tensor] = {}
    model.model.register_forward_pre_hook(lambda _, args: seen.update(input=args[0]))
    model.loss.register_forward_pre_hook(lambda _, args: seen.update(target=args[1]))
    step(model, images)
    holes = (seen["input"] == 0).all(dim=1).flatten(1).sum(dim=1)
    assert (holes > 0.015 * 64 * 64).all()
    assert torch.equal(seen["target"], images)


def test_without_delete_paste_the_network_sees_the_clean_image() -> None:
    model = RamFAE(**SMALL, augmenter=False).train()
    images = torch.rand(2, 3, 64, 64)
    seen: dict[str, torch.Tensor] = {}
    model.model.register_forward_pre_hook(lambda _, args: seen.update(input=args[0]))
    step(model, images)
    assert torch.equal(seen["input"], images)


def test_grey_model_is_compared_with_the_grey_image() -> None:
    model = RamFAE(**SMALL, in_channels=1).train()
    images = torch.rand(2, 3, 64, 64)
    seen: dict[str, torch.Tensor] = {}
    model.loss.register_forward_pre_hook(lambda _, args: seen.update(output=args[0], target=args[1]))
    step(model, images)
    torch.testing.assert_close(seen["target"], images.mean(dim=1, keepdim=True))
    assert seen["output"].shape == (2, 1, 64, 64)


@pytest.mark.parametrize("map_type", ["ssim", "gmsd", "mse"])
def test_map_type_can_be_switched_on_a_trained_model(map_type: str) -> None:
    """Table 3 compares the maps of one training."""
    model = RamFAE(**SMALL).eval()
    fresh = RamFAE(**SMALL, anomaly_map=map_type).eval()
    fresh.model.load_state_dict(model.model.state_dict())
    images = torch.rand(1, 3, 64, 64)
    before = model.model(images).anomaly_map
    model.anomaly_map = map_type
    after = model.model(images).anomaly_map
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, fresh.model(images).anomaly_map)
    assert model.hparams["anomaly_map"] == map_type


def test_smoothing_is_not_part_of_the_weights() -> None:
    smooth, rough = RamFAE(**SMALL), RamFAE(**SMALL, smoothing_kernel=None)
    assert smooth.state_dict().keys() == rough.state_dict().keys()


def test_delete_paste_arguments_reach_the_transform() -> None:
    model = RamFAE(
        **SMALL,
        augmenter=RamFAE.configure_augmenter(
            area_ratio=(0.1, 0.1),
            aspect_ratio=(1.0, 1.0),
            num_patches=2,
            allow_overlap=True,
            fill_value=0.5,
            probability=0.25,
        ),
    )
    transform = model.augmenter
    assert transform.area_ratio == (0.1, 0.1)
    assert transform.aspect_ratio == (1.0, 1.0)
    assert (transform.num_patches, transform.allow_overlap) == (2, True)
    assert (transform.fill_value, transform.probability) == (0.5, 0.25)


def test_loss_weights_reach_the_loss() -> None:
    model = RamFAE(**SMALL, gmsd_weight=0.1, ssim_weight=0.0, l2_weight=3.0)
    assert model.loss.weights == {"gmsd": 0.1, "ssim": 0.0, "l2": 3.0}
