"""Which operations INT8 leaves alone, and what its calibration needs."""

from types import SimpleNamespace

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from anomalib_plus.models.components.quantization import operations_without_layers, quantize_networks


def convolution(source: openvino.Node, before: int, after: int, name: str) -> openvino.Node:
    weights = ops.constant(np.ones((after, before, 3, 3), np.float32))
    return ops.convolution(source, weights, [1, 1], [1, 1], [1, 1], [1, 1], name=name)


@pytest.fixture
def model() -> openvino.Model:
    """Twice an image minus one goes through two layers; its difference from the result is averaged and filtered."""
    image = ops.parameter([1, 3, 8, 8], np.float32, name="image")
    centred = ops.subtract(ops.multiply(image, np.float32(2), name="twice"), np.float32(1), name="centred")
    hidden = ops.relu(convolution(centred, 3, 4, "first layer"), name="activation")
    difference = ops.subtract(image, convolution(hidden, 4, 3, "last layer"), name="difference")
    grey = ops.reduce_mean(difference, np.array([1]), keep_dims=True, name="grey")
    return openvino.Model([ops.abs(convolution(grey, 1, 1, "filter"), name="map")], [image])


def test_all_but_the_layers_and_what_lies_between_them_is_left_alone(model: openvino.Model) -> None:
    assert set(operations_without_layers(model)) == {"twice", "centred", "difference", "grey", "filter", "map"}


def test_a_datamodule_is_asked_for(model: openvino.Model) -> None:
    with pytest.raises(ValueError, match="INT8_PTQ needs a datamodule"):
        quantize_networks(model, None)


def test_only_layers_are_quantised_and_the_validation_images_calibrate(model: openvino.Model) -> None:
    pytest.importorskip("nncf")
    seen = []

    def validation_images() -> list[SimpleNamespace]:
        seen.append("validation")
        images = np.random.default_rng(0).random((5, 1, 3, 8, 8), np.float32)
        return [SimpleNamespace(image=image) for image in images]

    datamodule = SimpleNamespace(
        prepare_data=bool, setup=seen.append, val_dataloader=validation_images, eval_batch_size=2
    )
    quantised = quantize_networks(model, datamodule)
    assert seen == ["fit", "validation"]
    assert datamodule.eval_batch_size == 1, "the graph's"
    readers = {
        reader.get_node().get_friendly_name().partition("/")[0]
        for operation in quantised.get_ops()
        if operation.get_type_name() == "FakeQuantize"
        for reader in operation.output(0).get_target_inputs()
    }
    assert readers & {"first layer", "last layer"}
    assert not readers & set(operations_without_layers(model))
