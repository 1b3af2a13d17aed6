"""INT8 quantisation for OpenVINO that leaves the computation of the anomaly map alone."""

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
from anomalib_plus.deployment.constant_selections import settle_choices

if TYPE_CHECKING:  # an optional dependency
    import openvino

logger = logging.getLogger(__name__)

_CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution")
_NO_OPERATIONS = ("Constant", "Parameter", "Result")
_IMAGES = 300
"""As many as nncf recommends; more take longer and say no more."""
_IMAGE_CHANNELS = 6
"""At most so many channels make an image, a pair of images or a map."""
_LAST_LAYERS = 4
"""Layers that paint an image or a map and stay in floating point: about one stage of a decoder."""
_WIDE = 10_000_000
"""Weights from which on nncf's faster correction of biases has to do."""


def quantize_networks(model: "openvino.Model", datamodule: Any) -> "openvino.Model":
    """Quantise an exported model's networks, calibrated on the validation images, as anomalib does.

    Ranges found on good images alone would cut off what defects excite, and bad parts would score like good ones: of
    more than 300 images, 300 are taken that are spread over the set and, where it has them, as many bad as good.

    In floating point stays what small differences are all about: what precedes the first network (resizing) and what
    follows the last (distances, filters, normalisation of the score), the layers that read or paint an image or a map,
    and where branches meet (residual connections, gates). anomalib quantises all of it.

    Weights use half of their range: processors without instructions for neural networks (VNNI) add products of eight
    bits in sixteen, and those of the full range overflow there.

    Args:
        model: The converted model.
        datamodule: Its validation images are used; a warning says so if there are no defects among them.

    Raises:
        ValueError: If there is no datamodule.
        ModuleNotFoundError: If nncf is not installed.
    """
    settle_choices(model)
    calibration, options = _calibration(model, datamodule, "INT8_PTQ")
    import nncf

    return _with_some_correction_of_biases(nncf.quantize, model, calibration, **options)


def quantize_networks_within_accuracy(
    model: "openvino.Model", datamodule: Any, metric: Any = None, max_drop: float = 0.01
) -> "openvino.Model":
    """Quantise like :func:`quantize_networks`, then return layers to floating point until a metric drops no more.

    Args:
        model: The converted model, with a normalised score.
        datamodule: Its validation images calibrate and judge; there must be defects among them.
        metric: A metric of anomalib, larger for the better; image AUROC by default. Anomalib's engine always gives one,
            ``F1Score`` where its caller gives none.
        max_drop: How much of the metric may be lost.

    Raises:
        ValueError: If there is no datamodule.
        ModuleNotFoundError: If nncf is not installed.
    """
    settle_choices(model)
    calibration, options = _calibration(model, datamodule, "INT8_ACQ")
    options["advanced_quantization_parameters"] = options.pop("advanced_parameters")  # as nncf calls them here
    import nncf

    metric = metric or AUROC(fields=["pred_score", "gt_label"])

    def measure(network: "openvino.CompiledModel", batches: Iterable[ImageBatch]) -> float:
        metric.reset()
        for batch in batches:
            outputs = network(batch.image.numpy())
            # The next batch overwrites the outputs, and metrics keep them.
            said = {output.get_any_name(): torch.tensor(values) for output, values in outputs.items()}
            said |= {name: values.flatten() for name, values in said.items() if name in ("pred_score", "pred_label")}
            metric.update(batch.update(in_place=False, **said))
        return float(metric.compute())

    judged = nncf.Dataset(datamodule.val_dataloader())
    return _with_some_correction_of_biases(
        nncf.quantize_with_accuracy_control, model, calibration, judged, measure, max_drop=max_drop, **options
    )


def _with_some_correction_of_biases(quantize: Callable[..., "openvino.Model"], *args: Any, **options: Any) -> Any:
    """Quantise with nncf's slower correction of biases, or the faster one where the slower one fails."""
    try:
        return quantize(*args, **options)
    except KeyError:  # nncf cuts some networks, FEAR among them, into parts without a layer that it then asks for
        if options["fast_bias_correction"]:
            raise
        return quantize(*args, **options | {"fast_bias_correction": True})


def _calibration(model: "openvino.Model", datamodule: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """The images that set value ranges, and how to quantise."""
    if datamodule is None:
        msg = f"{name} needs a datamodule (--data on the command line): its validation images set the value ranges."
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
        # The slower correction keeps activations, which for wide networks takes gigabytes and hours.
        "fast_bias_correction": _count_constants(model) > _WIDE,
        "ignored_scope": nncf.IgnoredScope(names=operations_in_floating_point(model)),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    }


def _calibration_images(datamodule: Any) -> DataLoader:
    """The validation images, or a choice of them, in batches as the datamodule makes them."""
    data = datamodule.val_data
    labels = np.array([sample.label for sample in read_samples(data)])
    if len(np.unique(labels)) < 2:
        logger.warning(
            "INT8 finds its value ranges on the validation images, and all %d of them are %s. Without images of both "
            "kinds bad parts may score like good ones: give a datamodule that validates on both.",
            len(labels),
            "bad" if labels.any() else "good",
        )
    return DataLoader(
        Subset(data, spread_over_labels(labels, _IMAGES)),
        batch_size=datamodule.eval_batch_size,
        num_workers=datamodule.num_workers,
        collate_fn=datamodule.external_collate_fn or data.collate_fn,
    )


def spread_over_labels(labels: NDArray[np.integer], count: int) -> list[int]:
    """Choose at most ``count`` samples: of each label equally many, or all if it has fewer, evenly spaced.

    Args:
        labels: (N,).
        count: Positive.

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
    """Names of the operations that INT8 leaves alone.

    Returns:
        On every path what precedes the first convolution and what follows the last layer; the layers that read an image
        and the last ones that paint one, or a map; and where computed values meet.
    """
    operations = model.get_ordered_ops()
    alone: set[str] = set()
    before: set[str] = set()
    for operation in operations:
        name, kind = operation.get_friendly_name(), operation.get_type_name()
        computed = [value for value in operation.input_values() if value.get_node().get_friendly_name() not in before]
        if kind not in _CONVOLUTIONS and not computed:
            before.add(name)
        elif len(computed) > 1 and kind not in (*_CONVOLUTIONS, "MatMul"):
            alone.add(name)
    layers: dict[str, float] = {}  # from here to an image or map; 0 behind the last layer
    for operation in reversed(operations):
        name = operation.get_friendly_name()
        readers = (reader.get_node() for value in operation.outputs() for reader in value.get_target_inputs())
        layers[name] = max((layers[reader.get_friendly_name()] for reader in readers), default=0)
        if _is_learned(operation):
            read, written = _channels(operation)
            if written <= _IMAGE_CHANNELS:
                layers[name] = 1
            else:  # a last layer that paints nothing is quantised: its features are compared
                layers[name] = layers[name] + 1 if layers[name] else math.inf
            if read <= _IMAGE_CHANNELS:
                alone.add(name)
        if layers[name] <= _LAST_LAYERS:
            alone.add(name)
    return [
        operation.get_friendly_name()
        for operation in operations
        if operation.get_friendly_name() in before | alone and operation.get_type_name() not in _NO_OPERATIONS
    ]


def _count_constants(model: "openvino.Model") -> int:
    constants = (operation for operation in model.get_ops() if operation.get_type_name() == "Constant")
    return sum(math.prod(constant.output(0).shape) for constant in constants)


def _is_learned(operation: "openvino.Node") -> bool:
    """Whether it can be a layer with trained weights; a convolution of single channels is a filter of the map."""
    kind = operation.get_type_name()
    if kind == "MatMul":
        return True
    return kind in _CONVOLUTIONS[:2] and operation.input(1).get_partial_shape()[1].get_length() > 1


def _channels(layer: "openvino.Node") -> tuple[float, float]:
    """How many channels a learned layer reads and writes; no end of them where its operation has none."""
    if layer.get_type_name() == "MatMul":
        return math.inf, math.inf
    first, second = (layer.input(1).get_partial_shape()[axis].get_length() for axis in (0, 1))
    return (second, first) if layer.get_type_name() == "Convolution" else (first, second)
