"""The cache of teacher features: what it gives, how much it holds, when it is refused."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback
from torch import Tensor
from torchvision.transforms.v2 import RandomHorizontalFlip

from anomalib_plus import AstMFR
from anomalib_plus.models.astmfr.loss import feature_distance
from anomalib_plus.models.astmfr.teacher_cache import TeacherFeatureCache

IMAGE_BYTES = 2 * (8 * 4 * 4 + 16 * 2 * 2)


class Teacher:
    """Random features of two levels, which count the images they were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, images: Tensor) -> list[Tensor]:
        self.asked.append(len(images))
        rows = [torch.Generator().manual_seed(int(image.sum())) for image in images]
        shapes = ((8, 4, 4), (16, 2, 2))
        return [torch.stack([1e6 * torch.randn(*shape, generator=row) for row in rows]) for shape in shapes]


def images_of(*numbers: int) -> tuple[Tensor, list[str]]:
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1), [f"{number}.png" for number in numbers]


def test_hits_give_what_misses_gave_in_any_order() -> None:
    cache, teacher = TeacherFeatureCache(1), Teacher()
    first = cache.features(*images_of(1, 2, 3), teacher)
    again = cache.features(*images_of(3, 1, 2), teacher)
    mixed = cache.features(*images_of(4, 2), teacher)
    assert teacher.asked == [3, 1]
    for level in range(2):
        assert torch.equal(first[level], again[level][[1, 2, 0]])
        assert torch.equal(mixed[level][1], first[level][1])
        assert first[level].dtype == torch.float32
    assert len(cache) == 4
    assert cache.bytes_used == 4 * IMAGE_BYTES


def test_features_of_any_scale_keep_their_direction() -> None:
    """Values of a million would overflow in half precision; unit vectors lose 1e-7 in distance."""
    images, paths = images_of(1, 2)
    for cached, exact in zip(TeacherFeatureCache(1).features(images, paths, Teacher()), Teacher()(images), strict=True):
        assert cached.isfinite().all()
        assert feature_distance(cached, exact).max() < 1e-6


def test_a_full_cache_stays_as_it_is() -> None:
    cache, teacher = TeacherFeatureCache(2.5 * IMAGE_BYTES / 2**30), Teacher()
    for _ in range(2):
        expected = [TeacherFeatureCache(1).features(*images_of(*pair), Teacher()) for pair in ((1, 2), (3, 4))]
        actual = [cache.features(*images_of(*pair), teacher) for pair in ((1, 2), (3, 4))]
        for one, other in zip(expected, actual, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert teacher.asked == [2, 2, 2]
    assert cache.bytes_used == 2 * IMAGE_BYTES <= cache.capacity


def test_copies_and_pickles_are_empty() -> None:
    cache = TeacherFeatureCache(1)
    cache.features(*images_of(1, 2), Teacher())
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert (len(other), other.bytes_used, other.capacity) == (0, 0, cache.capacity)


class TeacherCalls(Callback):
    """Counts the images that the teacher sees in training."""

    def __init__(self) -> None:
        self.images = 0
        self.held = 0

    def on_fit_start(self, trainer: Any, pl_module: AstMFR) -> None:
        pl_module.model.teacher.register_forward_pre_hook(self.count)

    def count(self, module: Any, inputs: tuple[Tensor]) -> None:
        self.images += len(inputs[0])

    def on_train_epoch_end(self, trainer: Any, pl_module: AstMFR) -> None:
        self.held = len(pl_module.teacher_cache)


def fit(root: Path, gib: float, **data: Any) -> tuple[AstMFR, TeacherCalls, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = AstMFR(
        "test_resnet",
        "test_efficientnet",
        pre_trained=False,
        teacher_cache_gib=gib,
        pre_processor=AstMFR.configure_pre_processor((64, 64)),
        evaluator=False,
        visualizer=False,
    )
    calls = TeacherCalls()
    engine = Engine(
        max_epochs=3, limit_val_batches=0, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[calls]
    )
    engine.fit(model, datamodule=MVTecAD(root, "surface", train_batch_size=4, num_workers=0, **data))
    return model, calls, engine.trainer.callback_metrics


def test_a_training_with_cache_asks_the_teacher_once_per_image(mvtec_layout: Path) -> None:
    _, without, expected = fit(mvtec_layout, 0)
    model, calls, metrics = fit(mvtec_layout, 1)
    assert (without.images, without.held) == (18, 0)
    assert (calls.images, calls.held) == (6, 6)
    assert metrics["train_loss"].item() == pytest.approx(expected["train_loss"].item(), rel=1e-3)
    assert len(model.teacher_cache) == 0, "memory is freed at the end"


def test_augmentations_are_refused(mvtec_layout: Path) -> None:
    with pytest.raises(ValueError, match="teacher_cache_gib=0, or train without augmentations"):
        fit(mvtec_layout, 1, train_augmentations=RandomHorizontalFlip())
