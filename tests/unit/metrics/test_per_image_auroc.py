"""Per-image pixel AUROC against scikit-learn and by hand."""

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from sklearn.metrics import roc_auc_score

from anomalib_plus.metrics import PerImageAUROC
from anomalib_plus.metrics.per_image_auroc import area_under_roc


def batch(maps: torch.Tensor, masks: torch.Tensor) -> ImageBatch:
    return ImageBatch(image=torch.zeros(len(maps), 3, *maps.shape[-2:]), anomaly_map=maps, gt_mask=masks)


@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_area_agrees_with_scikit_learn(scale: int, ties: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.2
    scores = rng.random(500) + 0.3 * labels
    scores = (scores.round(1) if ties else scores) * scale
    actual = area_under_roc(torch.from_numpy(scores), torch.from_numpy(labels))
    assert actual.item() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_images_are_ranked_by_themselves() -> None:
    maps = torch.tensor([[[0.1, 0.2]], [[0.5, 0.6]]])
    masks = torch.tensor([[[0, 1]], [[0, 1]]]).bool()
    metric = PerImageAUROC()
    metric.update(batch(maps, masks))
    assert metric.compute() == 1.0
    assert roc_auc_score(masks.flatten(), maps.flatten()) == 0.75


def test_images_of_one_class_are_left_out_and_batches_add_up() -> None:
    maps, masks = torch.rand(6, 1, 8, 8), torch.rand(6, 1, 8, 8) > 0.7
    masks[0], masks[1] = False, True
    whole, parts = PerImageAUROC(), PerImageAUROC()
    whole.update(batch(maps, masks.squeeze(1)))
    for i in range(6):
        parts.update(batch(maps[i : i + 1], masks[i : i + 1].squeeze(1)))
    expected = np.mean([roc_auc_score(masks[i].flatten(), maps[i].flatten()) for i in range(2, 6)])
    assert whole.compute().item() == pytest.approx(expected, abs=1e-6)
    assert parts.compute() == whole.compute()


def test_only_normal_images_give_nan() -> None:
    metric = PerImageAUROC()
    metric.update(batch(torch.rand(2, 4, 4), torch.zeros(2, 4, 4).bool()))
    assert metric.compute().isnan()


def test_missing_masks_are_skipped_when_not_strict() -> None:
    metric = PerImageAUROC(prefix="pixel_", strict=False)
    metric.update(ImageBatch(image=torch.zeros(1, 3, 4, 4), anomaly_map=torch.rand(1, 4, 4)))
    assert metric.name == "pixel_PerImageAUROC"
    assert metric.compute() is None
