"""Configuration files for anomalib's command line from a paper's recipe, with metrics of raw scores."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from anomalib_plus.benchmark.papers import Cell, category_name
from anomalib_plus.benchmark.plan import Sweep
from anomalib_plus.benchmark.protocol import SIZES
from anomalib_plus.benchmark.schema import PlanError

_IMAGE: dict[str, Any] = {"fields": ["pred_score", "gt_label"], "prefix": "image_"}
_PIXEL: dict[str, Any] = {"fields": ["anomaly_map", "gt_mask"], "prefix": "pixel_", "strict": False}
METRIC_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "image_auroc": ("anomalib.metrics.AUROC", _IMAGE),
    "pixel_auroc": ("anomalib.metrics.AUROC", _PIXEL),
    "pixel_ap": ("anomalib.metrics.AUPR", _PIXEL),
    "aupro": ("anomalib.metrics.AUPRO", _PIXEL),
    "pixel_auroc_per_image": ("anomalib_plus.metrics.PerImageAUROC", {"prefix": "pixel_", "strict": False}),
    **{
        f"image_auroc_{size}": ("anomalib_plus.metrics.SizeSplitAUROC", {"size": size, "strict": False})
        for size in SIZES
    },
}
"""Classes of the benchmark's metrics that anomalib's evaluator takes, with their arguments."""


def choose_training(
    found: Sequence[Cell], row: str | None, categories: Sequence[str] | None
) -> tuple[dict[str, Any], str]:
    """Return the model's arguments and the category of a row.

    If there is only one training, ``row`` may be None or a category; ``categories`` replaces the row's first category.
    A PlanError if the row is unknown or missing, or there are several categories.
    """
    trainings: dict[str, tuple[dict[str, Any], str]] = {}
    for cell in found:
        for name, arguments in cell.variants.items():
            trainings.setdefault(name, (arguments, cell.categories[0]))
    places = {category_name(cell.row) for cell in found if category_name(cell.row) in cell.categories}
    if categories and len(categories) > 1:
        msg = f"--print-config takes one category, got {', '.join(categories)}."
        raise PlanError(msg)
    category = categories[0] if categories else None
    if len(trainings) == 1 and (row is None or category_name(row) in places):
        category = category or (category_name(row) if row else None)
        row = next(iter(trainings))
    for name, (arguments, first) in trainings.items():
        if row is not None and name.lower() == row.lower():
            return arguments, category or first
    problem = "Several trainings are possible" if row is None else f"There is no row {row!r}"
    msg = f"{problem}: choose one by --row, of {', '.join(trainings)}; --data.category NAME chooses the category."
    raise PlanError(msg)


def configuration(sweep: Sweep, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration for ``anomalib train --config`` of a sweep with one model and one category.

    A PlanError if the sweep has a limit that anomalib's command line lacks.
    """
    model, data, budget = sweep.models[0], sweep.data[0], sweep.budget
    if budget.max_cpu_seconds is not None:
        msg = "anomalib's command line has no limit of CPU seconds: use --max-epochs, --max-steps or --max-seconds."
        raise PlanError(msg)
    limits = {"max_epochs": budget.max_epochs, "max_steps": budget.max_steps}
    if budget.max_seconds is not None:
        limits["max_time"] = {"seconds": math.ceil(budget.max_seconds)}  # type: ignore[assignment]
    components = {
        "pre_processor": _component(
            "anomalib.pre_processing.PreProcessor",
            transform=_component(
                "torchvision.transforms.v2.Resize", size=list(sweep.protocol.image_size), antialias=True
            ),
        ),
        "post_processor": _component("anomalib.post_processing.PostProcessor", enable_normalization=False),
        "evaluator": _component(
            "anomalib.metrics.Evaluator",
            test_metrics=[_component(METRIC_CLASSES[name][0], **METRIC_CLASSES[name][1]) for name in recipe["metrics"]],
        ),
    }
    category = {data.category_argument: (data.categories or ())[0]}
    arguments = {name: value for name, value in data.init_args.items() if name != "num_workers"}
    content = {
        "model": _component(model.class_path, **{**recipe["printed_init_args"], **model.init_args, **components}),
        "data": _component(data.class_path, **category, **arguments),
        "trainer": {name: value for name, value in limits.items() if value is not None}
        | {**recipe["printed_trainer"], **sweep.trainer, **model.trainer},
        "seed_everything": sweep.seeds[0],
    }
    return json.loads(json.dumps(content))


def to_yaml(content: Mapping[str, Any], title: str) -> str:
    """Return a configuration as YAML with its title and a warning as comments."""
    return (
        f"# {title}\n"
        "# For ranking by raw scores: labels and masks are meaningless.\n"
        "# For production, add --model.post_processor true.\n"
        + yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None, width=120)
    )


def _component(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}
