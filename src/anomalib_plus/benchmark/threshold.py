"""The threshold that a trained model would have in use: anomalib's, from the validation images of its data."""

from types import SimpleNamespace
from typing import Any

import torch
from anomalib.data.utils import ValSplitMode
from anomalib.metrics import F1AdaptiveThreshold

from anomalib_plus.benchmark.evaluation import Predictions, predict
from anomalib_plus.benchmark.protocol import Protocol


def find_threshold(
    model: Any, datamodule: Any, tested: Predictions, protocol: Protocol, device: torch.device
) -> dict[str, Any]:
    """Find the image score at which F1 is best on the validation images, as a record holds it.

    Args:
        model: The anomalib module, in evaluation mode.
        datamodule: Its data.
        tested: Predictions on the test images, which are not computed again where they are the validation images.
        protocol: Sizes of the images.
        device: Where the model is.

    Returns:
        ``value``, above which anomalib rejects an image, and ``source``, a phrase on the images that it comes from.
    """
    is_test = datamodule.val_split_mode == ValSplitMode.SAME_AS_TEST
    found = tested if is_test else predict(model, datamodule.val_dataloader(), protocol, device)
    metric = F1AdaptiveThreshold(fields=["pred_score", "gt_label"])
    metric.update(SimpleNamespace(pred_score=torch.from_numpy(found.scores), gt_label=torch.from_numpy(found.labels)))
    source = "best F1 on the validation images"
    if is_test:
        source += ", which are the test images"
    if not found.labels.any():
        source = "highest score of the validation images, none of which is defective"
    return {"value": float(metric.compute()), "source": source}
