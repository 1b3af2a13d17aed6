"""Whether a backend says what the eager model says, and whether it still finds the defects."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomalib_plus.benchmark import ranking
from anomalib_plus.benchmark.exports.backends import Images, Judge


class Samples(NamedTuple):
    """Test images with their labels."""

    images: list[Images]
    """One (1, 3, H, W) each, of the size they have on disk."""
    labels: NDArray[np.bool_]


class Judgement(NamedTuple):
    """What a backend says about images."""

    scores: NDArray[np.float32]
    decisions: NDArray[np.bool_] | None
    maps: list[NDArray[np.float32]]


def draw_samples(datamodule: Any, count: int | None) -> Samples:
    """Read test images of a datamodule that no engine knows, spread over them; all if ``count`` is None."""
    datamodule.prepare_data()
    datamodule.setup("test")
    data = datamodule.test_data
    chosen = np.arange(len(data)) if count is None else np.unique(np.linspace(0, len(data) - 1, count).round())
    items = [data[int(index)] for index in chosen]
    return Samples(
        [np.ascontiguousarray(item.image[None].numpy(), np.float32) for item in items],
        np.array([bool(item.gt_label) for item in items]),
    )


def judge_all(judge: Judge, images: Sequence[Images]) -> Judgement:
    """Judge images one by one.

    Raises:
        FloatingPointError: If a score or a value of a map is NaN or infinite.
    """
    verdicts = [judge(image) for image in images]
    for name in ("pred_score", "anomaly_map"):
        bad = sum(not np.isfinite(verdict[name]).all() for verdict in verdicts)
        if bad:
            msg = f"{name} is NaN or infinite for {bad} of {len(verdicts)} images."
            raise FloatingPointError(msg)
    return Judgement(
        np.concatenate([verdict["pred_score"].reshape(-1) for verdict in verdicts]),
        np.concatenate([verdict["pred_label"].reshape(-1) for verdict in verdicts])
        if "pred_label" in verdicts[0]
        else None,
        [verdict["anomaly_map"].reshape(verdict["anomaly_map"].shape[-2:]) for verdict in verdicts],
    )


def differences(judgement: Judgement, reference: Judgement) -> dict[str, Any]:
    """Largest differences of scores and maps, and how many images are decided otherwise."""
    maps = zip(judgement.maps, reference.maps, strict=True)
    return {
        "score_difference": float(np.abs(judgement.scores - reference.scores).max()),
        "map_difference": float(np.max([np.abs(ours - theirs).max() for ours, theirs in maps])),  # Python's hides NaN
        "decisions_changed": None
        if judgement.decisions is None or reference.decisions is None
        else int((judgement.decisions != reference.decisions).sum()),
    }


def image_auroc(judgement: Judgement, labels: NDArray[np.bool_]) -> float | None:
    """Image AUROC; None where the images are all normal or all anomalous."""
    curve = ranking.roc_curve(ranking.rank(judgement.scores), labels)
    return None if curve is None else ranking.area_under(curve)
