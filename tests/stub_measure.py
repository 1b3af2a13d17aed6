"""Stands in for the measurement of a model in tests of ``anomalib-plus deployment``: a made-up record, or a failure.

The model's label says which: "Raises", "Dies", "Sleeps", and everything else is measured.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from anomalib_plus.benchmark.exports.plan import DeploymentPlan


def figures(error: str | None = None, **values: Any) -> dict[str, Any]:
    return {"error": error, **values}


def measured(plan: DeploymentPlan, index: int, threads: int, folder: Path) -> dict[str, Any]:
    entry = plan.models[index]
    if entry.label == "Raises":
        msg = "no such network\nand more"
        raise ValueError(msg)
    same = {"score_difference": 0.0, "map_difference": 0.0, "decisions_changed": 0, "image_auroc": 0.9}
    times = {"latency_ms": {"1": 30.0, "8": 200.0}, "speed_up": {"1": 1.0, "8": 1.0}}
    faster = {"latency_ms": {"1": 10.0, "8": 100.0}, "speed_up": {"1": 3.0, "8": 2.0}}
    return {
        "label": entry.label,
        "variant": entry.variant,
        "class_path": entry.class_path,
        "arguments": entry.init_args,
        "error": None,
        "image_size": list(plan.image_size or (256, 256)),
        "images": 7,
        "parameters": 1_500_000,
        "formats": {"ONNX": figures(mib=6.25, seconds=1.0, path="x"), "OpenVINO INT8": figures("RuntimeError: no")},
        "backends": {
            "eager": figures(**same, **times),
            "ONNX Runtime": figures(**(same | {"score_difference": 2e-5, "image_auroc": 0.895}), **faster),
            "torch.compile": figures("RuntimeError: no compiler"),
        },
        "engine": same,
    }


if __name__ == "__main__":
    task = json.loads(Path(sys.argv[1], "task.json").read_text())
    label = task["plan"]["models"][task["index"]]["label"]
    print("said there", flush=True)
    if label == "Dies":
        os.abort()
    if label == "Sleeps":
        time.sleep(60)

    from anomalib_plus.benchmark.exports import measure  # takes seconds, which the above need not wait for

    measure.measure = measured
    sys.exit(measure.main())
