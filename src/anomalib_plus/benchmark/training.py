"""Build model and data of a job and train them with anomalib's engine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.processor_timer import ProcessorTimer

_NEVER = 10**9


@dataclass
class Trained:
    """A trained model in evaluation mode with its data, and records of its training."""

    model: Any
    datamodule: Any
    engine: Engine
    device: torch.device
    seconds: float
    history: list[dict[str, float]]


class TrainingHistory(Callback):
    """Keeps what the model logged for each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Read the epoch's values, once an epoch."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.endswith("_step")}
        named = {name.removesuffix("_epoch"): value for name, value in logged.items()}
        self.epochs.append({"epoch": trainer.current_epoch, **named})


def load_class(class_path: str, base: type) -> Any:
    """Import a class by its path; a sweep cannot make anything else run.

    Raises:
        ImportError: If there is no such module or class, or the class is not derived from ``base``.
    """
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (AttributeError, ValueError) as error:
        msg = f"There is no class {class_path!r}."
        raise ImportError(msg) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        msg = f"{class_path!r} is no {base.__name__}."
        raise ImportError(msg)
    return found


def train(job: Job, folder: Path) -> Trained:
    """Seed everything, build, fit.

    A benchmark needs no thresholds, so there is no post-processor, no evaluator, and validation is one batch after the
    fit, which some models use to finish their training.

    Args:
        job: Model, data, seed, budget and size of the images.
        folder: Scratch folder of the engine.
    """
    arguments = trainer_arguments(job.budget) | job.trainer
    return build_and_fit(job.model, job.data, tuple(job.protocol["image_size"]), False, arguments, job.seed, folder)


def build_and_fit(
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    image_size: tuple[int, int] | None,
    post_processor: PostProcessor | bool,
    trainer: Mapping[str, Any],
    seed: int,
    folder: Path,
) -> Trained:
    """Seed everything, build model and data, fit and validate.

    Args:
        model: Its ``class_path`` and ``arguments``.
        data: Likewise, of the datamodule.
        image_size: Height and width that the model works on; None for its own.
        post_processor: Component of the model.
        trainer: Arguments of the trainer.
        seed: Of everything.
        folder: Scratch folder of the engine.
    """
    seed_everything(seed, workers=True, verbose=False)
    datamodule = load_class(data["class_path"], AnomalibDataModule)(**data["arguments"])
    kind = load_class(model["class_path"], AnomalibModule)
    built = kind(
        **model["arguments"],
        pre_processor=kind.configure_pre_processor(image_size) if image_size else True,
        post_processor=post_processor,
        evaluator=False,
        visualizer=False,
    )
    datamodule.prepare_data()  # its time is no part of the fit's
    history = TrainingHistory()
    engine = Engine(default_root_dir=folder, **{**trainer, "callbacks": [*trainer["callbacks"], history]})
    started = time.perf_counter()
    engine.fit(model=built, datamodule=datamodule)
    engine.trainer.validate(built, datamodule=datamodule, verbose=False)
    seconds = time.perf_counter() - started
    device = engine.trainer.strategy.root_device
    return Trained(built.to(device).eval(), datamodule, engine, device, seconds, history.epochs)


def trainer_arguments(budget: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a trainer that ends by the budget, prints nothing and validates one batch, when it is told to."""
    limits = {"max_epochs": budget["max_epochs"], "max_steps": budget["max_steps"] or -1}
    if budget["max_seconds"] is not None:
        limits["max_time"] = timedelta(seconds=budget["max_seconds"])
    timers = [] if budget["max_cpu_seconds"] is None else [ProcessorTimer(budget["max_cpu_seconds"])]
    return {
        **limits,
        "callbacks": [ModelCheckpoint(save_top_k=0), *timers],  # nobody reads a checkpoint, and writing them takes time
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 1,
        "check_val_every_n_epoch": _NEVER,
    }
