"""Selections of an OpenVINO network that are known before any image is seen."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an optional dependency
    import openvino


def settle_choices(model: "openvino.Model") -> None:
    """Replace each selection with a known condition by what it selects, in place.

    The normalisation of scores selects by whether a validation has set ranges. Without them the way not taken computes
    with constants that are NaN, at which OpenVINO fails to compile a network of eight bits.
    """
    from openvino.passes import ConstantFolding, Manager

    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Select":
            continue
        condition = operation.input_value(0).get_node()
        if condition.get_type_name() != "Constant" or condition.data.size != 1:
            continue
        selected = operation.input_value(1 if condition.data.item() else 2)
        output = operation.output(0)
        if selected.get_partial_shape() == output.get_partial_shape():
            names = output.get_names()
            output.replace(selected)
            selected.get_tensor().set_names(
                names
            )  # the engine and the inferencers ask for the network's outputs by name
