"""Selections that are known beforehand disappear; others stay."""

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from anomalib_plus.deployment.constant_selections import fold_constant_selections

IMAGES = np.linspace(-2, 2, 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def choosing(condition: openvino.Node, images: openvino.Node) -> openvino.Model:
    """A network that gives half the images or their squares."""
    half, square = ops.multiply(images, np.float32(0.5)), ops.multiply(images, images)
    chosen = ops.select(condition, half, square)
    chosen.output(0).get_tensor().set_names({"map"})
    return openvino.Model([ops.result(chosen)], [images])


def kinds(model: openvino.Model) -> list[str]:
    return [operation.get_type_name() for operation in model.get_ops()]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [[2, 3, 4, 5], [-1, 3, -1, -1]], ids=str)
def test_a_known_choice_is_settled(known: bool, shape: list[int]) -> None:
    condition = ops.equal(ops.constant(np.float32(known)), np.float32(1))
    model = choosing(condition, ops.parameter(shape, np.float32))
    fold_constant_selections(model)
    assert "Select" not in kinds(model)
    assert model.output(0).get_names() == {"map"}
    found = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(IMAGES)["map"]
    assert np.allclose(found, IMAGES / 2 if known else IMAGES**2)


def test_a_choice_that_depends_on_the_images_stays() -> None:
    images = ops.parameter([2, 3, 4, 5], np.float32)
    model = choosing(ops.greater(images, np.float32(0)), images)
    fold_constant_selections(model)
    assert "Select" in kinds(model)


def test_a_choice_that_broadcasts_stays() -> None:
    images = ops.parameter([2, 3, 4, 5], np.float32)
    chosen = ops.select(ops.constant(np.bool_(False)), images, ops.constant(np.float32(7)))
    model = openvino.Model([ops.result(chosen)], [images])
    fold_constant_selections(model)
    (found,) = openvino.Core().compile_model(model, "CPU")(IMAGES).to_tuple()
    assert found.shape == IMAGES.shape
    assert (found == 7).all()
