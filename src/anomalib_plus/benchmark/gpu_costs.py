"""Speed and memory of models on a GPU: python -m anomalib_plus.benchmark.gpu_costs --config FILE --output FOLDER.

Each model trains and predicts on random images that lie on the device, in float32 and bfloat16, eager and compiled.
Weights are random: speed does not depend on them. A row is written as soon as it is measured.
"""

import argparse
import gc
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from unittest.mock import patch

import timm
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from anomalib_plus.benchmark.costs import latency, peak_memory_mib
from anomalib_plus.benchmark.environment import device_name
from anomalib_plus.benchmark.plan import label_of, load
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.benchmark.training import load_class

_WARM_UP = 5


@dataclass(frozen=True)
class Entry:
    """One model to measure.

    Args:
        class_path: Import path of the class.
        init_args: Its arguments, plain data.
        label: Its name in the table; the name of the class by default.
        batch: Images in a batch.
        image_size: Height and width; None for the model's default.
        training: Time its training, only run it once (memory banks), or leave it out.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    batch: int = 16
    image_size: tuple[int, int] | None = None
    training: Literal["timed", "once", "none"] = "timed"


@dataclass(frozen=True)
class Plan:
    """Content of the configuration file.

    Args:
        models: The models.
        precisions: Precisions of Lightning's trainer.
        compiled: False for the networks as they are, True for compiled ones; both by default.
        steps: Training steps that are timed, after five others.
        profiled: Number of models, the slowest to train, whose time is listed by operation.
    """

    models: tuple[Entry, ...]
    precisions: tuple[str, ...] = ("32-true", "bf16-mixed")
    compiled: tuple[bool, ...] = (False, True)
    steps: int = 20
    profiled: int = 2


class _StepTimer(Callback):
    """Clock, read when the device has done the last warm-up step and the last step."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device, self.read_after = device, {_WARM_UP - 1, _WARM_UP + steps - 1}
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ARG002
        """Read the clock."""
        if trainer.fit_loop.total_batch_idx in self.read_after:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.times.append(time.perf_counter())


def _build(entry: Entry, compiled: bool) -> Any:
    kind = load_class(entry.class_path, AnomalibModule)
    components = {"post_processor": False, "evaluator": False, "visualizer": False}
    create = timm.create_model
    with patch.object(timm, "create_model", lambda *names, **given: create(*names, **{**given, "pretrained": False})):
        pre_processor = kind.configure_pre_processor(entry.image_size) if entry.image_size else True
        model = kind(**entry.init_args, pre_processor=pre_processor, **components)
    if compiled:
        model.model = torch.compile(model.model)
    return model


def _image_size(model: Any, entry: Entry) -> tuple[int, int]:
    if entry.image_size:
        return entry.image_size
    size = getattr(getattr(model.pre_processor, "transform", None), "size", None)
    if not size:
        msg = f"{entry.class_path} does not tell its image size: give image_size in the configuration."
        raise PlanError(msg)
    return tuple(size)


def _fit(model: Any, images: torch.Tensor, precision: str, steps: int) -> float:
    """Train on one batch; return the seconds of the timed steps."""
    timer = _StepTimer(images.device, steps)
    with TemporaryDirectory() as folder:
        engine = Engine(
            accelerator="gpu" if images.is_cuda else "cpu",
            devices=1,
            precision=precision,
            max_epochs=1,
            logger=False,
            callbacks=[timer],
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches: Any = [ImageBatch(image=images)] * (_WARM_UP + steps)  # on the device: nothing is read or copied
        engine.fit(model, train_dataloaders=DataLoader(batches, batch_size=None))
    started, ended = timer.times
    return ended - started


def measure(entry: Entry, precision: str, compiled: bool, steps: int, device: torch.device) -> dict[str, Any]:
    """Measure a model; the row has ``error`` if it fails, for example for lack of memory."""
    row: dict[str, Any] = {"model": label_of(entry), "batch": entry.batch}
    row |= {"precision": precision, "compiled": compiled, "device": device_name(device)}
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        model = _build(entry, compiled)
        size = _image_size(model, entry)
        images = torch.rand(entry.batch, 3, *size, device=device)
        row["image_size"] = size
        if entry.training != "none":
            seconds = _fit(model, images, precision, steps if entry.training == "timed" else 1)
            if entry.training == "timed":
                row["training_images_per_second"] = steps * entry.batch / seconds
                row["training_memory_mib"] = peak_memory_mib(device)
        network = model.to(device).eval().model
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
            row["images_per_second"] = entry.batch / latency(network, images)
    except Exception as error:  # one model must not cost the others' rows
        row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        torch.compiler.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return row


def profile(entry: Entry, device: torch.device) -> str:
    """Return the ten operations that take most of a training step, as text."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    model = _build(entry, compiled=False)
    images = torch.rand(entry.batch, 3, *_image_size(model, entry), device=device)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with record(activities=activities) as recorded:
        _fit(model, images, "32-true", 5)
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return recorded.key_averages().table(sort_by=kind, row_limit=10, max_name_column_width=60)


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""

    def cell(row: dict[str, Any], name: str) -> str:
        return f"{row[name]:.0f}" if row.get(name) is not None else ""

    columns = ("training_images_per_second", "training_memory_mib", "images_per_second")
    lines = [
        "| model | images | batch | precision | compiled | training, images/s | peak MiB | prediction, images/s |",
        "|---|---|---:|---|---|---:|---:|---:|",
    ]
    for row in rows:
        values = " | ".join(cell(row, name) for name in columns) if "error" not in row else f"{row['error']} | | "
        size = "x".join(map(str, row.get("image_size", ())))
        compiled = "yes" if row["compiled"] else "no"
        lines.append(f"| {row['model']} | {size} | {row['batch']} | {row['precision']} | {compiled} | {values} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the models of a configuration and print a table."""
    parser = argparse.ArgumentParser(prog="python -m anomalib_plus.benchmark.gpu_costs", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see configs/benchmark/gpu.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder of costs.jsonl, costs.md and profile.txt")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    plan = load(Plan, options.config)
    device = torch.device(options.device)
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for entry, precision, compiled in itertools.product(plan.models, plan.precisions, plan.compiled):
        rows.append(measure(entry, precision, compiled, plan.steps, device))
        with (options.output / "costs.jsonl").open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    table = to_markdown(rows)
    (options.output / "costs.md").write_text(table + "\n")
    timed = {row["model"]: row["training_images_per_second"] for row in reversed(rows) if "training_memory_mib" in row}
    slowest = sorted(timed, key=timed.__getitem__)[: plan.profiled]
    names = {label_of(entry): entry for entry in plan.models}
    listings = [f"{name}\n{profile(names[name], device)}" for name in slowest]
    (options.output / "profile.txt").write_text("\n".join(listings))
    sys.stdout.write("\n".join([*listings, table, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
