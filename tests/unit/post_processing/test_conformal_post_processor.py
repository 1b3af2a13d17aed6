"""Thresholds from good images, without a model: what goes in are batches of scores and maps."""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor
from torch import Tensor

from anomalib_plus.post_processing import ConformalPostProcessor
from anomalib_plus.post_processing.conformal_math import (
    clopper_pearson,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    p_values,
)
from anomalib_plus.post_processing.conformal_scale import normalize
from anomalib_plus.post_processing.restore import restore

MODEL: Any = SimpleNamespace()
TRAINER: Any = SimpleNamespace(sanity_checking=False, is_global_zero=True, val_dataloaders=None)
GOOD = torch.zeros(5, dtype=torch.bool)


def batch_of(scores: Tensor, labels: Tensor | None, maps: Tensor | None = None, **fields: Any) -> ImageBatch:
    image = torch.rand(len(scores), 3, 8, 8)
    return ImageBatch(image=image, pred_score=scores, gt_label=labels, anomaly_map=maps, **fields)


def validated(post_processor: ConformalPostProcessor, *batches: ImageBatch, sanity: bool = False) -> Any:
    trainer: Any = SimpleNamespace(**vars(TRAINER) | {"sanity_checking": sanity})
    for batch in batches:
        post_processor.on_validation_batch_end(trainer, MODEL, batch)
    post_processor.on_validation_epoch_end(trainer, MODEL)
    return post_processor


def good_batches(n: int, maps: bool = True) -> list[ImageBatch]:
    torch.manual_seed(0)
    return [batch_of(torch.rand(5), GOOD[:5], torch.rand(5, 1, 8, 8) if maps else None) for _ in range(n // 5)]


PARTS = [0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 4, 4, 5, 6, 6, 7, 8, 8]
"""Parts of twenty images: nine, which support a rate of 0.1."""


def batches_of_parts() -> list[ImageBatch]:
    """Four batches of five good images, whose names tell the part, and one defective image."""
    batches = good_batches(20)
    for number, batch in enumerate(batches):
        shown = PARTS[5 * number : 5 * number + 5]
        batch.image_path = [f"good/p{part}_{place}.png" for place, part in enumerate(shown)]
    defective = batch_of(torch.full((1,), 9.0), ~GOOD[:1], torch.full((1, 1, 8, 8), 9.0), image_path=["p8_9.png"])
    return [*batches[:2], defective, *batches[2:]]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_images_of_one_part_share_its_weight(rate: float) -> None:
    batches = batches_of_parts()
    good = [*batches[:2], *batches[3:]]
    found = validated(ConformalPostProcessor(rate, group_by=r"p(\d+)_"), *batches)
    scores = torch.cat([batch.pred_score for batch in good])
    pixels = torch.cat([batch.anomaly_map.flatten(1).amax(1) for batch in good])
    assert (found.n, found.n_parts, found.supported_rate) == (20, 9, 0.1)
    assert float(found.image_threshold) == conformal_threshold(scores, rate, PARTS)
    assert float(found.pixel_threshold) == conformal_threshold(pixels, rate, PARTS)
    assert found.budget["bound"] == false_alarm_bound(9, conformal_rank(9, rate))
    new = torch.linspace(0, 1, 7)
    expected = p_values(new, normalize(scores, found.image_threshold, found.image_scale), PARTS)
    assert found.p_value(new).tolist() == expected.tolist()
    assert "thresholds from 20 good validation images of 9 parts: " in found.describe()
    assert "for this set of images it is at most about " in found.describe()
    alone = validated(ConformalPostProcessor(rate), *batches)
    assert (alone.n_parts, float(alone.image_threshold)) == (20, conformal_threshold(scores, rate))
    assert "thresholds from 20 good validation images: " in alone.describe()
    assert "about" not in alone.describe(), "without parts the bound is exact"
    with pytest.warns(UserWarning, match="matches only 2 of 20 good validation images; the others"):
        assert validated(ConformalPostProcessor(group_by="p8"), *batches).n_parts == 19
    for group_by in ("lot", "x*"):
        validated(ConformalPostProcessor(group_by=group_by), *batches, sanity=True)  # sees the first images only
        with pytest.raises(ValueError, match=r"group_by '.+' matches no good validation image: change it"):
            validated(ConformalPostProcessor(group_by=group_by), *batches)


def in_order(own: Tensor, group: Any, theirs: Tensor) -> list[Tensor]:
    """Stand for the exchange between two processes."""
    del group
    return [own, theirs]


@pytest.mark.parametrize("size", [2, 0], ids=["", "no_good_image"])
@pytest.mark.parametrize("group_by", [r"p\d+", None], ids=["parts", "alone"])
def test_processes_agree_on_the_parts(group_by: str | None, size: int) -> None:
    """Images of part 3 are in both processes, or the first has no good image, and still must take part."""
    batches = batches_of_parts()
    alone = validated(ConformalPostProcessor(0.3, group_by=group_by), *batches)
    first, second = (ConformalPostProcessor(0.3, group_by=group_by) for _ in range(2))
    for each, seen in ((first, batches[2 - size : 3]), (second, [*batches[: 2 - size], *batches[3:]])):
        for batch in seen:
            each.on_validation_batch_end(TRAINER, MODEL, batch)
    for own, other in zip(first._good_images.children(), second._good_images.children(), strict=True):
        own.distributed_available_fn = lambda: True
        own.dist_sync_fn = partial(in_order, theirs=other.compute())
    assert validated(first).budget == alone.budget
    assert first.n_parts == (9 if group_by else 20)


def test_thresholds_come_from_good_images_and_largest_pixels() -> None:
    batches = good_batches(40)
    defective = batch_of(torch.full((3,), 9.0), ~GOOD[:3], torch.full((3, 1, 8, 8), 9.0))
    found = validated(ConformalPostProcessor(0.1), *batches[:4], defective, *batches[4:])
    scores = torch.cat([batch.pred_score for batch in batches])
    pixels = torch.cat([batch.anomaly_map.flatten(1).amax(1) for batch in batches])
    assert found.n == 40
    assert float(found.image_threshold) == conformal_threshold(scores, 0.1)
    assert float(found.pixel_threshold) == conformal_threshold(pixels, 0.1)
    assert found.budget == {
        "n": 40,
        "n_parts": 40,
        "false_positive_rate": 0.1,
        "supported_rate": 1 / 41,
        "bound": pytest.approx(clopper_pearson(3, 40, 0.9)[1]),
        "confidence": 0.95,
        "image_threshold": float(found.image_threshold),
        "pixel_threshold": float(found.pixel_threshold),
    }
    again = validated(found, *good_batches(10))
    assert again.n == 10, "a new validation replaces the scores of the last one"


def test_the_scale_has_no_ties_and_keeps_the_decision() -> None:
    found = validated(ConformalPostProcessor(0.1), *good_batches(40))
    threshold = found.image_threshold
    above = torch.nextafter(threshold, torch.tensor(2.0))
    scores = torch.cat([-torch.logspace(6, -2, 500), torch.logspace(-2, 9, 2000)]).sort().values
    assert (normalize(scores, threshold, found.image_scale).diff() > 0).all()
    batch = batch_of(torch.stack([threshold, above, torch.tensor(torch.nan)]), None, torch.rand(3, 1, 8, 8))
    found.post_process_batch(batch)
    assert batch.pred_score[0] == 0.5
    assert batch.pred_label.tolist() == [False, True, True]
    assert float(found.calibration_scores.median()) == pytest.approx(0.1, abs=1e-6)
    assert float(normalize(torch.tensor(torch.inf), threshold, found.image_scale)) == 1.0


def test_p_values() -> None:
    found = validated(ConformalPostProcessor(0.1), *good_batches(40))
    scores = torch.tensor([0.0, 0.5, 0.5 + 1e-6, 1.0])
    values = found.p_value(scores)
    assert values[0] == 1
    assert values[1] > 0.1
    assert values[2] <= 0.1
    assert values[3] == 1 / 41
    with pytest.raises(ValueError, match="at least one good image"):
        ConformalPostProcessor().p_value(scores)


def test_equal_scores_and_one_image_have_a_scale() -> None:
    for score in (0.0, -3.0, 7.0):
        batch = batch_of(torch.full((1,), score), GOOD[:1], torch.full((1, 1, 8, 8), score))
        found = validated(ConformalPostProcessor(0.5), batch)
        better, equal, worse = normalize(
            torch.tensor([score - 1, score, score + 1]), found.image_threshold, found.image_scale
        )
        assert better < equal == 0.5 < worse


@pytest.mark.parametrize(
    ("n", "rate", "message"),
    [
        (5, 0.01, "5 good validation images cannot keep a false-alarm rate of 0.01, which needs at least 99"),
        (5, 0.2, None),
        (10, 0.05, "the smallest rate that they allow is 0.091. Validate on more good images, or set "),
        (10, 0.091, None),
        (0, 0.2, "no good images in validation, so there are no thresholds"),
    ],
)
def test_it_says_once_what_the_images_support(
    n: int, rate: float, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = ConformalPostProcessor(rate)
    unlabelled = batch_of(torch.rand(2), None)
    validated(found, *good_batches(n), unlabelled, sanity=True)
    assert found.n == 0
    assert not caplog.records
    for _ in range(2):
        validated(found, *good_batches(n), unlabelled)
    assert len(caplog.records) == (message is not None)
    assert (message or "") in caplog.text
    assert found.supported_rate == 1 / (n + 1)
    assert math.isnan(float(found.image_threshold)) == (n == 0)
    if message and n:
        assert float(found.image_threshold) == float(found.image_scores.max())


def test_it_says_what_the_parts_support(caplog: pytest.LogCaptureFixture) -> None:
    found = ConformalPostProcessor(0.05, group_by="p.")
    for _ in range(2):
        validated(found, *batches_of_parts())
    (message,) = [record.getMessage() for record in caplog.records]
    assert (
        "20 good validation images of 9 parts cannot keep a false-alarm rate of 0.05, which needs at least 19 parts. "
        "The threshold is their largest score; the smallest rate that they allow is 0.1. Validate on images of more "
        "good parts, or set false_positive_rate=0.1."
    ) in message


def test_a_score_that_is_not_finite_is_refused() -> None:
    broken = batch_of(torch.tensor([0.1, torch.nan]), GOOD[:2])
    with pytest.raises(ValueError, match="1 of 2 scores of good images is NaN or infinite"):
        validated(ConformalPostProcessor(), broken)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_thresholds_of_models_in_another_precision(precision: torch.dtype) -> None:
    found = validated(ConformalPostProcessor(0.1).to(precision), *good_batches(40))
    assert found.image_threshold in found.image_scores
    assert found.image_threshold.dtype == precision
    assert float(found.p_value(found.calibration_scores.max())) == pytest.approx(2 / 41, abs=1 / 41)


def test_models_without_maps_or_scores() -> None:
    found = validated(ConformalPostProcessor(0.1), *good_batches(20, maps=False))
    predictions = found(InferenceBatch(pred_score=torch.rand(2)))
    assert predictions.anomaly_map is None
    assert predictions.pred_mask is None
    assert f": score {float(found.image_threshold):.4g}. The expected" in found.describe()
    maps_only = batch_of(torch.rand(2), GOOD[:2], torch.rand(2, 1, 8, 8))
    maps_only.pred_score = None
    found = validated(ConformalPostProcessor(0.5), maps_only)
    assert torch.equal(found.image_scores, found.pixel_scores)


def test_another_rate_needs_no_new_images() -> None:
    found, expected = (validated(ConformalPostProcessor(rate), *good_batches(40)) for rate in (0.1, 0.3))
    found.set_false_positive_rate(0.3)
    assert found.budget == expected.budget
    of_parts = validated(ConformalPostProcessor(0.1, group_by="p."), *batches_of_parts())
    of_parts.set_false_positive_rate(0.3)
    assert of_parts.budget == validated(ConformalPostProcessor(0.3, group_by="p."), *batches_of_parts()).budget
    assert torch.equal(found.calibration_scores, expected.calibration_scores)
    with pytest.raises(ValueError, match=r"false_positive_rate must be between 0 and 1, got 2"):
        found.set_false_positive_rate(2)


def test_state_and_settings_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    found = validated(ConformalPostProcessor(0.05, confidence=0.9, group_by=r"p(\d+)"), *batches_of_parts())
    restored = restore(found.checkpoint_config())
    assert isinstance(restored, ConformalPostProcessor)
    restored.load_checkpoint_config(found.checkpoint_config())
    restored.load_state_dict(found.state_dict())
    assert restored.budget == found.budget
    assert torch.equal(restored.calibration_scores, found.calibration_scores)
    assert torch.equal(restored.p_value(torch.linspace(0, 1, 9)), found.p_value(torch.linspace(0, 1, 9)))
    assert restored.group_by == found.group_by
    older = {name: value for name, value in found.state_dict().items() if "_parts" not in name}
    restored.load_state_dict(older)
    assert (restored.n, restored.n_parts) == (20, 20), "each image is taken for a part of its own"
    assert not any("group_by" in name or "parts" in name for name in older)
    given = ConformalPostProcessor(0.05, group_by="own")
    given.load_checkpoint_config(found.checkpoint_config())
    assert given.group_by == "own"
    ConformalPostProcessor(0.2).load_checkpoint_config(found.checkpoint_config())
    assert "rate of 0.05, which is used instead of 0.2" in caplog.text
    assert restore({"class": "PostProcessor"}) is restore(None) is restore([]) is None
    with pytest.raises(RuntimeError, match="image_scores"):
        PostProcessor().load_state_dict(found.state_dict())


@pytest.mark.parametrize("arguments", [{"false_positive_rate": 0.0}, {"false_positive_rate": 1.0}, {"confidence": 2}])
def test_wrong_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(arguments))} must be between 0 and 1, got"):
        ConformalPostProcessor(**arguments)
    with pytest.raises(ValueError, match=r"group_by '\(' is not a regular expression"):
        ConformalPostProcessor(group_by="(")
