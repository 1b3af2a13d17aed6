"""A preset in place of a paper's recipe, for cells that a machine without a GPU can run."""

from dataclasses import replace

from anomalib_plus.benchmark.plan import Budget, Sweep, label_of
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.presets import preset

_BATCH = 8
"""Batch size of the commands in the presets' files."""


def with_preset(sweep: Sweep, name: str) -> Sweep:
    """Return a paper's sweep with the model, image size and training length of a preset; rows keep their arguments.

    Raises:
        PlanError: If there is no such preset.
    """
    try:
        content = preset(name)
    except ValueError as error:
        raise PlanError(str(error)) from error
    trainer = content["trainer"]
    size = content["model"]["init_args"]["pre_processor"]["init_args"]["transform"]["init_args"]["size"]
    return replace(
        sweep,
        models=tuple(
            replace(model, class_path="", preset=name, label=f"{label_of(model)} {name}") for model in sweep.models
        ),
        data=tuple(replace(data, init_args=data.init_args | {"train_batch_size": _BATCH}) for data in sweep.data),
        budget=Budget(trainer.get("max_epochs"), trainer.get("max_steps"), _seconds(trainer.get("max_time"))),
        protocol=replace(sweep.protocol, image_size=tuple(size)),
    )


def _seconds(max_time: str | None) -> float | None:
    """Convert Lightning's days:hours:minutes:seconds."""
    if max_time is None:
        return None
    days, hours, minutes, seconds = map(int, max_time.split(":"))
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds)
