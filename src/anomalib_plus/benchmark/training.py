"""Build the model and the data of a job and train with anomalib's engine."""

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
from anomalib_plus.training.kept_images import KeepImages
from anomalib_plus.validation import SyntheticValidation

_NEVER = 10**9


@dataclass
class Trained:
    """Trained model in evaluation mode with its data, and the losses of its training."""

    model: Any
    datamodule: Any
    engine: Engine
    device: torch.device
    seconds: float
    history: list[dict[str, float]]


class TrainingHistory(Callback):
    """Callback that keeps the values that the model logged in each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Read the epoch's values."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.endswith("_step")}
        named = {name.removesuffix("_epoch"): value for name, value in logged.items()}
        self.epochs.append({"epoch": trainer.current_epoch, **named})


def load_class(class_path: str, base: type) -> Any:
    """Import a subclass of ``base`` by its path; a sweep cannot call anything else.

    Raises:
        ImportError: If there is no such module or class, or it is not a subclass.
    """
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (AttributeError, ValueError) as error:
        msg = f"There is no class {class_path!r}: class_path must be MODULE.CLASS."
        raise ImportError(msg) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        msg = f"{class_path!r} is not a subclass of {base.__name__}."
        raise ImportError(msg)
    return found


def train(job: Job, folder: Path) -> Trained:
    """Train the model of a job; ``folder`` is the engine's scratch folder.

    A benchmark needs no post-processor and no evaluator. Validation is one batch after the fit, which some models need
    to complete their training.
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

    ``model`` and ``data`` have a ``class_path`` and ``arguments``, ``data`` perhaps also ``synthetic_validation``;
    ``image_size`` None is the model's default. ``folder`` is the engine's scratch folder.
    """
    seed_everything(seed, workers=True, verbose=False)
    datamodule = load_class(data["class_path"], AnomalibDataModule)(**data["arguments"])
    if (validation := data.get("synthetic_validation")) is not None:
        datamodule = SyntheticValidation(datamodule, **{"seed": seed, **validation})
    kind = load_class(model["class_path"], AnomalibModule)
    built = kind(
        **model["arguments"],
        pre_processor=kind.configure_pre_processor(image_size) if image_size else True,
        post_processor=post_processor,
        evaluator=False,
        visualizer=False,
    )
    datamodule.prepare_data()  # not part of the training time
    history = TrainingHistory()
    callbacks = [*trainer["callbacks"], history, KeepImages()]  # for anomalib's models too
    engine = Engine(default_root_dir=folder, **{**trainer, "callbacks": callbacks})
    started = time.perf_counter()
    engine.fit(model=built, datamodule=datamodule)
    engine.trainer.validate(built, datamodule=datamodule, verbose=False)
    seconds = time.perf_counter() - started
    device = engine.trainer.strategy.root_device
    return Trained(built.to(device).eval(), datamodule, engine, device, seconds, history.epochs)


def trainer_arguments(budget: dict[str, Any]) -> dict[str, Any]:
    """Return trainer arguments for a budget: quiet, without loggers, and one batch of validation on request."""
    is_timed = budget["max_seconds"] is not None or budget["max_cpu_seconds"] is not None
    # EfficientAd does not train without a finite number of epochs or steps; schedules follow the tightest limit.
    epochs = _NEVER if is_timed and budget["max_epochs"] is None else budget["max_epochs"]
    limits: dict[str, Any] = {"max_epochs": epochs, "max_steps": budget["max_steps"] or -1}
    if budget["max_seconds"] is not None:
        limits["max_time"] = timedelta(seconds=budget["max_seconds"])
    timers = [] if budget["max_cpu_seconds"] is None else [ProcessorTimer(budget["max_cpu_seconds"])]
    return {
        **limits,
        "callbacks": [ModelCheckpoint(save_top_k=0), *timers],  # writing checkpoints takes time
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 1,
        "check_val_every_n_epoch": _NEVER,
    }
