"""Folding of OpenVINO's ``Select`` operations with a constant condition."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an optional dependency
    import openvino


def fold_constant_selections(model: "openvino.Model") -> None:
    """Replace each ``Select`` with a constant condition by the input that it selects, in place.

    anomalib normalises scores if a validation has set their range. If not, the branch that is not selected contains NaN
    constants, on which OpenVINO fails to compile an INT8 network.
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
            selected.get_tensor().set_names(names)  # inferencers find outputs by name
