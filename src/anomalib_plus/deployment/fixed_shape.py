"""OpenVINO networks for images of one shape, which run faster."""

from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_plus.deployment.openvino_core import openvino_core

if TYPE_CHECKING:  # an optional dependency
    import openvino


def read_with_fixed_shape(path: Path | str, shape: tuple[int, int, int, int]) -> "openvino.Model":
    """Read an export to OpenVINO (``.xml``) and fix the shape (B, C, H, W) of its input.

    Returns:
        The network, to compile or to save with ``openvino.save_model``; anomalib's inferencer can open the saved file.

    Raises:
        ValueError: If ``shape`` is not positive, or the model was exported for another shape.
    """
    import openvino

    network = openvino_core().read_model(path)
    exported = network.input(0).partial_shape
    if min(shape) < 1 or not exported.compatible(openvino.PartialShape(list(shape))):
        msg = f"{path} takes images of shape {exported} (? is any number), not {list(shape)}: pass a shape that fits."
        raise ValueError(msg)
    network.reshape(list(shape))
    # When OpenVINO removes operations that a fixed shape makes redundant, others inherit their names, and anomalib's
    # inferencer would read any tensor of the right name. So only inputs and outputs keep theirs.
    kept = {result.input_value(0).get_node().get_friendly_name() for result in network.get_results()}
    for operation in network.get_ops():
        if operation.get_type_name() not in ("Parameter", "Result") and operation.get_friendly_name() not in kept:
            for value in operation.outputs():
                value.get_tensor().set_names(set())
    return network
