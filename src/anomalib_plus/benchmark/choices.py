"""Changes to a sweep by options of the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from anomalib_plus.benchmark.folders import find_categories, folder_titles, subfolders
from anomalib_plus.benchmark.plan import Budget, DataEntry, Sweep, label_of
from anomalib_plus.benchmark.schema import PlanError, read

if TYPE_CHECKING:  # it imports anomalib
    from anomalib_plus.benchmark.exports.plan import DeploymentPlan

Plan = TypeVar("Plan", Sweep, "DeploymentPlan")


def with_roots(sweep: Sweep, roots: Sequence[Path], categories: Sequence[str] | None = None) -> Sweep:
    """Return the sweep on other folders: each data set from each root, labelled with the folder's name.

    Equal names get their parents' names in front. Without ``roots``, the sweep's own folders are used; without
    ``categories``, the sweep's own ones, or all in a root. A folder or category that does not exist is a PlanError.
    """
    for root in roots:
        if not root.is_dir():
            msg = f"There is no folder {root}: give a folder of categories in MVTec layout."
            raise PlanError(msg)
    if roots:
        moved = [
            replace(data, init_args=data.init_args | {"root": str(root)}, label=title)
            for data in sweep.data
            for root, title in zip(roots, folder_titles(roots), strict=True)
        ]
        # Data sets that differ in their folders only are now equal.
        sweep = replace(sweep, data=tuple(one for n, one in enumerate(moved) if one not in moved[:n]))
    return sweep if categories is None else _with_categories(sweep, categories)


def _with_categories(sweep: Sweep, names: Sequence[str]) -> Sweep:
    known = [_known_categories(data) for data in sweep.data]
    unknown = [name for name in names if not any(name in there for there in known)]
    if unknown and all(map(_root, sweep.data)):
        listing = ", ".join(dict.fromkeys(name for there in known for name in there)) or "none"
        msg = f"There is no category {', '.join(unknown)}; available: {listing}."
        raise PlanError(msg)
    entries = []
    for data, there in zip(sweep.data, known, strict=True):
        others = [] if _root(data) else unknown  # without a folder, only the datamodule knows its categories
        taken = tuple(there.get(name, name) for name in names if name in there or name in others)
        entries.append(replace(data, categories=taken))
    return replace(sweep, data=tuple(entries))


def _known_categories(data: DataEntry) -> dict[str, str | int]:
    """Categories by name: the folders below the root, or the sweep's list where categories are not folders."""
    root = _root(data)
    if root is None or not root.is_dir() or data.category_argument != "category":
        return {str(category): category for category in data.categories or ()}
    return {name: name for name in find_categories(root) or subfolders(root)}


def _root(data: DataEntry) -> Path | None:
    root = data.init_args.get("root")
    return None if root is None else Path(root)


def with_models(plan: Plan, labels: Sequence[str]) -> Plan:
    """Return a sweep or deployment plan with only the models of these labels; an unknown label is a PlanError."""
    known = {label_of(model).lower() for model in plan.models}
    wanted = {label.lower() for label in labels}
    if wanted - known:
        msg = f"There is no model {', '.join(sorted(wanted - known))}; available: {', '.join(sorted(known))}."
        raise PlanError(msg)
    return replace(plan, models=tuple(model for model in plan.models if label_of(model).lower() in wanted))


def with_budget(plan: Plan, changes: Mapping[str, float | int]) -> Plan:
    """Return a sweep or deployment plan with another budget for all models."""
    budget = read(Budget, dict(changes), "budget")
    return replace(plan, budget=budget, models=tuple(replace(model, budget=None) for model in plan.models))
