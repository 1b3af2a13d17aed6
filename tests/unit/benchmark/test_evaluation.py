import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.pre_processing import PreProcessor
from sklearn.metrics import average_precision_score, roc_auc_score
from torchvision.transforms.v2 import Resize

from anomalib_plus.benchmark.evaluation import Predictions, evaluate, fit_maps, fit_masks, predict
from anomalib_plus.benchmark.protocol import METRICS, Protocol
from anomalib_plus.benchmark.record import plain
from anomalib_plus.metrics import PerImageAUROC, SizeSplitAUROC
from anomalib_plus.post_processing import RegionPostProcessor

PROTOCOL = Protocol(image_size=(32, 32))


def predictions(seed=0, scale=100.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(12) % 3 > 0
    masks = np.zeros((12, 32, 32), bool)
    for index in np.flatnonzero(labels):
        masks[index, 4 : 6 + 2 * index, 4:20] = True
    maps = (scale * (rng.random(masks.shape) + 0.4 * masks) - scale).astype(np.float32)
    scores = scale * (rng.random(12) + 0.3 * labels)
    return Predictions(scores, labels, ["x"] * 12, maps, masks, masks.mean(axis=(1, 2)))


def test_metrics_equal_scikit_learn_far_outside_0_and_1():
    given = predictions()
    found = evaluate(given, PROTOCOL).metrics
    pixels, truth = given.maps.ravel(), given.masks.ravel()
    assert found["image_auroc"] == pytest.approx(roc_auc_score(given.labels, given.scores), abs=1e-6)
    assert found["image_ap"] == pytest.approx(average_precision_score(given.labels, given.scores), abs=1e-6)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, pixels), abs=1e-6)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(truth, pixels), abs=1e-6)
    assert set(found) == set(METRICS)


def test_auroc_by_image_and_by_size_are_those_of_our_metrics_also_for_defects_with_an_empty_mask():
    given = predictions(1)
    given.sizes[1] = 0.0
    assert given.labels[1]
    found = evaluate(given, PROTOCOL).metrics
    by_image = PerImageAUROC()
    by_image.update(ImageBatch(image=torch.zeros(12, 3, 32, 32), anomaly_map=torch.tensor(given.maps),
                               gt_mask=torch.tensor(given.masks)))  # fmt: skip
    assert found["pixel_auroc_per_image"] == pytest.approx(float(by_image.compute()), abs=1e-6)
    masks = torch.zeros(12, 1, 1000)
    for mask, share in zip(masks, given.sizes, strict=True):
        mask[:, : round(1000 * share)] = 1
    for size in ("small", "middle", "large"):
        metric = SizeSplitAUROC(size)
        metric.update(ImageBatch(image=torch.zeros(12, 3, 1, 1000), pred_score=torch.tensor(given.scores),
                                 gt_mask=masks, gt_label=torch.tensor(given.labels)))  # fmt: skip
        expected = float(metric.compute())
        assert found[f"image_auroc_{size}"] == (None if math.isnan(expected) else pytest.approx(expected, abs=1e-6))


def test_auroc_of_the_sizes_averages_to_the_whole():
    given = predictions(2)
    bounds = (0.15, 0.3)
    found = evaluate(given, Protocol(image_size=(32, 32), defect_size_bounds=bounds)).metrics
    shares = given.sizes[given.labels]
    counts = np.histogram(shares, [0, *bounds, 1])[0]
    assert min(counts) > 0
    parts = [found[f"image_auroc_{size}"] for size in ("small", "middle", "large")]
    assert np.average(parts, weights=counts) == pytest.approx(found["image_auroc"])


def test_without_masks_there_are_image_metrics_only():
    given = predictions()
    given.masks = given.sizes = None
    found = evaluate(given, PROTOCOL)
    assert found.metrics["image_auroc"] is not None
    assert all(found.metrics[name] is None for name in METRICS if not name.startswith("image_") or "auroc_" in name)
    assert found.curves["pro"] is found.curves["roc_pixel"] is None


def test_only_what_is_asked_for_is_computed():
    found = evaluate(predictions(), Protocol(image_size=(32, 32), metrics=("pixel_ap",)))
    assert list(found.metrics) == ["pixel_ap"]


@pytest.mark.parametrize("where", ["scores", "maps"])
def test_nan_is_an_error(where):
    given = predictions()
    getattr(given, where).reshape(-1)[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        evaluate(given, PROTOCOL)


def test_mask_rules():
    mask = torch.zeros(1, 8, 8)
    mask[0, 1, 1] = 1
    assert fit_masks(mask, Protocol(image_size=(4, 4))).sum() == 0
    anywhere = fit_masks(mask, Protocol(image_size=(4, 4), mask_rule="area, > 0"))
    assert anywhere.nonzero().tolist() == [[0, 0, 0]]


def test_maps_are_resized_and_smoothed():
    maps = torch.zeros(2, 1, 16, 16)
    maps[:, :, 8, 8] = 1
    assert fit_maps(maps, Protocol(image_size=(32, 64))).shape == (2, 32, 64)
    smooth = fit_maps(maps, Protocol(image_size=(16, 16), smoothing_sigma=1.0))
    assert smooth.sum().item() == pytest.approx(2.0, abs=1e-4)
    assert smooth.max() < 0.2
    assert "Gaussian, sigma 1 px" in Protocol(smoothing_sigma=1.0).as_record()["smoothing"]


class Network(torch.nn.Module):
    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, images):
        maps = images.mean(dim=1, keepdim=True)
        return InferenceBatch(pred_score=images.mean(dim=(1, 2, 3))[:, None] if self.score else None, anomaly_map=maps)


def resizing(score=True, size=(16, 16)):
    pre_processor = PreProcessor(transform=Resize(size, antialias=True))
    return SimpleNamespace(pre_processor=pre_processor, post_processor=None, model=Network(score))


@pytest.mark.parametrize("score", [True, False])
def test_predictions_come_raw_through_the_pre_processor(score):
    model = resizing(score)
    batch = ImageBatch(
        image=torch.rand(2, 3, 32, 32) + 5,
        gt_mask=torch.stack([torch.zeros(32, 32), torch.ones(32, 32)]).bool(),
        gt_label=torch.tensor([0, 1]),
        image_path=["a.png", "b.png"],
    )
    found = predict(model, [batch, batch], Protocol(image_size=(16, 16)), torch.device("cpu"))
    assert found.maps.shape == found.masks.shape == (4, 16, 16)
    assert found.maps.min() > 5
    expected = found.maps.mean(axis=(1, 2)) if score else found.maps.max(axis=(1, 2))
    assert found.scores == pytest.approx(expected)
    assert found.labels.tolist() == [False, True, False, True]
    assert found.sizes.tolist() == [0, 1, 0, 1]
    assert found.paths == ["a.png", "b.png"] * 2


def test_only_the_region_of_interest_counts():
    class Left(torch.nn.Module):
        def forward(self, images):
            return torch.cat([torch.ones_like(images[:, :1, :, :8]), torch.zeros_like(images[:, :1, :, 8:])], dim=3)

    model = SimpleNamespace(pre_processor=None, post_processor=RegionPostProcessor(Left()), model=Network(score=True))
    batch = ImageBatch(image=torch.rand(2, 3, 16, 16), gt_label=torch.tensor([0, 1]), image_path=["a.png", "b.png"])
    found = predict(model, [batch], Protocol(image_size=(16, 16)), torch.device("cpu"))
    lowest = found.maps[..., :8].min(axis=(1, 2), keepdims=True)
    assert (found.maps[..., 8:] == lowest).all()
    assert found.scores == pytest.approx(found.maps.max(axis=(1, 2)))


def test_a_crop_is_refused():
    batch = ImageBatch(image=torch.rand(1, 3, 32, 32), gt_label=torch.tensor([0]), image_path=["a.png"])
    with pytest.raises(ValueError, match="images of 16x20 pixels"):
        predict(resizing(size=(16, 20)), [batch], Protocol(image_size=(16, 16)), torch.device("cpu"))


def test_plain_data_are_json():
    given = {"a": np.float64(1.5), "b": (1, float("nan")), 3: torch.tensor(2), "c": None, "d": True}
    assert plain(given) == {"a": 1.5, "b": [1, None], "3": 2, "c": None, "d": True}
