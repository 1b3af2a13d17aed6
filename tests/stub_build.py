"""Stands in for the trainings of a build, which it makes in milliseconds: ``stub_build RESULTS JOB_ID`` for a job, and
``stub_build FOLDER`` for the end of a build.

The model's arguments say how it does: ``quality`` (distance of defects from good images), ``latency``, ``gmacs``,
``error``, ``sleep``; ``fails_first`` fails once, ``finish_error`` at the end. Each run appends a line to ``runs.txt``
in the build's folder.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from anomalib_plus.benchmark import job
from anomalib_plus.benchmark.record import failed, new_record, now
from anomalib_plus.files import replace_file


def scores_of(entries, quality):
    """Good images score below 1; defective ones ``quality`` more."""
    noise = np.random.default_rng(len(entries)).uniform(0, 1, len(entries))
    return [float(value + quality * entry["label"]) for value, entry in zip(noise, entries, strict=True)]


def wishes(arguments):
    """Arguments of the stub, also where it is wrapped for tiles."""
    return arguments["model"]["init_args"] if "model" in arguments else arguments


def has_run(root, label):
    file = Path(root) / "runs.txt"
    return file.exists() and f"{label} " in file.read_text()


def note(root, title):
    with (Path(root) / "runs.txt").open("a") as file:
        file.write(f"{title}\n")


def work(description, store, threads=None):
    root, wish = description.data["arguments"]["root"], wishes(description.model["arguments"])
    time.sleep(wish.get("sleep", 0))
    limit = next(filter(None, description.budget.values()))
    label = description.model["label"]
    fails = "error" in wish or ("fails_first" in wish and not has_run(root, label))
    note(root, f"{label} {limit:g}")
    if fails:
        return failed(new_record(description, now()), "exception", wish.get("error", "disk full"))
    entries = json.loads((Path(root) / "splits.json").read_text())["selection"]
    entries = sorted(entries, key=lambda entry: entry["image"])
    record = new_record(description, now())
    record["scores"] = {
        "values": scores_of(entries, wish["quality"]),
        "labels": [entry["label"] for entry in entries],
        "paths": [entry["image"] for entry in entries],
    }
    record["metrics"]["aupro"] = wish.get("aupro")
    record["costs"] |= {"latency_ms_batch1": wish.get("latency", 1.0), "gmacs": wish.get("gmacs", 1.0)}
    record["costs"]["fit_seconds"] = 0.5
    return record


def finish(folder):
    task = json.loads((folder / "task.json").read_text())
    wish, root = wishes(task["entry"]["init_args"]), task["data"]["root"]
    time.sleep(wish.get("sleep", 0))
    note(root, f"finish {task['entry']['label']}")
    if "finish_error" in wish:
        return {"error": wish["finish_error"]}
    from anomalib_plus.inspector.bundle import BundleInfo, write_bundle_info

    splits = json.loads((Path(root) / "splits.json").read_text())
    (folder / "bundle").mkdir(exist_ok=True)
    for name in ("model.xml", "model.bin", "model.ckpt"):
        (folder / "bundle" / name).write_text(task["entry"]["label"])
    (folder / "maps").mkdir(exist_ok=True)
    scores = {share: scores_of(splits[share], wish["quality"]) for share in ("calibration", "originals", "selection")}
    for share, values in scores.items():
        for number in range(len(values)):
            np.save(folder / "maps" / f"{share}_{number:04d}.npy", np.full((8, 8), values[number], np.float16))
    info = BundleInfo(**task["info"], calibration_scores=scores["calibration"], threshold=max(scores["calibration"]))
    write_bundle_info(folder / "bundle", info)
    return {
        "error": None,
        "seconds": 1.0,
        "epochs": 1,
        "steps": 1,
        "difference": 1e-6,
        "scores": scores,
        "threshold": info.threshold,
        "latency_ms": wish.get("latency", 1.0),
    }


if __name__ == "__main__":
    if len([argument for argument in sys.argv[1:] if not argument.startswith("-")]) > 1:
        job.run_job = work
        sys.exit(job.main())
    place = Path(sys.argv[1])
    replace_file(place / "record.json", json.dumps(finish(place)))
