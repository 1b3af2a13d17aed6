"""Build the model of a plan and train it with anomalib's engine."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from lightning.pytorch import seed_everything
from torch import nn

from anomalib_plus.benchmark.exports.plan import DeploymentPlan
from anomalib_plus.benchmark.plan import ModelEntry
from anomalib_plus.benchmark.training import load_class, trainer_arguments


class Prepared(NamedTuple):
    """A model in evaluation mode, ready to export."""

    model: Any
    datamodule: Any
    engine: Engine


def make_data(plan: DeploymentPlan, entry: ModelEntry) -> Any:
    """Data of the plan as a model of it needs them. An engine that they go through makes them resize their images."""
    return load_class(plan.data.class_path, AnomalibDataModule)(**(plan.data.init_args | entry.data))


def prepare(plan: DeploymentPlan, entry: ModelEntry, folder: Path) -> Prepared:
    """Seed everything, build, fit and, if the plan says so, set thresholds and ranges.

    Args:
        plan: The plan.
        entry: The model of it.
        folder: Scratch folder of the engine.
    """
    seed_everything(plan.seed, workers=True, verbose=False)
    datamodule = make_data(plan, entry)
    kind = load_class(entry.class_path, AnomalibModule)
    model = kind(
        **entry.init_args,
        pre_processor=kind.configure_pre_processor(plan.image_size) if plan.image_size else True,
        post_processor=True if plan.normalize else PostProcessor(enable_normalization=False),
        evaluator=False,
        visualizer=False,
    )
    datamodule.prepare_data()
    limits = trainer_arguments(asdict(entry.budget or plan.budget))
    if plan.normalize:
        limits["limit_val_batches"] = 1.0
    engine = Engine(default_root_dir=folder, **(limits | {"accelerator": "cpu"} | plan.trainer | entry.trainer))
    engine.fit(model=model, datamodule=datamodule)
    engine.trainer.validate(model, datamodule=datamodule, verbose=False)
    forget_sources_of_weights(model)
    return Prepared(model.cpu().eval(), datamodule, engine)


def forget_sources_of_weights(model: nn.Module) -> None:
    """Drop the pre-trained state dicts that timm's networks keep, or an export to torch holds those weights twice."""
    for module in model.modules():
        (getattr(module, "pretrained_cfg", None) or {}).pop("state_dict", None)
