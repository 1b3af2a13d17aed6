"""Records of finished jobs: the lines of ``results.jsonl``."""

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from platform import python_version
from typing import Any, Literal

from anomalib_plus import __version__
from anomalib_plus.benchmark.plan import Job, digest
from anomalib_plus.benchmark.protocol import METRICS, Protocol
from anomalib_plus.benchmark.schema import read

FORMAT = 1
COSTS = (
    "fit_seconds",
    "epochs",
    "steps",
    "parameters",
    "trainable_parameters",
    "gmacs",
    "latency_ms_batch1",
    "latency_ms_batch",
    "batch",
    "throughput_images_per_second",
    "peak_memory_mib",
)
CURVES = ("roc_image", "roc_pixel", "pro")
LIBRARIES = ("anomalib", "torch", "lightning", "timm", "kornia")

FailureKind = Literal["crash", "exception", "out_of_memory", "timeout"]


def now() -> str:
    """Current time, UTC, in ISO format to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def new_record(job: Job, started: str) -> dict[str, Any]:
    """Create a record with all keys; values that a training gives are null or empty."""
    return {
        "format": FORMAT,
        "job_id": job.job_id,
        "status": "ok",
        "error": None,
        "model": {**job.model, "no_model": False},
        "data": {**job.data, "train_images": None, "test_images": None},
        "seed": job.seed,
        "budget": dict(job.budget),
        "trainer": dict(job.trainer),
        "protocol": protocol_of(job).as_record(),
        "environment": {
            **{name: package_version(name) for name in LIBRARIES},
            "anomalib_plus": __version__,
            "python": python_version(),
            "device": None,
            "threads": None,
            "git_commit": None,
            "weights_sha256": {},
            "config_sha256": digest([job.model, job.data, job.seed, job.budget, job.protocol, job.trainer]),
        },
        "metrics": dict.fromkeys(METRICS),
        "validation_metrics": {},
        "costs": dict.fromkeys(COSTS),
        "curves": dict.fromkeys(CURVES),
        "training": [],
        "scores": {"values": [], "labels": [], "paths": []},
        "threshold": {"value": None, "source": None},
        "gallery": [],
        "started": started,
        "finished": now(),
    }


def failed(record: dict[str, Any], kind: FailureKind, message: str, traceback: str | None = None) -> dict[str, Any]:
    """Turn a record into that of a failed job, as plain data."""
    error = {"kind": kind, "message": message, "traceback": traceback}
    return plain({**record, "status": "failed", "error": error, "finished": now()})


def failure_text(record: Mapping[str, Any] | None) -> str:
    """Describe the failure of a job in one line, by its record if it has left one."""
    error = (record or {}).get("error") or {}
    return f"{error.get('kind')}: {str(error.get('message')).splitlines()[0]}"


def seconds(record: Mapping[str, Any]) -> float:
    """Return the duration of a finished job from its record."""
    started, finished = (datetime.fromisoformat(record[name]) for name in ("started", "finished"))
    return (finished - started).total_seconds()


def protocol_of(job: Job) -> Protocol:
    """Return the job's protocol as an object."""
    return read(Protocol, job.protocol, "protocol")


def package_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def plain(value: Any) -> Any:
    """Convert nested data for JSON: NaN and infinity to null, numpy's numbers to Python's, tuples to lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
