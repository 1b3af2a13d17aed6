"""Which operations INT8 leaves alone, and what its calibration needs."""

import logging
from types import SimpleNamespace

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops
from pandas import DataFrame
from torch.utils.data import Dataset

from anomalib_plus.deployment.int8 import (
    operations_in_floating_point,
    quantize_networks,
    spread_over_labels,
)


def convolution(source: openvino.Node, before: int, after: int, name: str) -> openvino.Node:
    weights = ops.constant(np.ones((after, before, 3, 3), np.float32))
    return ops.convolution(source, weights, [1, 1], [1, 1], [1, 1], [1, 1], name=name)


def stage(features: openvino.Node, names: list[str]) -> openvino.Node:
    for name in names:
        features = ops.relu(convolution(features, 8, 8, name), name=f"activation of {name}")
    return features


@pytest.fixture
def model() -> openvino.Model:
    """One network produces an image, a second one a map of it and the original, which is filtered."""
    image = ops.parameter([1, 3, 8, 8], np.float32, name="image")
    centred = ops.subtract(ops.multiply(image, np.float32(2), name="twice"), np.float32(1), name="centred")
    features = stage(ops.relu(convolution(centred, 3, 8, "reads an image"), name="first activation"), ["inner 1"])
    features = ops.add(features, stage(features, ["inner 2"]), name="residual connection")
    features = stage(features, ["inner 3", "next 1", "next 2", "next 3"])
    both = ops.concat([image, convolution(features, 8, 3, "writes an image")], 1, name="both images")
    features = stage(ops.relu(convolution(both, 6, 8, "reads both"), name="second activation"), ["inner 4", "inner 5"])
    features = stage(features, ["last 1", "last 2", "last 3"])
    difference = ops.subtract(convolution(features, 8, 1, "writes a map"), np.float32(1), name="difference")
    return openvino.Model([ops.abs(convolution(difference, 1, 1, "filter"), name="map")], [image])


def test_images_maps_and_where_branches_meet_are_left_alone(model: openvino.Model) -> None:
    alone = set(operations_in_floating_point(model))
    assert {"twice", "centred", "residual connection", "difference", "filter", "map"} <= alone
    assert {"reads an image", "next 1", "next 2", "next 3", "writes an image"} <= alone
    assert {"reads both", "last 1", "last 2", "last 3", "writes a map"} <= alone
    assert not alone & {f"inner {number}" for number in range(1, 6)}


def test_layers_whose_features_are_compared_are_quantised_to_the_last() -> None:
    image = ops.parameter([1, 3, 8, 8], np.float32, name="image")
    features = stage(convolution(image, 3, 8, "reads an image"), ["first", "second"])
    distance = ops.reduce_mean(ops.abs(features, name="distance"), np.array([1]), name="map")
    alone = set(operations_in_floating_point(openvino.Model([distance], [image])))
    assert alone == {"reads an image", "activation of second", "distance", "map"}


def test_a_convolution_of_a_difference_measures_a_distance_and_is_left_alone() -> None:
    image = ops.parameter([1, 3, 8, 8], np.float32, name="image")
    first, second = (stage(convolution(image, 3, 8, f"reads {n}"), [f"inner {n}", f"last {n}"]) for n in (1, 2))
    whitened = convolution(ops.subtract(first, second, name="difference"), 8, 8, "whitening")
    distance = ops.reduce_mean(ops.abs(whitened, name="absolute"), np.array([1]), name="map")
    alone = set(operations_in_floating_point(openvino.Model([distance], [image])))
    assert {"difference", "whitening", "absolute", "map"} <= alone
    assert not alone & {"inner 1", "inner 2", "last 1", "last 2"}


def test_a_datamodule_is_asked_for(model: openvino.Model) -> None:
    with pytest.raises(ValueError, match="INT8_PTQ needs a datamodule"):
        quantize_networks(model, None)


class Images(Dataset):
    """Noise; notes which image is asked for."""

    def __init__(self, labels: list[int]) -> None:
        self.samples = DataFrame({"label_index": labels})
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> np.ndarray:
        self.asked.append(index)
        return np.random.default_rng(index).random((3, 8, 8), np.float32)

    @staticmethod
    def collate_fn(items: list[np.ndarray]) -> SimpleNamespace:
        return SimpleNamespace(image=np.stack(items))


def datamodule_of(data: Images, stages: list[str]) -> SimpleNamespace:
    return SimpleNamespace(
        prepare_data=bool,
        setup=stages.append,
        val_data=data,
        eval_batch_size=2,
        num_workers=0,
        external_collate_fn=None,
    )


def test_only_layers_are_quantised_and_the_validation_images_calibrate(
    model: openvino.Model, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("nncf")
    data, stages = Images([0, 0, 1, 0, 1]), []
    datamodule = datamodule_of(data, stages)
    with caplog.at_level(logging.WARNING, "anomalib_plus"):
        quantised = quantize_networks(model, datamodule)
    assert not [record for record in caplog.records if record.name.startswith("anomalib_plus")]
    assert stages == ["fit"]
    assert data.asked[:5] == [0, 1, 2, 3, 4]
    assert set(data.asked) == {0, 1, 2, 3, 4}
    assert datamodule.eval_batch_size == 1, "the graph's"
    readers = {
        reader.get_node().get_friendly_name().partition("/")[0]
        for operation in quantised.get_ops()
        if operation.get_type_name() == "FakeQuantize"
        for reader in operation.output(0).get_target_inputs()
    }
    assert {f"inner {number}" for number in range(1, 6)} <= readers
    assert not readers & set(operations_in_floating_point(model))


def test_products_of_weights_do_not_overflow_where_processors_add_two_in_sixteen_bits(model: openvino.Model) -> None:
    pytest.importorskip("nncf")
    quantised = quantize_networks(model, datamodule_of(Images([0, 1]), []))
    constants = (operation for operation in quantised.get_ops() if operation.get_type_name() == "Constant")
    weights = [constant.get_data() for constant in constants if constant.get_element_type() == openvino.Type.i8]
    assert len(weights) == 5
    largest = max(np.abs(values.astype(int)).max() for values in weights)
    assert 2 * 255 * largest <= np.iinfo(np.int16).max


def network_never_validated() -> openvino.Model:
    """Normalising its score would compute with NaN, so it is left as it is."""
    image = ops.parameter([-1, 3, 8, 8], np.float32, name="image")
    features = stage(convolution(image, 3, 8, "reads an image"), ["inner 1", "inner 2"])
    score = ops.clamp(ops.reduce_mean(features, np.array([1])), 0, 1)
    normalised = ops.clamp(ops.multiply(score, np.float32(np.nan)), 0, 1)
    return openvino.Model([ops.select(ops.constant(np.bool_(False)), normalised, score)], [image])


def test_a_network_that_was_never_validated_runs() -> None:
    pytest.importorskip("nncf")
    quantised = quantize_networks(network_never_validated(), datamodule_of(Images([0, 1]), []))
    network = openvino.Core().compile_model(quantised, "CPU")
    (score,) = network(Images([0])[0][None]).to_tuple()
    assert np.isfinite(score).all()


def test_biases_are_corrected_the_faster_way_where_nncf_fails_at_the_slower(
    model: openvino.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    nncf = pytest.importorskip("nncf")
    tried: list[bool] = []

    def quantize(model: openvino.Model, calibration: object, fast_bias_correction: bool, **_: object) -> openvino.Model:
        tried.append(fast_bias_correction)
        if not fast_bias_correction:
            raise KeyError("layer")
        return model

    monkeypatch.setattr(nncf, "quantize", quantize)
    assert quantize_networks(model, datamodule_of(Images([0, 1]), [])) is model
    assert tried == [False, True]


def test_good_images_alone_are_worth_a_warning(model: openvino.Model, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("nncf")
    with caplog.at_level(logging.WARNING, "anomalib_plus"):
        quantize_networks(model, datamodule_of(Images([0, 0]), []))
    assert "which are all good (2)" in caplog.text


@pytest.mark.parametrize("labels", [[0] * 5, [0, 1] * 150, [1] * 299 + [0], [0] * 100])
def test_a_small_set_is_taken_as_it_is(labels: list[int]) -> None:
    assert spread_over_labels(np.array(labels), 300) == list(range(len(labels)))


def test_of_a_large_set_every_part_and_both_kinds_are_taken() -> None:
    """Good images come first in the order of paths, so the first 300 would hold no defect."""
    labels = np.repeat([0, 1], [700, 60])
    chosen = np.array(spread_over_labels(labels, 300))
    assert len(chosen) == 300
    assert chosen[-60:].tolist() == list(range(700, 760))
    good = chosen[:-60]
    assert (good[0], good[-1]) == (0, 699)
    assert set(np.diff(good)) <= {2, 3, 4}
    halves = spread_over_labels(np.repeat([0, 1], [5000, 500]), 300)
    assert len(set(halves)) == 300
    assert sum(index >= 5000 for index in halves) == 150
