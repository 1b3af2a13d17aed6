"""OpenVINO networks for images of one shape, which it computes faster."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an optional dependency
    import openvino


def read_with_fixed_shape(path: Path | str, shape: tuple[int, int, int, int]) -> "openvino.Model":
    """Read an exported model and fix the shape of the images that it takes.

    Args:
        path: The ``.xml`` file of any export to OpenVINO.
        shape: Images, channels, height and width in pixels.

    Returns:
        The network, to be compiled or saved with ``openvino.save_model``. anomalib's inferencer can open the file.

    Raises:
        ValueError: If a number is not positive, or if the export is made for another shape.
    """
    import openvino

    network = openvino.Core().read_model(path)
    exported = network.input(0).partial_shape
    if min(shape) < 1 or not exported.compatible(openvino.PartialShape(list(shape))):
        msg = f"{path} takes images of shape {exported} (? is any number), so it cannot be fixed to {list(shape)}."
        raise ValueError(msg)
    network.reshape(list(shape))
    # OpenVINO drops operations that a known shape makes needless, and what is left bears their names as well, of which
    # anomalib's inferencer takes any. So only inputs and outputs keep a name.
    kept = {result.input_value(0).get_node().get_friendly_name() for result in network.get_results()}
    for operation in network.get_ops():
        if operation.get_type_name() not in ("Parameter", "Result") and operation.get_friendly_name() not in kept:
            for value in operation.outputs():
                value.get_tensor().set_names(set())
    return network
