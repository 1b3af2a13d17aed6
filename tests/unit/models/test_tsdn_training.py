"""What TSDN does with a training batch, which switch changes what, and where superpixels come from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import RandomHorizontalFlip

from anomalib_plus import TSDN, PerlinAnomaly, SuperpixelFilling

SMALL: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "pre_trained": False,
    "bottleneck_width": 16,
    "decoder_widths": (16, 8, 8, 8, 8),
    "fne_width": 4,
    "fne_hidden_widths": (16,),
    "fne_size": 2,
    "augmenter": {"class_path": "SuperpixelFilling", "init_args": {"n_segments": 64, "n_filled": 8}},
    "ssim_size": 16,
    "evaluator": False,
    "visualizer": False,
}
NO_DCD = {"use_mask_decoder": False, "gate": "none"}
ROWS: dict[str, dict[str, Any]] = {
    "table3-A": {**NO_DCD, "augmenter": False, "skip_mode": "none"},
    "table3-B": {**NO_DCD, "augmenter": False},
    "table3-C": {"skip_mode": "none"},
    "table3-D": {},
    "table4-A": {**NO_DCD, "augmenter": False, "skip_mode": "none"},
    "table4-B": {**NO_DCD, "skip_mode": "none"},
    "table4-C": {**NO_DCD, "augmenter": False},
    "table4-D": NO_DCD,
    "table4-E": {"gate": "mask"},
    "table4-F": {},
    "masked skips": {"skip_mode": "masked"},
    "skips of the mask only": {"skip_mode": "anomaly"},
    "mask without a gate": {"gate": "none"},
}


@pytest.fixture
def images() -> torch.Tensor:
    """Soft stripes, each image with its own phase."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    phases = torch.arange(4.0).view(4, 1, 1, 1)
    return (0.5 + 0.2 * torch.sin((rows + 2 * columns) / 6 + phases)).expand(4, 3, 64, 64).clone()


def build(**arguments: Any) -> TSDN:
    torch.manual_seed(0)
    model = TSDN(**{**SMALL, **arguments})
    model.log = model.log_dict = lambda *args, **kwargs: None
    model._trainer = SimpleNamespace(global_rank=0)
    return model


def step(model: TSDN, images: torch.Tensor) -> torch.Tensor:
    return model.training_step(ImageBatch(image=images))


def watch(model: TSDN) -> dict[str, Any]:
    """What passes through the next training step, by name."""
    seen: dict[str, Any] = {}
    model.model.register_forward_pre_hook(lambda _, args: seen.update(input=args[0]))
    model.loss.register_forward_pre_hook(
        lambda _, args: seen.update(zip(("output", "target", "mask"), args, strict=True))
    )
    return seen


@pytest.mark.parametrize("row", ROWS)
def test_every_ablation_trains_all_its_parameters_and_predicts(row: str, images: torch.Tensor) -> None:
    """A parameter that no loss reaches would stop a distributed training."""
    model = build(**ROWS[row]).train()
    step(model, images).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []
    assert all(value.grad.isfinite().all() for value in model.parameters())
    with torch.inference_mode():
        output = model.eval().model(images)
    assert output.anomaly_map.shape == (4, 1, 64, 64)
    assert output.anomaly_map.isfinite().all()


def test_network_sees_repainted_superpixels_and_is_compared_with_the_clean_image(images: torch.Tensor) -> None:
    model = build().train()
    seen = watch(model)
    step(model, images)
    outside = (seen["mask"] == 0).expand_as(images)
    assert torch.equal(seen["target"], images)
    assert torch.equal(seen["input"][outside], images[outside])
    assert not torch.equal(seen["input"], images)
    assert set(seen["mask"].unique().tolist()) == {0.0, 1.0}
    assert seen["mask"].mean().item() == pytest.approx(8 / 64, abs=0.05)


def test_without_augmenter_the_network_sees_the_clean_image(images: torch.Tensor) -> None:
    model = build(**NO_DCD, augmenter=False).train()
    seen = watch(model)
    step(model, images)
    assert torch.equal(seen["input"], images)
    assert seen["mask"] is None


def test_every_step_repaints_anew_and_a_seed_repeats(images: torch.Tensor) -> None:
    inputs = []
    for _ in range(2):
        model = build().train()
        seen = watch(model)
        for _ in range(2):
            step(model, images)
            inputs.append(seen["input"])
    assert torch.equal(inputs[0], inputs[2])
    assert torch.equal(inputs[1], inputs[3])
    assert not torch.equal(inputs[0], inputs[1])


def test_evaluation_repaints_nothing_and_repeats(images: torch.Tensor) -> None:
    model = build().eval()
    seen: list[torch.Tensor] = []
    model.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        first = model.validation_step(ImageBatch(image=images))
        second = model.validation_step(ImageBatch(image=images))
    assert all(torch.equal(image, images) for image in seen)
    assert torch.equal(first.anomaly_map, second.anomaly_map)


def test_loss_falls_on_a_repeated_batch_and_its_parts_do_too(images: torch.Tensor) -> None:
    model = build(learning_rate=5e-3).train()
    terms: list[dict[str, float]] = []
    model.loss.register_forward_hook(lambda *args: terms.append({k: v.item() for k, v in args[2].terms.items()}))
    optimizer = model.configure_optimizers()
    for _ in range(25):
        optimizer.zero_grad()
        step(model, images).backward()
        optimizer.step()
    for name in ("l2", "ssim", "mask"):
        first, last = (sum(t[name] for t in part) for part in (terms[:5], terms[-5:]))
        assert last < 0.8 * first, name


def test_reconstruction_teaches_the_estimator_through_the_gate(images: torch.Tensor) -> None:
    model = build().train()
    model.model(images).reconstruction.square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in model.model.estimator.layers.parameters())


def test_constant_images_give_finite_gradients() -> None:
    model = build().train()
    step(model, torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64), torch.full((3, 64, 64), 0.5)])).backward()
    assert all(value.grad.isfinite().all() for value in model.parameters())


def test_optimizer_is_adam_at_the_papers_rate_without_the_frozen_parts() -> None:
    optimizer = build(freeze_encoder=True).configure_optimizers()
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == 7e-5
    assert optimizer.param_groups[0]["weight_decay"] == 0
    assert all(value.requires_grad for group in optimizer.param_groups for value in group["params"])


def test_defaults_are_the_papers() -> None:
    augmenter = TSDN(**{**SMALL, "augmenter": True}).augmenter
    assert (*augmenter.counts(352, 352), augmenter.probability, augmenter.opacity) == (400, 50, 1.0, (1.0, 1.0))
    assert list(TSDN.configure_pre_processor().transform.size) == [352, 352]
    assert TSDN.pretrained_backbones == ("tf_efficientnet_b5.aa_in1k",)


class CacheWatch(Callback):
    """Notes how many label maps were made before the first batch, and which keys the augmenter gets."""

    def __init__(self, model: TSDN) -> None:
        self.before = -1
        self.keys: list[Any] = []
        original = model.augmenter.forward

        def forward(*args: Any) -> Any:
            self.keys.append(args[2])
            return original(*args)

        model.augmenter.forward = forward

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.before = pl_module.augmenter.cache.misses


def fit(root: Path, epochs: int = 2, **datamodule_arguments: Any) -> tuple[TSDN, CacheWatch]:
    datamodule = MVTecAD(root=root, category="surface", num_workers=0, train_batch_size=3, **datamodule_arguments)
    model = TSDN(**SMALL, pre_processor=TSDN.configure_pre_processor((96, 64)))
    watched = CacheWatch(model)
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    engine = Engine(accelerator="cpu", devices=1, max_epochs=epochs, limit_val_batches=0, callbacks=[watched], **silent)
    engine.fit(model, datamodule=datamodule)
    return model, watched


def test_superpixels_of_the_training_set_are_made_once_before_the_first_epoch(mvtec_layout: Path) -> None:
    model, watched = fit(mvtec_layout)
    assert watched.before == 6
    assert model.augmenter.cache.misses == 6
    assert "Resize(size=[96, 64]" in model.augmenter.preparation
    assert all(Path(key).name.endswith(".png") for keys in watched.keys for key in keys)


def test_superpixels_of_an_earlier_stage_s_datamodule_are_not_made(mvtec_layout: Path) -> None:
    datamodule = MVTecAD(root=mvtec_layout, category="surface", num_workers=0)
    model = TSDN(**SMALL, pre_processor=TSDN.configure_pre_processor((96, 64)))
    watched = CacheWatch(model)
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    engine = Engine(accelerator="cpu", devices=1, max_epochs=1, callbacks=[watched], **silent)
    engine.validate(model, datamodule=datamodule)
    engine.fit(model, train_dataloaders=DataLoader(datamodule.train_data, 3, collate_fn=ImageBatch.collate))
    assert watched.before == 0


def test_a_checkpoint_does_not_need_the_cache_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "cache"  # which cannot be made
    assert build(augmenter=TSDN.configure_augmenter(cache_folder=folder)).augmenter.cache.folder == folder


def test_random_augmentation_goes_by_content(mvtec_layout: Path) -> None:
    """A path would give a flipped image the superpixels of the unflipped one."""
    model, watched = fit(mvtec_layout, epochs=1, train_augmentations=RandomHorizontalFlip())
    assert watched.before == 0
    assert model.augmenter.cache.misses == 6
    assert watched.keys == [None, None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"augmenter": False}, "augmenter=False, or .* set use_mask_decoder=False"),
        (
            {"augmenter": SuperpixelFilling(probability=0.0)},
            r"probability or opacity of 0\), set use_mask_decoder=False",
        ),
        ({"augmenter": PerlinAnomaly(opacity=0)}, r"probability or opacity of 0\), set use_mask_decoder=False"),
        ({"mask_weight": 0.0}, "mask_weight=0 leaves the mask decoder untrained"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        (
            {"augmenter": {"class_path": "SuperpixelFilling", "init_args": {"n_segments": 64, "n_filled": 100}}},
            "n_filled must lie between",
        ),
        ({"use_mask_decoder": False}, "gate='fne' needs the mask decoder"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)
