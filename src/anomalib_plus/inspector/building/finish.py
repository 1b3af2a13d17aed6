"""Train, calibrate and export the chosen model: python -m anomalib_plus.inspector.building.finish FOLDER.

FOLDER contains task.json; the bundle is written to FOLDER/bundle and record.json to FOLDER. A process of its
own keeps the memory of the training, and its crashes, away from the build.
"""

import argparse
import json
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from anomalib_plus.benchmark.plan import Budget, ModelEntry
from anomalib_plus.benchmark.process import SUPERVISED, ModuleProcess, end_with_parent
from anomalib_plus.benchmark.record import plain
from anomalib_plus.files import replace_file
from anomalib_plus.inspector import BundleInfo, Inspector, write_bundle_info
from anomalib_plus.inspector.building.datamodule import FILE as SPLITS
from anomalib_plus.inspector.inspection import brightness, read_pixels

MODULE = "anomalib_plus.inspector.building.finish"
TASK, RECORD, BUNDLE = "task.json", "record.json", "bundle"
CHECKPOINT = "model.ckpt"
_THRESHOLD = 0.5
_MAP_SIDE = 256
_TOLERANCE = 1e-3
"""Largest accepted difference of normalised scores between the model and its export."""


class ExportDiffersError(RuntimeError):
    """Error for an export that decides otherwise than its model."""


def finish_in_process(
    folder: Path,
    entry: ModelEntry,
    data: Mapping[str, Any],
    budget: Budget,
    options: Mapping[str, Any],
    timeout_seconds: float,
    begin: Callable[[], object],
) -> dict[str, Any]:
    """Finish a model in a process of its own; return its record, with ``error`` None or a sentence.

    A record of the same task, left by a build that was killed later, is used again.

    Args:
        folder: Folder for the task, the record and the bundle.
        entry: The chosen candidate.
        data: Arguments of :class:`.SplitData`.
        budget: Limits of the training.
        options: ``image_size``, ``false_alarms``, ``roi``, ``format``, ``seed``, ``threads``, and in ``info`` what is
            known of the bundle's description.
        timeout_seconds: Time after which the process is ended.
        begin: Called before a process is started, not if a record is used again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    limits = asdict(entry.budget or budget)
    task = json.dumps({"entry": asdict(entry), "data": data, "budget": limits, **options}, indent=1, default=str)
    known = folder / TASK
    if known.exists() and known.read_text(encoding="utf-8") == task and (folder / RECORD).exists():
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["error"] is None and (folder / BUNDLE).is_dir():
            return record
    (folder / RECORD).unlink(missing_ok=True)
    replace_file(known, task)
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    begin()
    process = ModuleProcess(MODULE, [str(folder)], log, timeout_seconds)
    process.wait()
    if not (folder / RECORD).exists():
        return {"error": f"{process.failure()[1]} The log is {log}."}
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


def finish(task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train, calibrate, export, and score the held-out images with the export.

    Raises:
        ExportDiffersError: If the export's decisions differ from the model's.
        FloatingPointError: If the export gives NaN or infinity.
    """
    import torch

    from anomalib_plus import register
    from anomalib_plus.benchmark.exports.measure import forget_sources_of_weights
    from anomalib_plus.benchmark.offline_weights import offer_lite_weights

    register()
    torch.set_num_threads(task["threads"])
    offer_lite_weights()
    splits = json.loads((Path(task["data"]["root"]) / SPLITS).read_text(encoding="utf-8"))
    with TemporaryDirectory() as scratch:
        trained = _train(task, Path(scratch))
        forget_sources_of_weights(trained.model)
        bundle = folder / BUNDLE
        shutil.rmtree(bundle, ignore_errors=True)
        bundle.mkdir()
        trained.engine.trainer.save_checkpoint(bundle / CHECKPOINT)
        expected = _engine_scores(trained.model, [entry["image"] for entry in splits["calibration"]])
        _export(trained, task["format"], bundle, Path(scratch))
    if task["roi"]:
        shutil.copyfile(task["roi"], bundle / "roi.png")
    found = _score_with_export(task, bundle, splits)
    difference = check_decisions(expected, found["scores"]["calibration"])
    return {
        "error": None,
        "seconds": trained.seconds,
        "epochs": trained.engine.trainer.current_epoch,
        "steps": trained.engine.trainer.global_step,
        "difference": difference,
        **found,
    }


def _train(task: Mapping[str, Any], scratch: Path) -> Any:
    """Train and calibrate: the post-processor has its threshold from the last validation, on the calibration images.

    Their loader is passed by itself. A model that adapts to the datamodule's validation images, as EfficientAd does,
    must not see them.
    """
    from anomalib_plus.benchmark.training import build_and_fit, trainer_arguments
    from anomalib_plus.post_processing import ConformalPostProcessor

    entry = task["entry"]
    limits = trainer_arguments(task["budget"]) | {"accelerator": "auto", "devices": 1} | entry["trainer"]
    trained = build_and_fit(
        {"class_path": entry["class_path"], "arguments": entry["init_args"]},
        {
            "class_path": "anomalib_plus.inspector.building.datamodule.SplitData",
            "arguments": {**task["data"], "use": "finish", **entry["data"]},
        },
        tuple(task["image_size"]),
        ConformalPostProcessor(false_positive_rate=task["false_alarms"], roi=task["roi"]),
        limits | {"limit_val_batches": 1.0},
        task["seed"],
        scratch,
    )
    trained.engine.trainer.validate(trained.model, trained.datamodule.test_dataloader(), verbose=False)
    trained.model.cpu()
    return trained


def _export(trained: Any, form: str, bundle: Path, scratch: Path) -> None:
    """Export, with the engine's resizing for anomalib's own models too, and move the files to the bundle."""
    from anomalib_plus.deployment.exporting import ExportMixin
    from anomalib_plus.deployment.resizing import AntialiasedPreProcessor

    model = trained.model
    if not isinstance(model, ExportMixin):
        model.pre_processor = AntialiasedPreProcessor(model.pre_processor.transform)
    path = trained.engine.export(model, form, export_root=scratch / "export")
    for file in Path(path).parent.iterdir():
        if file.suffix in {".xml", ".bin", ".onnx", ".data", ".pt"}:
            shutil.move(file, bundle / file.name)


def _engine_scores(model: Any, images: Sequence[str]) -> list[float]:
    """Score images as anomalib's engine does, from which the post-processor has its threshold."""
    from anomalib.data.utils import read_image

    from anomalib_plus.benchmark.exports.backends import engine_backend

    predict = engine_backend(model.eval())
    return [float(predict(read_image(image, as_tensor=True)[None].numpy())["pred_score"].item()) for image in images]


def _score_with_export(task: Mapping[str, Any], bundle: Path, splits: Mapping[str, Any]) -> dict[str, Any]:
    """Write the bundle's description and score the held-out images with the export."""
    from anomalib_plus.post_processing.conformal_math import conformal_threshold

    unfinished = BundleInfo(calibration_scores=[0.0], **task["info"])
    write_bundle_info(bundle, unfinished)  # the scores follow: only the export itself can give them
    scores, milliseconds = score_splits(Inspector.load(bundle), splits, bundle.parent / "maps")
    _, parts = np.unique([entry["part"] for entry in splits["calibration"]], return_inverse=True)
    threshold = conformal_threshold(scores["calibration"], task["false_alarms"], parts)
    info = BundleInfo(
        **task["info"],
        calibration_scores=scores["calibration"],
        calibration_parts=parts.tolist(),
        calibration_brightness=[brightness(read_pixels(Path(entry["image"]))) for entry in splits["calibration"]],
        threshold=threshold,
    )
    write_bundle_info(bundle, info)
    return {"scores": scores, "threshold": threshold, "latency_ms": milliseconds}


def score_splits(inspector: Inspector, splits: Mapping[str, Any], maps: Path) -> tuple[dict[str, list[float]], float]:
    """Score the held-out images one by one and write their maps, reduced, to the folder ``maps``.

    Returns:
        The scores of each split, and the median time for an image in milliseconds.

    Raises:
        FloatingPointError: If the score or the map of an image is NaN or infinite.
    """
    scores: dict[str, list[float]] = {}
    times: list[float] = []
    shutil.rmtree(maps, ignore_errors=True)
    maps.mkdir()
    for split in ("calibration", "originals", "selection"):
        scores[split] = []
        for number, entry in enumerate(splits[split]):
            began = time.perf_counter()
            prediction = inspector(Path(entry["image"]))
            times.append(time.perf_counter() - began)
            if not (math.isfinite(prediction.score) and np.isfinite(prediction.map).all()):
                msg = (
                    f"The export gives NaN or infinity for {entry['image']} (score {prediction.score}). Use another "
                    "--format, or another model (--models)."
                )
                raise FloatingPointError(msg)
            scores[split].append(prediction.score)
            np.save(maps / f"{split}_{number:04d}.npy", _small(prediction.map))
    return scores, 1000 * float(np.median(times))


def _small(anomaly_map: Any) -> Any:
    """Reduce a map of an image's size; the report shows no more."""
    from PIL import Image

    image = Image.fromarray(anomaly_map.astype(np.float32))
    image.thumbnail((_MAP_SIDE, _MAP_SIDE), Image.Resampling.BOX)
    return np.asarray(image, np.float16)


def check_decisions(expected: Sequence[float], found: Sequence[float]) -> float:
    """Compare the normalised scores of the model and of its export; return their largest difference.

    The model's threshold, 0.5, is the score of a calibration image, so a difference within the tolerance there is no
    other decision.

    Raises:
        ExportDiffersError: If a decision differs, or a score is not finite.
    """
    pairs = list(zip(expected, found, strict=True))
    difference = max((abs(one - other) for one, other in pairs), key=lambda value: (math.isnan(value), value))
    changed = [
        (one, other)
        for one, other in pairs
        if (one > _THRESHOLD) != (other > _THRESHOLD) and abs(one - other) > _TOLERANCE
    ]
    if changed or not math.isfinite(difference):
        msg = (
            f"The export decides otherwise than the model on {len(changed)} of {len(pairs)} calibration images; their "
            f"scores differ by up to {difference:.2g}. Use another --format, or another model (--models)."
        )
        raise ExportDiffersError(msg)
    return difference


def main(arguments: Sequence[str] | None = None) -> int:
    """Finish the model of a task and write its record, or its error."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("folder", type=Path, help=f"folder with {TASK}")
    parser.add_argument(SUPERVISED, action="store_true", help="end when standard input is closed")
    options = parser.parse_args(arguments)
    if options.supervised:
        end_with_parent()
    os.environ["TRUST_REMOTE_CODE"] = "1"  # anomalib's loader of torch exports asks for it; the file is our own
    task = json.loads((options.folder / TASK).read_text(encoding="utf-8"))
    try:
        record = finish(task, options.folder)
    except Exception as error:
        traceback.print_exc()
        record = {"error": f"{type(error).__name__}: {error}"}
    replace_file(options.folder / RECORD, json.dumps(plain(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
