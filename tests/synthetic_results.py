"""A results folder as the benchmark writes it, drawn instead of measured: seconds to make, every field filled."""

import copy
import hashlib
import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

SIDE = 64


def record(
    label: str = "Fast",
    category: str | None = "bolt",
    seed: int = 0,
    data: str = "Parts",
    quality: float = 1.5,
    variant: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A finished job whose scores separate the classes by ``quality`` standard deviations."""
    identity = json.dumps([label, category, seed, data, variant, changes], sort_keys=True)
    job_id = hashlib.sha256(identity.encode()).hexdigest()[:12]
    rng = np.random.default_rng(int(job_id, 16))
    labels = np.repeat([0, 1], [20, 25])
    scores = rng.normal(labels * quality, 1.0).round(4)
    fpr, tpr, _ = roc_curve(labels, scores)
    auroc = float(roc_auc_score(labels, scores))
    grid = np.linspace(0, 0.3, 40)
    made = {
        "format": 1,
        "job_id": job_id,
        "status": "ok",
        "error": None,
        "model": {"label": label, "class_path": f"package.{label}", "arguments": {}, "variant": variant},
        "data": {
            "label": data,
            "class_path": f"package.{data}",
            "category": category,
            "arguments": {"root": f"/data/{data}", "category": category},
            "train_images": 60,
            "test_images": 45,
        },
        "seed": seed,
        "budget": {"max_epochs": 20, "max_steps": None, "max_seconds": None, "max_cpu_seconds": None},
        "protocol": {
            "image_size": [256, 256],
            "mask_rule": "nearest, > 0.5",
            "metrics": ["image_auroc", "pixel_auroc", "aupro"],
            "aupro_fpr_limit": 0.3,
            "checkpoint": "last epoch",
        },
        "environment": {"anomalib": "2.7.0", "device": "a test", "threads": 2, "weights_sha256": {"net": "abc"}},
        "metrics": {"image_auroc": auroc, "pixel_auroc": 1 - (1 - auroc) / 2, "aupro": auroc * 0.9, "image_ap": None},
        "costs": {
            "fit_seconds": 60 + seed,
            "parameters": 1_250_000,
            "latency_ms_batch1": 4.0 * len(label),
            "gmacs": 2.5,
        },
        "curves": {
            "roc_image": {"x": fpr.round(4).tolist(), "y": tpr.round(4).tolist()},
            "roc_pixel": {"x": np.linspace(0, 1, 50).tolist(), "y": (np.linspace(0, 1, 50) ** 0.2).tolist()},
            "pro": {"x": grid.tolist(), "y": (1 - np.exp(-quality * 12 * grid)).tolist()},
        },
        "training": [
            {"epoch": epoch, "train_loss": float(np.exp(-epoch / 6) + 0.05 * rng.random())} for epoch in range(20)
        ],
        "scores": {"values": scores.tolist(), "labels": labels.tolist(), "paths": [f"{i}.png" for i in range(45)]},
        "threshold": {"value": 0.6, "source": "best F1 on some images"},
        "gallery": [],
        "started": f"2026-01-02T03:0{seed % 10}:00",
        "finished": f"2026-01-02T04:0{seed % 10}:00",
    }
    return merged(made, changes)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the given fields replaced; objects are merged field by field."""
    result = copy.deepcopy(base)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result


def failed(label: str, category: str, seed: int, message: str = "CUDA out of memory") -> dict[str, Any]:
    """A job that died."""
    error = {"kind": "out_of_memory", "message": message, "traceback": f"Traceback\n  line 1\nError: {message}"}
    empty = {"metrics": None, "costs": None, "curves": None, "training": [], "scores": None, "gallery": []}
    return record(label, category, seed) | {"status": "failed", "error": error} | empty


def write_store(folder: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write ``results.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(each) + "\n" for each in records]
    (folder / "results.jsonl").write_text("".join(lines))
    return folder


def write_plan(folder: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write ``plan.json`` with an entry for each of some records."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{name: each[name] for name in ("job_id", "model", "data", "seed")} for each in records]
    (folder / "plan.json").write_text(json.dumps({"jobs": entries}))
    return folder


def add_gallery(made: dict[str, Any], folder: Path, reconstruction: bool = True) -> dict[str, Any]:
    """Draw one picture set of each kind for a record."""
    rng = np.random.default_rng(len(made["model"]["label"]))
    own = folder / "artifacts" / made["job_id"]
    own.mkdir(parents=True, exist_ok=True)
    for kind in ("best", "worst", "random", "worst_good", "random_good"):
        is_good = kind.endswith("good")
        rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
        mask = ((rows - 0.3) ** 2 + (columns - rng.random()) ** 2 < 0.03) & (not is_good)
        good = np.stack([0.5 + 0.2 * np.sin(20 * columns), 0.5 + 0.1 * rows, 0.4 + 0 * rows], axis=-1)
        heat = np.exp(-((rows - 0.3) ** 2 + (columns - 0.4) ** 2) / 0.05)
        pictures = {
            "input": np.where(mask[..., None], 0.1, good),
            "mask": None if is_good else np.repeat(mask[..., None], 3, axis=-1),
            "map": np.stack([heat, 0.3 * heat, 1 - heat], axis=-1),
            "overlay": 0.6 * good + 0.4 * np.stack([heat, 0.3 * heat, 1 - heat], axis=-1),
            "reconstruction": good if reconstruction else None,
        }
        files = {}
        for role, pixels in pictures.items():
            files[role] = None
            if pixels is not None:
                files[role] = f"artifacts/{made['job_id']}/{kind}_{role}.png"
                Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / files[role])
        path = f"test/{'good' if is_good else 'scratch'}/{kind}.png"
        entry = {"kind": kind, "path": path, "score": rng.random(), "label": int(not is_good), "files": files}
        made["gallery"].append(entry)
    return made


def full_store(folder: Path) -> Path:
    """Four models, one of them in two variants, two data sets, three categories, three seeds, failed jobs, pictures."""
    records = []
    models = [
        ("Fast", None),
        ("Careful", None),
        ("Classic", None),
        ("Classic", "loss repaired"),
        ("TeacherStudent", None),
    ]
    for data, categories in (("Parts", ("bolt", "nut", "gasket")), ("Fabrics", ("felt", "linen"))):
        for (number, (label, variant)), category, seed in product(enumerate(models), categories, range(3)):
            made = record(label, category, seed, data, quality=0.7 + 0.6 * number, variant=variant)
            made["costs"]["latency_ms_batch1"] = 3.0 * 1.9**number
            if seed == 0:
                add_gallery(made, folder, reconstruction=label != "TeacherStudent")
            records.append(made)
    lost = next(each for each in records if each["model"]["label"] == "Careful" and each["data"]["category"] == "nut")
    records.remove(lost)
    records.append(failed("Careful", "nut", 0))
    records += [failed("Hopeless", category, 0, "loss is NaN at step 12") for category in ("bolt", "nut", "gasket")]
    return write_store(folder, records)
