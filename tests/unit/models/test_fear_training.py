"""What FEAR does with a training batch, which switch changes what, and its schedule."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch
from lightning.pytorch import Trainer
from torchvision.transforms.v2 import Resize

from anomalib_plus import FEAR

SMALL: dict[str, Any] = {
    "reconstruction_width": 8,
    "segmentation_width": 8,
    "evaluator": False,
    "visualizer": False,
}


@pytest.fixture
def images() -> torch.Tensor:
    """Dark discs on a bright ground, with a gradient."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = ((rows - 32) ** 2 + (columns - 32) ** 2 < 20**2).float()
    return (0.8 - 0.6 * disc + 0.1 * columns / 64).expand(4, 3, 64, 64).clone()


def build(**arguments: Any) -> FEAR:
    """A small model whose synthetic defects differ by ``arguments`` from the paper's."""
    return FEAR(**SMALL, augmenter=FEAR.configure_augmenter(**arguments))


def step(model: FEAR, images: torch.Tensor) -> torch.Tensor:
    model.log = model.log_dict = lambda *args, **kwargs: None
    return model.training_step(ImageBatch(image=images))


def watch(model: FEAR) -> dict[str, torch.Tensor]:
    """Tensors that pass through the next training step, by name."""
    seen: dict[str, torch.Tensor] = {}
    model.model.register_forward_pre_hook(lambda _, args: seen.update(input=args[0]))
    model.loss.register_forward_pre_hook(
        lambda _, args: seen.update(zip(("reconstruction", "logits", "target", "mask"), args, strict=True))
    )
    return seen


def test_network_sees_the_corrupted_image_and_is_compared_with_target_and_mask(images: torch.Tensor) -> None:
    model = build(probability=1.0, rotate_image_probability=0.0).train()
    seen = watch(model)
    step(model, images)
    outside = (seen["mask"] == 0).expand_as(images)
    assert torch.equal(seen["target"], images)
    assert seen["mask"].flatten(1).any(1).all()
    assert torch.equal(seen["input"][outside], images[outside])
    assert not torch.equal(seen["input"], images)


def test_a_missing_texture_folder_stops_the_training_before_its_first_batch(
    images: torch.Tensor, tmp_path: Path
) -> None:
    model = build(textures=tmp_path / "textures")  # a checkpoint opens where they are not
    seen = watch(model)
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    with pytest.raises(FileNotFoundError, match=r"Texture folder .*textures does not exist"):
        Trainer(accelerator="cpu", devices=1, max_epochs=1, **silent).fit(model, [ImageBatch(image=images)])
    assert not seen


def test_defects_keep_to_the_object_unless_the_foreground_is_off(images: torch.Tensor) -> None:
    reaches_background = {}
    for roi in ("foreground", None):
        model = build(roi=roi, probability=1.0, rotate_image_probability=0.0, max_tries=20)
        seen = watch(model.train())
        torch.manual_seed(0)
        step(model, images)
        reaches_background[roi] = bool((seen["mask"].bool() & (images[:, :1] > 0.5)).any())
    assert reaches_background == {"foreground": False, None: True}


def test_rotation_turns_the_target_too(images: torch.Tensor) -> None:
    model = build(rotate_image_probability=1.0, rotation_degrees=(90.0, 90.0), probability=0.0).train()
    seen = watch(model)
    step(model, images)
    torch.testing.assert_close(seen["target"], images.rot90(1, (2, 3)), atol=1e-4, rtol=0)
    assert torch.equal(seen["input"], seen["target"])


def test_without_anomalies_the_network_sees_the_clean_image(images: torch.Tensor) -> None:
    model = build(probability=0.0, rotate_image_probability=0.0).train()
    seen = watch(model)
    step(model, images)
    assert torch.equal(seen["input"], images)
    assert not seen["mask"].any()


def test_both_networks_learn_from_the_segmentation_alone(images: torch.Tensor) -> None:
    """The reconstruction is not detached: gradients reach the autoencoder and its attention (section 2.5)."""
    model = build(probability=1.0).train()
    synthetic = model.augmenter.corrupt(images)
    output = model.model(synthetic.image)
    model.loss(output.reconstruction.detach(), output.logits, synthetic.target, synthetic.mask).total.backward()
    for part in (model.model.encoder, model.model.decoder, *(stage.attention for stage in model.model.encoder)):
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in part.parameters())
        assert any(parameter.grad.abs().sum() > 0 for parameter in part.parameters())


def test_evaluation_predicts_for_the_original_image(images: torch.Tensor) -> None:
    model = build(probability=1.0).eval()
    seen: list[torch.Tensor] = []
    model.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        model.validation_step(ImageBatch(image=images))
    assert torch.equal(seen[0], images)


def test_smoothing_switch_changes_the_map_and_not_the_score(images: torch.Tensor) -> None:
    raw, smooth = (FEAR(**SMALL, anomaly_map=choice).eval() for choice in ("raw", "smoothed"))
    smooth.load_state_dict(raw.state_dict())
    with torch.inference_mode():
        first, second = raw.model(images), smooth.model(images)
    assert torch.equal(first.pred_score, second.pred_score)
    assert not torch.allclose(first.anomaly_map, second.anomaly_map)


def test_default_pre_processor_only_resizes() -> None:
    transform = FEAR.configure_pre_processor().transform
    assert isinstance(transform, Resize)
    assert list(transform.size) == [256, 256]


def test_arguments_reach_the_transform() -> None:
    arguments = {
        "probability": 0.7,
        "opacity": (0.2, 0.9),
        "threshold": 0.4,
        "perlin_log2_scales": (1, 4),
        "roi": None,
        "foreground_polarity": "dark",
        "blend_inverse": "perlin",
        "rotate_image_probability": 0.1,
        "rotate_noise_probability": 0.9,
        "rotation_degrees": (-45.0, 45.0),
        "num_augmentations": 2,
        "max_tries": 3,
    }
    transform = build(**arguments, textures="textures").augmenter
    assert {name: getattr(transform, name) for name in arguments} == arguments
    assert str(transform.textures.folder) == "textures"
    assert transform.operations == "draem"


def test_defaults_are_the_papers() -> None:
    transform = FEAR(**SMALL).augmenter
    assert transform.probability == 0.5
    assert transform.opacity == (0.1, 1.0)
    assert (transform.roi, transform.blend_inverse, transform.threshold) == ("foreground", "mask", 0.5)
    assert (transform.rotate_image_probability, transform.rotate_noise_probability) == (0.3, 0.3)


def learning_rates(epochs: int, **arguments) -> list[float]:
    """Learning rate in each epoch."""
    model = FEAR(**SMALL, **arguments)
    model._trainer = SimpleNamespace(max_epochs=epochs, max_steps=-1, global_step=0, callbacks=[])
    optimizers = model.configure_optimizers()
    rates = []
    for _ in range(epochs):
        rates.append(optimizers["optimizer"].param_groups[0]["lr"])
        optimizers["optimizer"].step()
        optimizers["lr_scheduler"]["scheduler"].step()
    return rates


def test_paper_schedule() -> None:
    assert learning_rates(700) == pytest.approx([1e-4] * 560 + [2e-5] * 70 + [4e-6] * 70, rel=1e-9)


@pytest.mark.parametrize("epochs", [10, 30, 130])
def test_schedule_scales_with_the_training(epochs: int) -> None:
    parameters = [torch.zeros(1, requires_grad=True)]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 9 // 10], gamma=0.1)
    expected = []
    for _ in range(epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    actual = learning_rates(epochs, learning_rate=1e-3, lr_milestones=(0.5, 0.9), lr_gamma=0.1)
    assert actual == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr_milestones": (560, 630)}, "fractions of the training"),
        ({"learning_rate": 0.0}, "must be positive"),
        ({"lr_gamma": -0.2}, "must be positive"),
        ({"augmenter": False}, "augmenter must not be False"),
        (
            {"augmenter": {"class_path": "PerlinAnomaly", "init_args": {"foreground_polarity": "grey"}}},
            "foreground_polarity must be one of",
        ),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FEAR(**SMALL, **arguments)
