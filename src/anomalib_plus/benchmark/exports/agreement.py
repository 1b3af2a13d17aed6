"""Agreement of a backend with the eager model, and its image AUROC."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from anomalib_plus.benchmark.exports.backends import Images, Predict
from anomalib_plus.counts import counted
from anomalib_plus.metrics.per_image_auroc import area_under_roc


class Samples(NamedTuple):
    """Test images with their labels."""

    images: list[Images]
    """Arrays (1, 3, H, W), at the size of the files."""
    labels: NDArray[np.bool_]


class Predictions(NamedTuple):
    """Output of a backend for some images."""

    scores: NDArray[np.float32]
    decisions: NDArray[np.bool_] | None
    maps: list[NDArray[np.float32]]


def draw_samples(datamodule: Any, count: int | None) -> Samples:
    """Read ``count`` evenly spread test images, or all, of a datamodule that no engine has changed."""
    datamodule.prepare_data()
    datamodule.setup("test")
    data = datamodule.test_data
    chosen = np.arange(len(data)) if count is None else np.unique(np.linspace(0, len(data) - 1, count).round())
    items = [data[int(index)] for index in chosen]
    return Samples(
        [np.ascontiguousarray(item.image[None].numpy(), np.float32) for item in items],
        np.array([bool(item.gt_label) for item in items]),
    )


def predict_all(predict: Predict, images: Sequence[Images]) -> Predictions:
    """Predict images one by one.

    Raises:
        FloatingPointError: If a score or a value of a map is NaN or infinite.
    """
    outputs = [predict(image) for image in images]
    for name in ("pred_score", "anomaly_map"):
        bad = sum(not np.isfinite(output[name]).all() for output in outputs)
        if bad:
            msg = f"{name} is NaN or infinite for {bad} of {counted(len(outputs), 'image')}: do not use this backend."
            raise FloatingPointError(msg)
    scores = np.concatenate([output["pred_score"].reshape(-1) for output in outputs])
    decided = "pred_label" in outputs[0]
    decisions = np.concatenate([output["pred_label"].reshape(-1) for output in outputs]) if decided else None
    maps = [output["anomaly_map"] for output in outputs]
    return Predictions(scores, decisions, [one.reshape(one.shape[-2:]) for one in maps])


def compare(predictions: Predictions, reference: Predictions, labels: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the largest differences of scores and maps, the number of changed decisions, and the image AUROC.

    The AUROC is None where the images are all normal or all anomalous.
    """
    maps = zip(predictions.maps, reference.maps, strict=True)
    changed, image_auroc = None, None
    if predictions.decisions is not None and reference.decisions is not None:
        changed = int((predictions.decisions != reference.decisions).sum())
    if labels.any() and not labels.all():
        image_auroc = float(area_under_roc(torch.from_numpy(predictions.scores), torch.from_numpy(labels)))
    return {
        "score_difference": float(np.abs(predictions.scores - reference.scores).max()),
        "map_difference": float(np.max([np.abs(ours - theirs).max() for ours, theirs in maps])),  # Python's hides NaN
        "decisions_changed": changed,
        "image_auroc": image_auroc,
    }
