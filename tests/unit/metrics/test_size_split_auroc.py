"""Image AUROC by defect size: the paper's bins, the identity that ties them together, scikit-learn."""

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from sklearn.metrics import roc_auc_score

from anomalib_plus.metrics import SizeSplitAUROC
from anomalib_plus.metrics.size_split_auroc import DefectSize, in_bin

SIZES: tuple[DefectSize, ...] = ("small", "middle", "large")


def batch(scores: list[float], pixels: list[int]) -> ImageBatch:
    """Images of 10x10 with so many anomalous pixels."""
    masks = torch.zeros(len(scores), 100, dtype=torch.bool)
    for mask, count in zip(masks, pixels, strict=True):
        mask[:count] = True
    image = torch.zeros(len(scores), 3, 10, 10)
    labels = masks.any(dim=1)
    return ImageBatch(image=image, pred_score=torch.tensor(scores), gt_mask=masks.view(-1, 10, 10), gt_label=labels)


def results(*batches: ImageBatch, **arguments) -> dict[str, float]:
    values = {}
    for size in SIZES:
        metric = SizeSplitAUROC(size, **arguments)
        for one in batches:
            metric.update(one)
        values[size] = metric.compute().item()
    return values


def test_bins_share_the_normal_images() -> None:
    example = batch([0.1, 0.2, 0.3, 0.15, 0.25, 0.9], [0, 0, 0, 2, 4, 30])
    values = results(example)
    assert (values["small"], values["large"]) == (0.5, 1.0)
    assert np.isnan(values["middle"])
    overall = roc_auc_score([0, 0, 0, 1, 1, 1], example.pred_score)
    assert overall == pytest.approx((2 * values["small"] + values["large"]) / 3, abs=1e-6)
    assert overall == pytest.approx(0.6667, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_overall_auroc_is_the_weighted_mean_of_the_bins(scale: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.choice([0, 0, 0, 1, 3, 5, 12, 20, 21, 60], 200)
    scores = (rng.random(200) + 0.01 * pixels) * scale
    batches = [batch(scores[i : i + 50].tolist(), pixels[i : i + 50].tolist()) for i in range(0, 200, 50)]
    values = results(*batches)
    weighted = 0.0
    for size, members in (("small", pixels < 5), ("middle", (pixels >= 5) & (pixels <= 20)), ("large", pixels > 20)):
        members = members & (pixels > 0)
        chosen = members | (pixels == 0)
        assert values[size] == pytest.approx(roc_auc_score(members[chosen], scores[chosen]), abs=1e-6)
        weighted += members.sum() * values[size]
    assert weighted / (pixels > 0).sum() == pytest.approx(roc_auc_score(pixels > 0, scores), abs=1e-6)


def test_a_defect_whose_mask_has_vanished_is_small_and_not_normal() -> None:
    example = batch([0.1, 0.2, 0.3, 0.9, 0.15], [0, 0, 4, 30, 0])
    example.gt_label[4] = True
    values = results(example)
    assert (values["small"], values["large"]) == (0.75, 1.0)


def test_both_bounds_belong_to_the_middle() -> None:
    ratios = torch.tensor([0.04, 0.05, 0.2, 0.21])
    assert in_bin(ratios, "small").tolist() == [True, False, False, False]
    assert in_bin(ratios, "middle").tolist() == [False, True, True, False]
    assert in_bin(ratios, "large").tolist() == [False, False, False, True]
    assert np.isnan(results(batch([0.1, 0.9], [0, 30]), bounds=(0.1, 0.4))["large"])


def test_without_normal_images_or_without_any_there_is_no_value() -> None:
    assert np.isnan(results(batch([0.1, 0.9], [3, 30]))["small"])
    with pytest.warns(UserWarning, match="before"):
        assert SizeSplitAUROC().compute().isnan()


def test_names_tell_the_bins_apart_in_an_evaluator() -> None:
    evaluator = Evaluator(test_metrics=[SizeSplitAUROC(size) for size in SIZES])
    assert [metric.name for metric in evaluator.test_metrics] == [f"image_AUROC_{size}" for size in SIZES]


def test_missing_masks_are_skipped_when_not_strict() -> None:
    metric = SizeSplitAUROC(strict=False)
    metric.update(ImageBatch(image=torch.zeros(1, 3, 4, 4), pred_score=torch.rand(1)))
    assert metric.compute() is None


@pytest.mark.parametrize("arguments", [{"size": "tiny"}, {"bounds": (0.3, 0.1)}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=r"size must be one of small|bounds must be two ascending"):
        SizeSplitAUROC(**arguments)
