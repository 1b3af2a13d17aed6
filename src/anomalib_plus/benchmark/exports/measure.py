"""Everything about one model: exports, agreement, latency. A part that fails is recorded and hides no other."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from anomalib_plus import register
from anomalib_plus.benchmark.costs import seconds_in_turns
from anomalib_plus.benchmark.evaluation import prepare as resize_like_engine
from anomalib_plus.benchmark.exports import agreement
from anomalib_plus.benchmark.exports.backends import Images, Judge, engine_judge, open_backends
from anomalib_plus.benchmark.exports.formats import EAGER, FORMATS, Exported, export
from anomalib_plus.benchmark.exports.isolation import attempt
from anomalib_plus.benchmark.exports.plan import DeploymentPlan, label_of
from anomalib_plus.benchmark.exports.preparation import Prepared, make_data, prepare
from anomalib_plus.benchmark.offline_weights import offer_lite_weights

MIB = 2**20


def measure(plan: DeploymentPlan, index: int, threads: int, folder: Path) -> dict[str, Any]:
    """Prepare, export, compare and time a model.

    Args:
        plan: The plan.
        index: Which of its models.
        threads: Threads of every backend.
        folder: Receives the exports.

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
        prepared = prepare(plan, entry, Path(scratch))
        model = prepared.model
        formats, exports = _export_all(prepared, plan.formats, folder)
        samples = agreement.draw_samples(make_data(plan, entry), plan.images)
        judges, errors = open_backends(model, exports, threads)
        backends: dict[str, dict[str, Any]] = {name: {"error": error} for name, error in errors.items()}
        backends |= _compare(judges, samples)
        running = {name: judge for name, judge in judges.items() if backends[name]["error"] is None}
        for name, figures in _time(running, _timed_images(model, samples), plan.batch_sizes).items():
            backends[name] |= figures
    seen_by_engine = agreement.judge_all(engine_judge(model), samples.images)
    return {
        "label": label_of(entry),
        "variant": entry.variant,
        "class_path": entry.class_path,
        "arguments": entry.init_args,
        "error": None,
        "image_size": list(resize_like_engine(model, torch.from_numpy(samples.images[0])).shape[-2:]),
        "images": len(samples.images),
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "formats": formats,
        "backends": {name: backends[name] for name in (*judges, *errors)},
        "engine": agreement.differences(
            agreement.judge_all(judges[EAGER], samples.images), seen_by_engine
        ) | {"image_auroc": agreement.image_auroc(seen_by_engine, samples.labels)},
    }  # fmt: skip


def _export_all(
    prepared: Prepared, wanted: Sequence[str], folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Exported]]:
    records: dict[str, dict[str, Any]] = {}
    exports = {}
    for name in wanted:
        exported, error = attempt(partial(export, prepared, FORMATS[name], folder / name.replace(" ", "_").lower()))
        records[name] = {"error": error}
        if exported is not None:
            exports[name] = exported
            records[name] |= {"mib": exported.size / MIB, "seconds": exported.seconds, "path": str(exported.path)}
    return records, exports


def _compare(judges: Mapping[str, Judge], samples: agreement.Samples) -> dict[str, dict[str, Any]]:
    reference = agreement.judge_all(judges[EAGER], samples.images)
    records: dict[str, dict[str, Any]] = {}
    for name, judge in judges.items():
        judgement, error = attempt(partial(agreement.judge_all, judge, samples.images))
        records[name] = {"error": error}
        if judgement is not None:
            records[name] |= agreement.differences(judgement, reference)
            records[name]["image_auroc"] = agreement.image_auroc(judgement, samples.labels)
    return records


def _timed_images(model: Any, samples: agreement.Samples) -> Images:
    """Test images at the size that the model works on, so that the time is the network's."""
    resized = [resize_like_engine(model, torch.from_numpy(image)) for image in samples.images]
    return torch.cat(resized).numpy()


def _time(judges: Mapping[str, Judge], images: Images, batch_sizes: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {name: {"latency_ms": {}, "speed_up": {}} for name in judges}
    for size in batch_sizes:
        batch = np.ascontiguousarray(np.resize(images, (size, *images.shape[1:])))
        seconds = seconds_in_turns({name: partial(judge, batch) for name, judge in judges.items()})
        for name, values in seconds.items():
            pairs = zip(seconds[EAGER], values, strict=True)
            records[name]["latency_ms"][str(size)] = 1000 * median(values)
            records[name]["speed_up"][str(size)] = median(eager / own for eager, own in pairs)
    return records
