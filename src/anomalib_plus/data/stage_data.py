"""Datamodule and datasets of the stage that a trainer runs."""

from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.combined_loader import CombinedLoader


def datamodule_of_stage(trainer: Trainer) -> LightningDataModule | None:
    """Return the datamodule passed to this stage, or None if data loaders were passed.

    ``trainer.datamodule`` does not tell: Lightning keeps the datamodule of an earlier stage there.
    """
    loops = {
        TrainerFn.FITTING: trainer.fit_loop,
        TrainerFn.VALIDATING: trainer.validate_loop,
        TrainerFn.TESTING: trainer.test_loop,
        TrainerFn.PREDICTING: trainer.predict_loop,
    }
    loop = loops[trainer.state.fn] if trainer.state.fn else None
    source = getattr(getattr(loop, "_data_source", None), "instance", None)
    return source if isinstance(source, LightningDataModule) else None


def datasets_of(loaders: Any) -> list[Any]:
    """List the dataset of each loader in a collection that Lightning accepts; None for iterables without one."""
    flattened = [] if loaders is None else CombinedLoader(loaders).flattened
    return [getattr(loader, "dataset", None) for loader in flattened]
