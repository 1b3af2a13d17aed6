"""Measure one model's exports: python -m anomalib_plus.benchmark.exports.measure FOLDER.

The folder contains task.json; the exports and record.json are written to it. A part that fails is recorded and
does not stop the others.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from anomalib.data import AnomalibDataModule
from anomalib.post_processing import PostProcessor
from torch import nn

from anomalib_plus import register
from anomalib_plus.benchmark.costs import seconds_in_turns
from anomalib_plus.benchmark.exports import agreement
from anomalib_plus.benchmark.exports.backends import Images, Predict, attempt, engine_backend, open_backends
from anomalib_plus.benchmark.exports.formats import EAGER, FORMATS, Exported, export
from anomalib_plus.benchmark.exports.plan import RECORD, TASK, DeploymentPlan
from anomalib_plus.benchmark.offline_weights import offer_lite_weights
from anomalib_plus.benchmark.plan import ModelEntry, label_of
from anomalib_plus.benchmark.process import SUPERVISED, end_with_parent
from anomalib_plus.benchmark.record import plain
from anomalib_plus.benchmark.schema import read
from anomalib_plus.benchmark.training import Trained, build_and_fit, load_class, trainer_arguments
from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.files import replace_file


def measure(plan: DeploymentPlan, index: int, threads: int, folder: Path) -> dict[str, Any]:
    """Train, export to ``folder``, compare and time a model of the plan.

    Returns:
        The model's record: ``formats`` and ``backends`` by name, each with its own ``error`` where something failed.

    Raises:
        Exception: If the model cannot be built or trained, or does not run.
    """
    register()
    torch.set_num_threads(threads)
    offer_lite_weights()
    entry = plan.models[index]
    with TemporaryDirectory() as scratch:
        trained = train(plan, entry, Path(scratch))
        model = trained.model
        formats, exports = _export_all(trained, plan.formats, folder)
        data = load_class(plan.data.class_path, AnomalibDataModule)(**(plan.data.init_args | entry.data))
        samples = agreement.draw_samples(data, plan.images)  # the engine made the other datamodule resize its images
        predictors, errors = open_backends(model, exports, threads)
        backends: dict[str, dict[str, Any]] = {name: {"error": error} for name, error in errors.items()}
        reference = agreement.predict_all(predictors[EAGER], samples.images)
        backends |= _compare(predictors, reference, samples)
        running = {name: predict for name, predict in predictors.items() if backends[name]["error"] is None}
        resized = torch.cat([pre_process(model.pre_processor, torch.from_numpy(image)) for image in samples.images])
        for name, figures in _time(running, resized.numpy(), plan.batch_sizes).items():  # of the networks alone
            backends[name] |= figures
    in_engine = agreement.predict_all(engine_backend(model), samples.images)
    return {
        "label": label_of(entry),
        "variant": entry.variant,
        "class_path": entry.class_path,
        "arguments": entry.init_args,
        "error": None,
        "image_size": list(resized.shape[-2:]),
        "images": len(samples.images),
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "formats": formats,
        "backends": {name: backends[name] for name in (*predictors, *errors)},
        "engine": agreement.compare(in_engine, reference, samples.labels),
    }


def train(plan: DeploymentPlan, entry: ModelEntry, folder: Path) -> Trained:
    """Train a model on the CPU and, if the plan normalises scores, find its thresholds and ranges."""
    limits = trainer_arguments(asdict(entry.budget or plan.budget)) | {"accelerator": "cpu"}
    if plan.normalize:
        limits["limit_val_batches"] = 1.0
    trained = build_and_fit(
        {"class_path": entry.class_path, "arguments": entry.init_args},
        {"class_path": plan.data.class_path, "arguments": plan.data.init_args | entry.data},
        plan.image_size,
        True if plan.normalize else PostProcessor(enable_normalization=False),
        limits | plan.trainer | entry.trainer,
        plan.seed,
        folder,
    )
    forget_sources_of_weights(trained.model)
    trained.model.cpu()
    return trained


def forget_sources_of_weights(model: nn.Module) -> None:
    """Drop the pre-trained state dicts in timm's configurations; an export to torch would contain the weights twice."""
    for module in model.modules():
        (getattr(module, "pretrained_cfg", None) or {}).pop("state_dict", None)


def _export_all(
    trained: Trained, wanted: Sequence[str], folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Exported]]:
    records: dict[str, dict[str, Any]] = {}
    exports = {}
    for name in wanted:
        exported, error = attempt(partial(export, trained, FORMATS[name], folder / name.replace(" ", "_").lower()))
        records[name] = {"error": error}
        if exported is not None:
            exports[name] = exported
            records[name] |= {"mib": exported.size / 2**20, "seconds": exported.seconds, "path": str(exported.path)}
    return records, exports


def _compare(
    predictors: Mapping[str, Predict], reference: agreement.Predictions, samples: agreement.Samples
) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}
    for name, predict in predictors.items():
        predictions, error = attempt(partial(agreement.predict_all, predict, samples.images))
        records[name] = {"error": error}
        if predictions is not None:
            records[name] |= agreement.compare(predictions, reference, samples.labels)
    return records


def _time(predictors: Mapping[str, Predict], images: Images, batch_sizes: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {name: {"latency_ms": {}, "speed_up": {}} for name in predictors}
    for size in batch_sizes:
        batch = np.ascontiguousarray(np.resize(images, (size, *images.shape[1:])))
        seconds = seconds_in_turns({name: partial(predict, batch) for name, predict in predictors.items()})
        for name, values in seconds.items():
            pairs = zip(seconds[EAGER], values, strict=True)
            records[name]["latency_ms"][str(size)] = 1000 * median(values)
            records[name]["speed_up"][str(size)] = median(eager / own for eager, own in pairs)
    return records


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the model of a task and write its record, or its error."""
    parser = argparse.ArgumentParser(prog="python -m anomalib_plus.benchmark.exports.measure", description=__doc__)
    parser.add_argument("folder", type=Path, help=f"folder with {TASK}")
    parser.add_argument(SUPERVISED, action="store_true", help="end when standard input is closed")
    options = parser.parse_args(arguments)
    if options.supervised:
        end_with_parent()
    task = json.loads((options.folder / TASK).read_text())
    plan = read(DeploymentPlan, task["plan"], TASK)
    record, error = attempt(partial(measure, plan, task["index"], task["threads"], options.folder))
    replace_file(options.folder / RECORD, json.dumps(plain(record or {"error": error})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
