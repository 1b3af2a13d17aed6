"""Evaluation of a model's raw maps and scores by the protocol, without anomalib's normalisation."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import F1AdaptiveThreshold
from kornia.filters import gaussian_blur2d
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from anomalib_plus.benchmark import ranking
from anomalib_plus.benchmark.protocol import SIZES, Protocol
from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.metrics.per_image_auroc import aurocs_of_images
from anomalib_plus.metrics.size_split_auroc import auroc_of_size


@dataclass
class Predictions:
    """Output of a model for the test images, in their order.

    Args:
        scores: (N,) float64.
        labels: (N,) bool.
        paths: Image files.
        maps: (N, H, W) float32; None if the model gives none.
        masks: (N, H, W) bool; None if the data set has none.
        sizes: (N,) share of each original mask that is anomalous.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.bool_]
    paths: list[str]
    maps: NDArray[np.float32] | None
    masks: NDArray[np.bool_] | None
    sizes: NDArray[np.float64] | None


class Evaluation(NamedTuple):
    """Metrics by name (None where they do not apply) and their curves."""

    metrics: dict[str, float | None]
    curves: dict[str, dict[str, list[float]] | None]


@torch.inference_mode()
def predict(model: Any, loader: Any, protocol: Protocol, device: torch.device) -> Predictions:
    """Predict all images of a loader with an anomalib module in evaluation mode on ``device``.

    Raises:
        ValueError: If the pre-processor gives images of another size than the protocol's, for example crops, which do
            not match the masks.
    """
    scores, labels, paths, maps, masks, sizes = [], [], [], [], [], []
    for batch in loader:
        images = pre_process(model.pre_processor, batch.image.to(device))
        if images.shape[-2:] != protocol.image_size:
            size = "x".join(map(str, images.shape[-2:]))
            msg = (
                f"The model's pre-processor gives images of {size} pixels, the protocol asks for "
                f"{protocol.image_size}: resize without cropping."
            )
            raise ValueError(msg)
        output = _inside_roi(model, images, model.model(images), batch.image_path)
        batch_maps = None if output.anomaly_map is None else fit_maps(output.anomaly_map.float(), protocol)
        scores.append(_image_scores(output.pred_score, batch_maps).double().cpu().numpy())
        labels.append(batch.gt_label.bool().cpu().numpy())
        paths += [str(path) for path in batch.image_path]
        if batch_maps is not None:
            maps.append(batch_maps.cpu().numpy())
        if batch.gt_mask is not None:
            original = batch.gt_mask.reshape(len(batch.image), *batch.gt_mask.shape[-2:]).float()
            sizes.append((original > 0.5).double().flatten(1).mean(dim=1).numpy())
            masks.append(fit_masks(original, protocol).numpy())
    return Predictions(
        np.concatenate(scores),
        np.concatenate(labels),
        paths,
        np.concatenate(maps) if maps else None,
        np.concatenate(masks) if masks else None,
        np.concatenate(sizes) if sizes else None,
    )


def _inside_roi(model: Any, images: Tensor, output: Any, paths: Any) -> Any:
    """Limit maps and scores to the post-processor's region of interest, if it has one; apply nothing else of it."""
    limit = getattr(model.post_processor, "limit_to_roi", None)
    if limit is None:
        return output
    batch = ImageBatch(image=images, image_path=paths, anomaly_map=output.anomaly_map, pred_score=output.pred_score)
    limit(batch, model)
    return batch


def _image_scores(scores: Tensor | None, maps: Tensor | None) -> Tensor:
    if scores is not None:
        return scores.flatten()
    if maps is not None:
        return maps.amax(dim=(1, 2))
    msg = "The model returns neither pred_score nor anomaly_map: it cannot be evaluated."
    raise ValueError(msg)


def fit_maps(maps: Tensor, protocol: Protocol) -> Tensor:
    """Resize maps (B, [1,] H, W) to the protocol's size, bilinearly, and smooth them; (B, h, w)."""
    single = maps.reshape(len(maps), 1, *maps.shape[-2:])
    if single.shape[-2:] != protocol.size_of_maps:
        single = F.interpolate(single, protocol.size_of_maps, mode="bilinear", align_corners=False)
    if sigma := protocol.smoothing_sigma:
        side = 2 * round(4 * sigma) + 1
        single = gaussian_blur2d(single, (side, side), (sigma, sigma))
    return single[:, 0]


def fit_masks(masks: Tensor, protocol: Protocol) -> Tensor:
    """Resize float masks (B, H, W) to the size of the maps by the protocol's rule; bool."""
    size = protocol.size_of_maps
    if protocol.mask_rule == "area, > 0":
        return F.interpolate((masks[:, None] > 0.5).float(), size, mode="area")[:, 0] > 0
    return F.interpolate(masks[:, None], size, mode="nearest")[:, 0] > 0.5


def evaluate(predictions: Predictions, protocol: Protocol) -> Evaluation:
    """Compute the protocol's metrics.

    Raises:
        ValueError: If a score or a pixel of a map is not finite.
    """
    curves: dict[str, dict[str, list[float]] | None] = {"roc_image": None, "roc_pixel": None, "pro": None}
    found = _rank("image", predictions.scores, predictions.labels, curves)
    if predictions.sizes is not None:
        scores, sizes, labels = map(torch.from_numpy, (predictions.scores, predictions.sizes, predictions.labels))
        for size in SIZES:
            value = auroc_of_size(scores, sizes, labels, size, protocol.defect_size_bounds)
            found[f"image_auroc_{size}"] = _finite(value)
    if predictions.maps is not None and predictions.masks is not None:
        maps, masks = predictions.maps, predictions.masks
        found |= _rank("pixel", maps, masks, curves)
        found["pixel_auroc_per_image"] = _finite(
            aurocs_of_images(torch.from_numpy(maps), torch.from_numpy(masks)).mean()
        )
        if curve := ranking.per_region_overlap(maps, masks):
            found["aupro"] = ranking.area_under(curve, protocol.aupro_fpr_limit)
            curves["pro"] = ranking.thin_out(curve)
    return Evaluation({name: found.get(name) for name in protocol.metrics}, curves)


def _rank(
    level: str, scores: NDArray[np.floating], labels: NDArray[np.bool_], curves: dict[str, Any]
) -> dict[str, float | None]:
    """Metrics of the images or of the pixels; adds their ROC curve to ``curves``."""
    ranking.check_finite(scores)
    curve = ranking.roc_curve(scores, labels)
    if curve is None:
        return {}
    curves[f"roc_{level}"] = ranking.thin_out(curve)
    return {
        f"{level}_auroc": ranking.area_under(curve),
        f"{level}_ap": ranking.average_precision(scores, labels),
        f"{level}_f1_max": ranking.f1_max(scores, labels),
    }


def _finite(value: Tensor) -> float | None:
    return float(value) if value.isfinite() else None


def find_threshold(found: Predictions, is_test: bool) -> dict[str, Any]:
    """Find anomalib's threshold: the image score with the best F1 on the validation images.

    Args:
        found: Predictions for the validation images.
        is_test: True if these are the test images.

    Returns:
        ``value``, above which anomalib rejects an image, and ``source``, a phrase on the images that it comes from.
    """
    metric = F1AdaptiveThreshold(fields=["pred_score", "gt_label"])
    metric.update(SimpleNamespace(pred_score=torch.from_numpy(found.scores), gt_label=torch.from_numpy(found.labels)))
    source = "best F1 on the validation images" + (", which are the test images" if is_test else "")
    if not found.labels.any():
        source = "highest score of the validation images, none of which is defective"
    return {"value": float(metric.compute()), "source": source}
