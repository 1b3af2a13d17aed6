"""What the network gives in evaluation mode: shapes, ranges, and nothing but a function of the image."""

import copy
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from .conftest import Surfaces, Trained
from .small_models import SmallModel, quiet_engine


def evaluate(module: nn.Module, images: Tensor) -> InferenceBatch:
    with torch.inference_mode():
        return module.eval()(images)


def random_states(model: nn.Module) -> list[Any]:
    """States of every generator a model could draw from: the global ones and its own."""
    own = [value for part in model.modules() for value in vars(part).values() if isinstance(value, torch.Generator)]
    numpy_state = np.random.get_state()  # noqa: NPY002 -- the global generator is the one to watch
    return [
        torch.get_rng_state().tolist(),
        random.getstate(),
        [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]],
        [generator.get_state().tolist() for generator in own],
    ]


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (192, 64)], ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_score_per_image_and_map_at_input_resolution(
    small_model: SmallModel, size: tuple[int, int], count: int
) -> None:
    output = evaluate(small_model.build().model, torch.rand(count, 3, *size))
    assert isinstance(output, InferenceBatch)
    assert output.pred_score.shape == (count,)
    assert output.anomaly_map.shape == (count, 1, *size)


def test_evaluation_is_deterministic_and_draws_no_random_numbers(trained: Trained, images: Tensor) -> None:
    network_state = copy.deepcopy(trained.model.state_dict())
    before = random_states(trained.model)
    first, second = evaluate(trained.model.model, images), evaluate(trained.model.model, images)
    assert random_states(trained.model) == before
    assert torch.equal(first.pred_score, second.pred_score)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, network_state[name]), name


def test_evaluation_leaves_its_input_alone(trained: Trained, images: Tensor) -> None:
    original = images.clone()
    evaluate(trained.model.model, images)
    assert torch.equal(images, original)


def test_an_image_scores_alike_alone_and_in_a_batch(trained: Trained, surface_batch: ImageBatch) -> None:
    together = evaluate(trained.model.model, surface_batch.image)
    for index, image in enumerate(surface_batch.image):
        alone = evaluate(trained.model.model, image[None])
        torch.testing.assert_close(alone.pred_score[0], together.pred_score[index], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.anomaly_map[0], together.anomaly_map[index], atol=1e-5, rtol=0)


def test_an_anomalous_patch_scores_higher_than_the_rest(trained: Trained, surface_batch: ImageBatch) -> None:
    """A coarse checkerboard on a surface of soft stripes, off the diagonal, so that a transposed map is wrong too."""
    normal = surface_batch.image[~surface_batch.gt_label]
    anomalous, mask = normal.clone(), torch.zeros(len(normal), 64, 64, dtype=torch.bool)
    blocks = torch.arange(16) // 4
    for index, (top, left) in enumerate([(8, 36), (30, 12), (44, 20)]):
        patch = np.s_[..., top : top + 16, left : left + 16]
        anomalous[index][patch] = ((blocks[:, None] + blocks) % 2).float()
        mask[index][patch] = True
    before, after = evaluate(trained.model.model, normal), evaluate(trained.model.model, anomalous)
    assert (after.pred_score > before.pred_score).all()
    for image_map, image_mask in zip(after.anomaly_map[:, 0], mask, strict=True):
        assert image_map[image_mask].mean() > image_map[~image_mask].mean()
        assert roc_auc_score(image_mask.flatten(), image_map.flatten()) > 0.75


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_size_that_does_not_divide_is_refused_with_the_rule_and_a_size_that_works(
    small_model: SmallModel, training: bool
) -> None:
    network = small_model.build().model.train(training)
    with pytest.raises(ValueError, match=rf"{small_model.name} .*divisible by \d+.*67x131") as refusal:
        network(torch.rand(2, 3, 67, 131))
    height, width = re.search(r"Resize to (\d+)x(\d+)", str(refusal.value)).groups()
    network(torch.rand(2, 3, int(height), int(width)))


def test_size_that_does_not_divide_stops_a_training_before_its_first_step(
    small_model: SmallModel, surfaces: Surfaces
) -> None:
    model = small_model.build(pre_processor=small_model.cls.configure_pre_processor((67, 67)))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="divisible by"):
        quiet_engine(max_epochs=1).fit(model, datamodule=surfaces())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0, equal_nan=True)


def test_reconstructions_are_images_and_make_no_difference_to_predictions(trained: Trained, images: Tensor) -> None:
    network = trained.model.model
    if not hasattr(network, "reconstruct_images"):
        pytest.skip("reconstructs no images")
    before = evaluate(network, images)
    with torch.inference_mode():
        reconstructions = network.reconstruct_images(images)
    assert reconstructions.shape == images.shape
    assert reconstructions.isfinite().all()
    assert torch.equal(evaluate(network, images).anomaly_map, before.anomaly_map)
