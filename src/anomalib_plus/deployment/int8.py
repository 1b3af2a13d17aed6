"""INT8 quantisation for OpenVINO that keeps the computation of the anomaly map in floating point."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUROC
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset

from anomalib_plus.data.samples import read_samples
from anomalib_plus.deployment.constant_selections import fold_constant_selections

if TYPE_CHECKING:  # an optional dependency
    import openvino

logger = logging.getLogger(__name__)

_CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution")
_NO_OPERATIONS = ("Constant", "Parameter", "Result")
_IMAGES = 300
"""Number of calibration images, as nncf recommends."""
_IMAGE_CHANNELS = 6
"""Most channels of an image, a pair of images or a map."""
_LAST_LAYERS = 4
"""Number of layers before an image or a map that stay in floating point: about one stage of a decoder."""
_WIDE = 10_000_000
"""Number of weights above which nncf's faster bias correction is used."""


def quantize_networks(model: "openvino.Model", datamodule: Any) -> "openvino.Model":
    """Quantise an exported model's networks, calibrated on the validation images, as anomalib does.

    Value ranges of good images alone would clip the activations of defects, and defective images would score like good
    ones. So of more than 300 images, 300 are sampled evenly, half of them with defects if there are enough.

    Unlike anomalib, this keeps everything in floating point whose result depends on small differences: what precedes
    the first network (resizing) and follows the last (distances, filters, normalisation of the score), the layers that
    read or produce an image or a map, and operations on several branches (residual connections, gates).

    Weights use half of the INT8 range: processors without VNNI instructions accumulate 8-bit products in 16 bits, which
    the full range would overflow.

    Args:
        model: The converted model.
        datamodule: Datamodule of the validation images; a warning is logged if none of them has a defect.

    Raises:
        ValueError: If there is no datamodule.
        ModuleNotFoundError: If nncf is not installed.
    """
    calibration, options = _calibration(model, datamodule, "INT8_PTQ")
    import nncf

    return _quantize_with_bias_correction(nncf.quantize, model, calibration, **options)


def quantize_networks_within_accuracy(
    model: "openvino.Model", datamodule: Any, metric: Any = None, max_drop: float = 0.01
) -> "openvino.Model":
    """Quantise like :func:`quantize_networks` with accuracy control: return layers to floating point as needed.

    Args:
        model: The converted model, with a normalised score.
        datamodule: Datamodule whose validation images, defects included, are used to calibrate and to measure.
        metric: A metric of anomalib, higher is better; image AUROC if None. anomalib's engine always passes one,
            ``F1Score`` by default.
        max_drop: Largest accepted drop of the metric.
    """
    calibration, options = _calibration(model, datamodule, "INT8_ACQ")
    options["advanced_quantization_parameters"] = options.pop("advanced_parameters")  # nncf's name in this function
    import nncf

    metric = metric or AUROC(fields=["pred_score", "gt_label"])

    def measure(network: "openvino.CompiledModel", batches: Iterable[ImageBatch]) -> float:
        metric.reset()
        for batch in batches:
            outputs = network(batch.image.numpy())
            # Copies, because metrics keep the outputs and the next batch overwrites them.
            predicted = {output.get_any_name(): torch.tensor(values) for output, values in outputs.items()}
            for name in predicted.keys() & {"pred_score", "pred_label"}:
                predicted[name] = predicted[name].flatten()
            metric.update(batch.update(in_place=False, **predicted))
        return float(metric.compute())

    validation = nncf.Dataset(datamodule.val_dataloader())
    return _quantize_with_bias_correction(
        nncf.quantize_with_accuracy_control, model, calibration, validation, measure, max_drop=max_drop, **options
    )


def _quantize_with_bias_correction(quantize: Callable[..., "openvino.Model"], *args: Any, **options: Any) -> Any:
    """Quantise with nncf's slower bias correction, or with the faster one if that fails."""
    try:
        return quantize(*args, **options)
    except KeyError:  # nncf splits some networks (U-Nets) so that a part lacks a layer that it looks up
        if options["fast_bias_correction"]:
            raise
        return quantize(*args, **options | {"fast_bias_correction": True})


def _calibration(model: "openvino.Model", datamodule: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """Prepare the model, and return the calibration dataset and nncf's options."""
    fold_constant_selections(model)
    if datamodule is None:
        msg = f"{name} needs a datamodule, whose validation images set the value ranges: pass datamodule= or --data."
        raise ValueError(msg)
    import nncf

    datamodule.prepare_data()
    datamodule.setup("fit")
    batch = model.input(0).partial_shape[0]
    if batch.is_static:
        datamodule.eval_batch_size = batch.get_length()
    return nncf.Dataset(_calibration_images(datamodule), lambda items: items.image), {
        "subset_size": -(-_IMAGES // datamodule.eval_batch_size),  # nncf counts batches
        "preset": nncf.QuantizationPreset.MIXED,
        # The slower correction stores activations, which takes gigabytes and hours for wide networks.
        "fast_bias_correction": _count_constants(model) > _WIDE,
        "ignored_scope": nncf.IgnoredScope(names=operations_in_floating_point(model)),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    }


def _calibration_images(datamodule: Any) -> DataLoader:
    """Load a sample of the validation images, in batches as the datamodule makes them."""
    data = datamodule.val_data
    labels = np.array([sample.label for sample in read_samples(data)])
    if len(np.unique(labels)) < 2:
        logger.warning(
            "INT8 takes its value ranges from the validation images, which are all %s (%d). Without images of both "
            "kinds, bad parts may score like good ones: pass a datamodule that validates on both.",
            "bad" if labels.any() else "good",
            len(labels),
        )
    return DataLoader(
        Subset(data, spread_over_labels(labels, _IMAGES)),
        batch_size=datamodule.eval_batch_size,
        num_workers=datamodule.num_workers,
        collate_fn=datamodule.external_collate_fn or data.collate_fn,
    )


def spread_over_labels(labels: NDArray[np.integer], count: int) -> list[int]:
    """Choose at most ``count`` evenly spaced samples, equally many of each label (N,) or all that it has.

    Returns:
        Ascending indices; all of them if there are no more than ``count``.
    """
    chosen: list[int] = []
    groups = sorted((np.flatnonzero(labels == label) for label in np.unique(labels)), key=len)
    for number, group in enumerate(groups):
        size = min(len(group), (count - len(chosen)) // (len(groups) - number))
        chosen += group[np.linspace(0, len(group) - 1, size).round().astype(int)].tolist()
    return sorted(chosen)


def operations_in_floating_point(model: "openvino.Model") -> list[str]:
    """List the operations that stay in floating point by name.

    On every path these are the operations before the first convolution and after the last layer; the layers that read
    an image and the last ones before an image or a map; and operations on several computed values.
    """
    operations = model.get_ordered_ops()
    kept: set[str] = set()
    before: set[str] = set()
    for operation in operations:
        name, kind = operation.get_friendly_name(), operation.get_type_name()
        computed = [value for value in operation.input_values() if value.get_node().get_friendly_name() not in before]
        if kind not in _CONVOLUTIONS and not computed:
            before.add(name)
        elif len(computed) > 1 and kind not in (*_CONVOLUTIONS, "MatMul"):
            kept.add(name)
    layers: dict[str, float] = {}  # number of layers from here to an image or map; 0 after the last layer
    for operation in reversed(operations):
        name = operation.get_friendly_name()
        readers = (reader.get_node() for value in operation.outputs() for reader in value.get_target_inputs())
        layers[name] = max((layers[reader.get_friendly_name()] for reader in readers), default=0)
        if _is_learned(operation):
            read, written = _channels(operation)
            if written <= _IMAGE_CHANNELS:
                layers[name] = 1
            else:  # a last layer that produces features, which are compared, is quantised
                layers[name] = layers[name] + 1 if layers[name] else math.inf
            if read <= _IMAGE_CHANNELS:
                kept.add(name)
        if layers[name] <= _LAST_LAYERS:
            kept.add(name)
    return [
        operation.get_friendly_name()
        for operation in operations
        if operation.get_friendly_name() in before | kept and operation.get_type_name() not in _NO_OPERATIONS
    ]


def _count_constants(model: "openvino.Model") -> int:
    constants = (operation for operation in model.get_ops() if operation.get_type_name() == "Constant")
    return sum(math.prod(constant.output(0).shape) for constant in constants)


def _is_learned(operation: "openvino.Node") -> bool:
    """Return True for matrix products and convolutions that mix channels; others are filters of the anomaly map.

    A convolution of the difference of two computed values is none either: it measures a distance.
    """
    kind = operation.get_type_name()
    if kind == "MatMul":
        return True
    mixes = kind in _CONVOLUTIONS[:2] and operation.input(1).get_partial_shape()[1].get_length() > 1
    return mixes and not _is_difference(operation.input_value(0).get_node())


def _is_difference(operation: "openvino.Node") -> bool:
    values = (value.get_node().get_type_name() for value in operation.input_values())
    return operation.get_type_name() == "Subtract" and "Constant" not in values


def _channels(layer: "openvino.Node") -> tuple[float, float]:
    """Return the numbers of input and output channels of a learned layer; infinity for matrix products."""
    if layer.get_type_name() == "MatMul":
        return math.inf, math.inf
    first, second = (layer.input(1).get_partial_shape()[axis].get_length() for axis in (0, 1))
    return (second, first) if layer.get_type_name() == "Convolution" else (first, second)
