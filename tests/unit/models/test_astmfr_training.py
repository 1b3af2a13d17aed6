"""What AstMFR does with a training batch, its optimizer, its foreground and its checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import MEBinPostProcessor, PostProcessor
from torch import nn

from anomalib_plus import AstMFR
from anomalib_plus.layers.pretrained import read_weights
from anomalib_plus.post_processing import ConformalPostProcessor, MaskFolder, OtsuForeground, RegionPostProcessor

SMALL: dict[str, Any] = {
    "teacher": "test_resnet",
    "student": "test_efficientnet",
    "pre_trained": False,
    "evaluator": False,
    "visualizer": False,
}


def build(**arguments: Any) -> AstMFR:
    model = AstMFR(**{**SMALL, **arguments})
    model.log = model.log_dict = lambda *args, **kwargs: None
    return model


def checkpoint_of(model: AstMFR, file: Path) -> Path:
    saved: dict[str, Any] = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    saved["pytorch-lightning_version"] = "2.6.6"
    model.on_save_checkpoint(saved)
    torch.save(saved, file)
    return file


class MeanOfChannels(nn.Module):
    def forward(self, images: torch.Tensor) -> InferenceBatch:
        maps = images.mean(dim=1, keepdim=True)
        return InferenceBatch(pred_score=maps.amax(dim=(1, 2, 3)), anomaly_map=maps)


class Left(nn.Module):
    """The object fills the left half; with a parameter and a buffer, as a network has them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)
        self.register_buffer("one", torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros_like(images[:, :1])
        mask[..., : images.shape[-1] // 2] = self.one
        return mask


def test_optimizer_holds_the_trained_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        model = AstMFR(pre_trained=False, evaluator=False, visualizer=False)
    optimizer = model.configure_optimizers()
    (group,) = optimizer.param_groups
    assert sum(parameter.numel() for parameter in group["params"]) == 33_211_200
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 0)
    assert {parameter.requires_grad for parameter in group["params"]} == {True}


def test_loss_starts_at_six_and_falls_below_one_on_eight_images() -> None:
    """Random directions are at distance 1; three levels count twice each."""
    torch.manual_seed(0)
    model = build().train()
    optimizer = model.configure_optimizers()
    batch = ImageBatch(image=torch.rand(8, 3, 64, 64))
    losses = []
    for _ in range(31):
        loss = model.training_step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(6, abs=0.6)
    assert losses[30] < 1


def test_masks_come_from_the_models_generator_on_the_host() -> None:
    model = build(student="test_nfnet").train()
    batch = ImageBatch(image=torch.rand(2, 3, 64, 64))
    state = model.anomaly_generator.get_state()
    torch.manual_seed(1)
    first = model.training_step(batch).item()
    assert not torch.equal(model.anomaly_generator.get_state(), state)
    model.anomaly_generator.set_state(state)
    torch.manual_seed(2)
    assert model.training_step(batch).item() == first != model.training_step(batch).item()


def test_the_weight_of_the_second_distance_scales_the_loss_and_leaves_the_map() -> None:
    losses, maps = {}, {}
    images = torch.rand(2, 3, 64, 64)
    state = build(student="test_nfnet").state_dict()
    for weight in (0.0, 1.0, 5.0):
        model = build(student="test_nfnet", l2_weight=weight, mask_rate=0.0)
        model.load_state_dict(state)
        losses[weight] = model.train().training_step(ImageBatch(image=images)).item()
        maps[weight] = model.eval().model(images).anomaly_map
    assert losses[1.0] == pytest.approx(2 * losses[0.0], rel=1e-6)
    assert losses[5.0] == pytest.approx(6 * losses[0.0], rel=1e-6)
    assert torch.equal(maps[0.0], maps[1.0])
    assert torch.equal(maps[0.0], maps[5.0])


def with_foreground(foreground: Any) -> AstMFR:
    return build(pre_processor=False, post_processor=RegionPostProcessor(foreground, enable_normalization=False))


def test_a_foreground_of_ones_own_masks_the_smooth_map_before_the_maximum() -> None:
    model, images = with_foreground(Left()).eval(), torch.rand(2, 3, 64, 64)
    whole = model.model(images)
    masked = model(images)
    expected = whole.anomaly_map.clone()
    expected[..., 32:] = 0
    assert torch.equal(masked.anomaly_map, expected)
    assert torch.equal(masked.pred_score, expected.flatten(1).amax(1))
    model.post_processor.set_roi(None)
    assert torch.equal(model(images).anomaly_map, whole.anomaly_map)


def test_a_foreground_is_frozen_and_no_part_of_training_or_checkpoints(tmp_path: Path) -> None:
    model = with_foreground(Left())
    assert list(model.state_dict()) == list(with_foreground(None).state_dict())
    model.load_state_dict(with_foreground(None).state_dict())  # strictly
    foreground = model.train().post_processor.roi.foreground
    assert not any(parameter.requires_grad for parameter in foreground.parameters())
    assert len(model.configure_optimizers().param_groups[0]["params"]) == len(model.model.trained_parameters)
    foreground.register_forward_pre_hook(lambda *_: pytest.fail("used in training"))
    model.training_step(ImageBatch(image=torch.rand(2, 3, 64, 64)))
    loaded = AstMFR.load_from_checkpoint(checkpoint_of(model, tmp_path / "model.ckpt"))
    assert not loaded.post_processor.roi.is_set


def test_a_network_as_foreground_is_exported_and_otsu_says_that_it_cannot_be() -> None:
    model, images = with_foreground(Left()).eval(), torch.rand(2, 3, 64, 64)
    model.model = MeanOfChannels()  # as the network takes long to export
    program = torch.export.export(model, (images,))
    torch.testing.assert_close(program.module()(images).anomaly_map, model(images).anomaly_map)
    model.post_processor.set_roi(OtsuForeground())
    with pytest.raises(RuntimeError, match="cannot be exported to ONNX"):
        torch.export.export(model, (images,))


def test_foreground_by_argument(tmp_path: Path) -> None:
    otsu = build(foreground="otsu")
    assert isinstance(otsu.post_processor.roi.foreground, OtsuForeground)
    loaded = AstMFR.load_from_checkpoint(checkpoint_of(otsu, tmp_path / "model.ckpt"))
    assert isinstance(loaded.post_processor.roi.foreground, OtsuForeground)
    folder = build(foreground=tmp_path).eval()
    assert isinstance(folder.post_processor.roi.foreground, MaskFolder)
    with pytest.raises(ValueError, match="needs the paths of the images"):
        folder(torch.rand(1, 3, 64, 64))
    quiet = build(foreground="otsu", post_processor=False).post_processor
    assert (quiet.enable_normalization, quiet.enable_thresholding) == (False, False)
    strict = build(foreground="otsu", post_processor=PostProcessor(enable_normalization=False, image_sensitivity=0.9))
    assert (strict.post_processor.enable_normalization, strict.post_processor.image_sensitivity) == (False, 0.9)
    conformal = build(foreground="otsu", post_processor=ConformalPostProcessor(0.1)).post_processor
    assert isinstance(conformal.roi.foreground, OtsuForeground)
    assert conformal.false_positive_rate == 0.1
    with pytest.raises(TypeError, match=r"two regions of interest, otsu and that of RegionPostProcessor"):
        build(foreground="otsu", post_processor=RegionPostProcessor(tmp_path))
    with pytest.raises(TypeError, match="needs anomalib's own PostProcessor as post_processor, got MEBin"):
        build(foreground="otsu", post_processor=MEBinPostProcessor())


def test_a_checkpoint_needs_neither_downloads_nor_files(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), file)
    model = build(pre_trained=True, student="test_resnet", teacher_weights=file, student_weights=file)
    file.unlink()
    loaded = AstMFR.load_from_checkpoint(checkpoint_of(model, tmp_path / "model.ckpt"))
    torch.testing.assert_close(dict(loaded.model.state_dict()), dict(model.model.state_dict()), rtol=0, atol=0)


def test_pretrained_files_go_to_their_networks(tmp_path: Path) -> None:
    """The teacher's under foreign names, as the EfficientNet-Lite files have them."""
    files = {}
    for name in ("test_resnet", "test_efficientnet"):
        values = timm.create_model(name, pretrained=False).state_dict()
        files[name] = tmp_path / f"{name}.pth"
        torch.save({f"foreign.{index}": value for index, value in enumerate(values.values())}, files[name])
    arguments = {"pre_trained": True, "teacher_weights": files["test_resnet"]}
    model = build(**arguments, student_weights=files["test_efficientnet"]).model
    for part, name, tensor in (
        (model.teacher, "test_resnet", "layer1.0.conv1.weight"),
        (model.student, "test_efficientnet", "conv_stem.weight"),
    ):
        assert torch.equal(part.network.state_dict()[tensor], read_weights(name, files[name])[tensor])
    with pytest.raises(
        RuntimeError, match=r"student='test_efficientnet.*student_weights=FILE.*student_pretrained=False"
    ):
        build(**arguments, student="test_efficientnet.r160_in1k")
    build(**arguments, student="test_efficientnet.r160_in1k", student_pretrained=False)


@pytest.mark.parametrize("switch", ["pre_trained", "student_pretrained"])
def test_a_student_s_file_that_is_ignored_is_named_with_the_switch(switch: str, tmp_path: Path) -> None:
    file = tmp_path / "test_resnet.pth"
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), file)
    teacher = None if switch == "pre_trained" else file
    switches = {"pre_trained": True, switch: False}
    with pytest.warns(UserWarning, match=rf"student_weights={file} is ignored because {switch}=False"):
        build(**switches, teacher_weights=teacher, student_weights=file)


def test_defaults_are_the_papers() -> None:
    with torch.device("meta"):
        model = AstMFR(pre_trained=False, evaluator=False, visualizer=False)
    assert (model.hparams["teacher"], model.hparams["student"]) == AstMFR.pretrained_backbones
    assert AstMFR.pretrained_backbones == ("wide_resnet50_2.tv_in1k", "resnext50_32x4d.tv_in1k")
    assert (model.model.mask_rate, model.loss.l2_weight, model.model.regenerate) == (0.5, 1.0, (True, True, True))
    assert (model.hparams["residual"], model.hparams["min_learning_rate"]) == ("paper", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"l2_weight": -1.0}, "l2_weight must not be negative"),
        ({"teacher_cache_gib": -1.0}, "teacher_cache_gib must not be negative"),
        ({"pool_size": 2}, "pool_size must be odd"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)
