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
        selected, output = operation.input_value(1 if condition.data.item() else 2), operation.output(0)
        if selected.get_partial_shape() != output.get_partial_shape():
            continue
        names = output.get_names()
        is_result = any(reader.get_node().get_type_name() == "Result" for reader in output.get_target_inputs())
        output.replace(selected)
        if is_result:
            selected.get_tensor().set_names(names)  # by which inferencers know the network's outputs
