"""The data of the stage that a trainer runs."""

from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.combined_loader import CombinedLoader


def datamodule_of_stage(trainer: Trainer) -> LightningDataModule | None:
    """The datamodule that this stage was given, None if it was given data loaders.

    ``trainer.datamodule`` is not enough: Lightning leaves there the datamodule of an earlier stage.
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
    """The data set of each loader in a collection that Lightning takes; None for iterables that are no loaders."""
    flattened = [] if loaders is None else CombinedLoader(loaders).flattened
    return [getattr(loader, "dataset", None) for loader in flattened]
