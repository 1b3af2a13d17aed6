"""Exported models give what the eager model gives, and hold nothing that it does not need for that."""

import copy
import logging
import pickle
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
import torch.nn.functional as F
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.deploy import CompressionType, ExportType, OpenVINOInferencer, TorchInferencer
from anomalib.metrics import AUROC
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from sklearn.metrics import roc_auc_score

from anomalib_plus.deployment.exporting import UntrainedModelError
from anomalib_plus.deployment.fixed_shape import read_with_fixed_shape
from anomalib_plus.deployment.int8 import operations_in_floating_point

from .comparison import assert_same_output
from .conftest import Surfaces, Trained
from .small_models import IMAGE_SIZE, SmallModel, quiet_engine

TOLERANCE = 1e-4
HALF_PRECISION_TOLERANCE = 1e-2
FULL_PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
"""Without it, OpenVINO computes in bfloat16 where the CPU can."""

SIZES_AND_COUNTS = [((64, 64), 1), ((64, 64), 6), ((150, 90), 6)]


class OnnxExport(NamedTuple):
    """An exported file, and what was logged and printed meanwhile."""

    file: Path
    log: list[logging.LogRecord]
    printed: str


@pytest.fixture(scope="package")
def onnx_export(small_model: SmallModel, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    """The checkpoint, exported by the command for images of any number and size."""
    folder, records = tmp_path_factory.mktemp("onnx"), []
    options = ["--export_type=onnx", f"--ckpt_path={trained.checkpoint}", f"--export_root={folder}"]
    listener = logging.Handler()
    listener.emit = records.append
    root, printed = logging.getLogger(), StringIO()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.INFO)  # as anomalib's command does
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            AnomalibCLI(["export", *small_model.command_line, *options])
    finally:
        root.removeHandler(listener)
        root.setLevel(level)
    (exported,) = folder.rglob("*.onnx")
    return OnnxExport(exported, records, printed.getvalue())


@pytest.fixture(scope="package")
def onnx_file(onnx_export: OnnxExport) -> Path:
    return onnx_export.file


@pytest.fixture(scope="package")
def onnx_session(onnx_file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="package")
def openvino_files(onnx_file: Path) -> dict[str, Path]:
    """What the export to OpenVINO makes of the ONNX file; that export itself would trace the model again."""
    model = openvino.convert_model(onnx_file)
    files = {precision: onnx_file.with_name(f"{precision}.xml") for precision in ("FP32", "FP16")}
    for precision, file in files.items():
        openvino.save_model(model, file, compress_to_fp16=precision == "FP16")
    return files


@pytest.fixture(scope="package")
def openvino_models(openvino_files: dict[str, Path]) -> dict[str, openvino.CompiledModel]:
    return {name: openvino.Core().compile_model(file, "CPU", FULL_PRECISION) for name, file in openvino_files.items()}


def assert_agrees(outputs: dict[str, Any], model: AnomalibModule, images: torch.Tensor, tolerance: float) -> None:
    with torch.inference_mode():
        expected = model.eval()(images)
    assert ((expected.anomaly_map > 0) & (expected.anomaly_map < 1)).float().mean() > 0.1, "clamped: shows nothing"
    assert_same_output(InferenceBatch(**{k: torch.from_numpy(v) for k, v in outputs.items()}), expected, tolerance)


@pytest.mark.parametrize(("size", "count"), SIZES_AND_COUNTS, ids=str)
def test_onnx_agrees_with_the_eager_model(
    trained: Trained,
    onnx_session: onnxruntime.InferenceSession,
    surface_batch: ImageBatch,
    size: tuple[int, int],
    count: int,
) -> None:
    images = F.interpolate(surface_batch.image[:count], size, mode="bilinear")
    names = [output.name for output in onnx_session.get_outputs()]
    arrays = onnx_session.run(names, {"input": images.numpy()})
    assert_agrees(dict(zip(names, arrays, strict=True)), trained.model, images, TOLERANCE)


@pytest.mark.parametrize(("size", "count"), SIZES_AND_COUNTS, ids=str)
@pytest.mark.parametrize(("precision", "tolerance"), [("FP32", TOLERANCE), ("FP16", HALF_PRECISION_TOLERANCE)])
def test_openvino_agrees_with_the_eager_model(
    trained: Trained,
    openvino_models: dict[str, openvino.CompiledModel],
    surface_batch: ImageBatch,
    size: tuple[int, int],
    count: int,
    precision: str,
    tolerance: float,
) -> None:
    images = F.interpolate(surface_batch.image[:count], size, mode="bilinear")
    outputs = openvino_models[precision](images.numpy())
    named = {name: outputs[name] for name in ("pred_score", "pred_label", "anomaly_map", "pred_mask")}
    assert_agrees(named, trained.model, images, tolerance)


def test_a_fixed_shape_changes_neither_values_nor_names(
    trained: Trained, openvino_files: dict[str, Path], surface_batch: ImageBatch
) -> None:
    images = F.interpolate(surface_batch.image, (150, 90), mode="bilinear")
    network = read_with_fixed_shape(openvino_files["FP32"], tuple(images.shape))
    outputs = openvino.Core().compile_model(network, "CPU", FULL_PRECISION)(images.numpy())
    assert all(len(output.get_names()) == 1 for output in outputs)
    named = {output.get_any_name(): values for output, values in outputs.items()}
    assert named.keys() == {"pred_score", "pred_label", "anomaly_map", "pred_mask"}
    assert_agrees(named, trained.model, images, TOLERANCE)


def test_the_export_logs_a_handful_of_lines(onnx_export: OnnxExport) -> None:
    messages = [f"{record.name}: {record.getMessage()}" for record in onnx_export.log]
    assert any("Exported model to" in message for message in messages)
    assert len(messages) + len(onnx_export.printed.splitlines()) < 10, messages
    assert not any(record.exc_info for record in onnx_export.log)


def test_warnings_of_the_exporter_are_kept(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def export(*_: object, **__: object) -> None:
        logging.getLogger("onnxscript.optimizer").warning("a real warning")
        logging.getLogger("onnx_ir.passes").info("chatter")

    monkeypatch.setattr(torch.onnx, "export", export)
    with caplog.at_level(logging.INFO):
        trained.model.to_onnx(tmp_path)
    assert [record.getMessage() for record in caplog.records] == ["a real warning"]
    assert logging.getLogger("onnx_ir").level == logging.NOTSET


@pytest.mark.parametrize("export_type", ExportType)
def test_weights_that_nothing_was_learned_with_are_not_exported(
    small_model: SmallModel, tmp_path: Path, export_type: ExportType
) -> None:
    options = [f"--export_type={export_type.value}", f"--export_root={tmp_path}"]
    with pytest.raises(UntrainedModelError, match=rf"{small_model.name} was neither trained.*random.*--ckpt_path=FILE"):
        AnomalibCLI(["export", *small_model.command_line, *options])
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_what_was_trained_or_loaded_is_exported(
    small_model: SmallModel, trained: Trained, tmp_path: Path, copied: Callable[[AnomalibModule], AnomalibModule]
) -> None:
    loaded = small_model.build()
    loaded.load_state_dict(trained.model.state_dict())
    for number, model in enumerate((trained.model, loaded)):
        assert copied(model).to_torch(tmp_path / str(number)).is_file()


def elements_in_use(model: AnomalibModule) -> int:
    """Elements of the parameters and buffers on which the output depends: those whose NaN reaches it."""
    network = copy.deepcopy(model.model).eval()
    images, used = torch.rand(1, 3, *IMAGE_SIZE), 0
    with torch.no_grad():
        for values in [*network.parameters(), *network.buffers()]:
            if values.is_floating_point() and values.numel():
                original = values.clone()
                values.fill_(torch.nan)
                used += values.numel() * int(network(images).anomaly_map.isnan().any())
                values.copy_(original)
    return used


def test_the_graph_holds_only_what_the_output_depends_on(trained: Trained, onnx_file: Path) -> None:
    graph = onnx.load(onnx_file).graph
    held = sum(int(np.prod(values.dims)) for values in graph.initializer)
    used = elements_in_use(trained.model)
    reference = sum(v.numel() for name, v in trained.model.model.named_buffers() if name.startswith("reference.layer"))
    # Kernels and shapes come along, and RbAE's reference is kept cut into patches of both sizes.
    assert 0.9 * used < held < used + 200 + 4 * reference


def test_onnx_scores_are_in_the_unit_interval_and_repeat(onnx_session: onnxruntime.InferenceSession) -> None:
    images = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)
    first, second = (onnx_session.run(["pred_score", "anomaly_map"], {"input": images}) for _ in range(2))
    for values, again in zip(first, second, strict=True):
        assert np.array_equal(values, again)
        assert values.min() >= 0
        assert values.max() <= 1


def test_inferencers_agree_with_the_eager_model_and_with_each_other(
    trained: Trained,
    openvino_files: dict[str, Path],
    surface_batch: ImageBatch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    by_torch = TorchInferencer(quiet_engine().export(trained.model, ExportType.TORCH, export_root=tmp_path), "cpu")
    by_openvino = OpenVINOInferencer(openvino_files["FP32"], "CPU", FULL_PRECISION)
    for path, image in zip(surface_batch.image_path, surface_batch.image, strict=True):
        with torch.inference_mode():
            expected = trained.model.eval()(image[None])
            assert_same_output(by_torch.predict(path), expected, TOLERANCE)
        said = by_openvino.predict(path)
        fields = ("pred_score", "pred_label", "anomaly_map", "pred_mask")
        assert_same_output(
            InferenceBatch(**{name: torch.from_numpy(np.asarray(getattr(said, name))) for name in fields}),
            expected,
            TOLERANCE,
        )


def test_quantisation_leaves_the_anomaly_map_alone(trained: Trained, openvino_files: dict[str, Path]) -> None:
    """It keeps what computes map and score in floating point, and takes the learned layers."""
    model = openvino.Core().read_model(openvino_files["FP32"])
    kinds = {operation.get_friendly_name(): operation.get_type_name() for operation in model.get_ordered_ops()}
    kept = Counter(kinds[name] for name in operations_in_floating_point(model))
    assert kept["Clamp"] >= 2, "of the normalised score and map"
    assert kept["ReduceMax"] == 1
    quantised = Counter(kinds.values())["Convolution"] - kept["Convolution"]
    layers = [module for module in trained.model.model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert 0 < quantised <= 2 * len(layers)  # RbAE's encoder runs twice


@pytest.mark.slow
@pytest.mark.parametrize("compression", [CompressionType.INT8_PTQ, CompressionType.INT8_ACQ])
def test_int8_keeps_the_ranking(
    trained: Trained, surfaces: Surfaces, surface_batch: ImageBatch, tmp_path: Path, compression: CompressionType
) -> None:
    """Scores as a network that was never validated gives them: after a short training, normalised ones are clamped."""
    pytest.importorskip("nncf")
    network = copy.deepcopy(trained.model).eval()
    network.post_processor = PostProcessor()
    file = quiet_engine().export(
        network,
        ExportType.OPENVINO,
        export_root=tmp_path,
        compression_type=compression,
        datamodule=surfaces(),
        metric=AUROC(fields=["pred_score", "gt_label"]),
    )
    model = openvino.Core().read_model(file)
    assert any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
    scores = openvino.Core().compile_model(model, "CPU", FULL_PRECISION)(surface_batch.image.numpy())["pred_score"]
    with torch.inference_mode():
        expected = network(surface_batch.image).pred_score
    one_pair = 1 / 9  # of three defective images and three good ones
    reference = roc_auc_score(surface_batch.gt_label, expected)
    assert roc_auc_score(surface_batch.gt_label, scores.reshape(-1)) >= reference - one_pair - 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("pre_processor", [True, False], ids=["resizes", "takes images as they are"])
def test_fixed_size(
    small_model: SmallModel, trained: Trained, surface_batch: ImageBatch, tmp_path: Path, pre_processor: bool
) -> None:
    model = copy.deepcopy(trained.model)
    if not pre_processor:
        model.pre_processor = None
    file = quiet_engine().export(model, ExportType.ONNX, export_root=tmp_path, input_size=IMAGE_SIZE)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, *IMAGE_SIZE]
    names = [output.name for output in session.get_outputs()]
    for count in (1, 6):
        images = surface_batch.image[:count]
        arrays = session.run(names, {"input": images.numpy()})
        assert_agrees(dict(zip(names, arrays, strict=True)), model, images, TOLERANCE)
