"""Any anomalib model on overlapping tiles, as an anomalib model."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor, nn
from torchvision.transforms.v2 import Resize

from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.tiling.torch_model import TiledModel
from anomalib_plus.tiling.training_tiles import draw_tiles
from anomalib_plus.tiling.wrapped import CallbackOfInner, MiddleTile, build_model, describe, without_resizing
from anomalib_plus.training.base_module import BaseModule
from anomalib_plus.training.finite_loss import FiniteLoss

_STATISTICS = ("_image_threshold", "_pixel_threshold", "image_min", "image_max", "pixel_min", "pixel_max")


def _hook_of_inner(name: str) -> Callable[..., None]:
    """Return a method that calls the wrapped model's hook of this name."""

    def hook(self: "Tiled", *args: Any, **kwargs: Any) -> None:
        getattr(self.inner, name)(*args, **kwargs)

    return hook


class Tiled(BaseModule, AnomalibModule):
    """Model that finds small defects in large images: another model, trained on tiles and used on overlapping ones.

    A training step takes ``tile_batch`` tiles from random locations in the batch's images, at least one of each. A
    prediction covers the image with overlapping tiles, calls the network with at most ``tile_batch`` of them, blends
    their maps with a smooth window and takes the largest score. The network's memory follows from ``tile_batch``, not
    from the image.

    The pre-processor of the wrapped model is applied to tiles, without its resizing and cropping. Its post-processor,
    evaluator and visualizer become the wrapper's, unless others are given. The wrapped model belongs to the wrapper
    from then on.

    Args:
        model: An anomalib model, or ``{"class_path": ..., "init_args": {...}}``. Models whose ``test_step`` or
            ``predict_step`` is their own cannot be wrapped.
        tile: Height and width of the tiles in pixels, after ``scale``.
        overlap: Smallest share of a tile that its neighbour repeats, from 0 to below 1.
        scale: Factor of the image's height and width before it is cut: 0.5 halves it, 1 is the camera's resolution.
        tile_batch: Largest number of tiles per call of the network.
        pre_processor: anomalib component for the whole image; none by default. ``Resize`` gives all images one size.
        post_processor: anomalib component; the wrapped model's by default, without its thresholds.
        evaluator: anomalib component; the wrapped model's by default.
        visualizer: anomalib component; the wrapped model's by default.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        TypeError: If ``model`` cannot be wrapped.
    """

    model: TiledModel

    def __init__(
        self,
        model: AnomalibModule | dict[str, Any],
        tile: tuple[int, int] = (256, 256),
        overlap: float = 0.25,
        scale: float = 1.0,
        tile_batch: int = 16,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        _check_arguments(tile, overlap, scale, tile_batch)
        inner = build_model(model)
        super().__init__(
            pre_processor=pre_processor,
            post_processor=_adopted(inner, "post_processor", post_processor),
            evaluator=_adopted(inner, "evaluator", evaluator),
            visualizer=_adopted(inner, "visualizer", visualizer),
        )
        self.hparams["model"] = describe(inner)
        self.is_trained = getattr(inner, "is_trained", bool(getattr(inner, "_is_fitted", False)))
        tile_pre_processor = without_resizing(inner.pre_processor)
        height, width = tile
        self.model = TiledModel(inner, (height, width), overlap, scale, tile_batch, tile_pre_processor)
        inner.post_processor = inner.evaluator = inner.visualizer = None
        inner.pre_processor = PreProcessor(MiddleTile(self.model))

    def save_hyperparameters(self, *args: Any, ignore: Sequence[str] = (), frame: Any = None, **kwargs: Any) -> None:
        """Save all arguments but the model, which is added as plain data."""
        frame = frame or inspect.currentframe().f_back  # type: ignore[union-attr]
        super().save_hyperparameters(*args, ignore=[*ignore, "model"], frame=frame, **kwargs)

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Return a pre-processor for whole images: a resize to ``image_size``, or none."""
        return PreProcessor(Resize(image_size, antialias=True) if image_size else None)

    @property
    def inner(self) -> Any:
        """The wrapped model, with the wrapper's trainer and hook, so that it can log."""
        inner = self.model.inner
        inner._trainer, inner._fabric, inner._current_fx_name = self._trainer, self._fabric, self._current_fx_name
        return inner

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Those of the wrapped model."""
        return self.inner.trainer_arguments

    @property
    def learning_type(self) -> LearningType:
        """That of the wrapped model."""
        return self.inner.learning_type

    @property
    def automatic_optimization(self) -> bool:
        """False if the wrapped model calls its optimizers itself."""
        return self.inner.automatic_optimization

    @property
    def early_stopping_effect(self) -> str:  # type: ignore[override]
        """Effect of early stopping on the wrapped model's method, for a warning."""
        return getattr(self.inner, "early_stopping_effect", "")

    @property
    def loss_terms(self) -> LossTerms:  # type: ignore[override]
        """Detached loss of the last training batch, of models of this package."""
        return self.inner.loss_terms

    @property
    def anomaly_generator(self) -> torch.Generator:
        """Generator of the wrapped model's synthetic anomalies."""
        inner = self.inner
        return inner.anomaly_generator if isinstance(inner, BaseModule) else super().anomaly_generator

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the package's callbacks, the components, and those of the wrapped model that the package lacks."""
        own = super().configure_callbacks()
        kinds = {type(callback) for callback in own}
        theirs = self.inner.configure_callbacks()
        theirs = [theirs] if isinstance(theirs, Callback) else theirs
        extra = [callback for callback in theirs if type(callback) not in kinds | {PreProcessor}]
        if not isinstance(self.inner, BaseModule):  # its loss terms are not known
            own = [callback for callback in own if not isinstance(callback, FiniteLoss)]
        return [*(CallbackOfInner(callback, lambda: self.inner) for callback in extra), *own]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizers of the wrapped model, None for a memory bank."""
        return self.inner.configure_optimizers()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Take a training step of the wrapped model on tiles from random locations in the batch."""
        images = self.model.rescale(batch.image)
        tiles = draw_tiles(batch, images, self.model.tile, self.model.tile_batch)
        tiles.image = self.model.pre_process_tiles(tiles.image)
        return self.inner.training_step(tiles, *args, **kwargs)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Run the wrapped model's backward pass."""
        self.inner.backward(loss, *args, **kwargs)

    setup = _hook_of_inner("setup")
    on_fit_end = _hook_of_inner("on_fit_end")
    on_train_start = _hook_of_inner("on_train_start")
    on_train_end = _hook_of_inner("on_train_end")
    on_train_epoch_start = _hook_of_inner("on_train_epoch_start")
    # Memory banks are completed in the first of these that comes.
    on_train_epoch_end = _hook_of_inner("on_train_epoch_end")
    on_validation_start = _hook_of_inner("on_validation_start")

    def on_fit_start(self) -> None:
        """Check the wrapped model's synthetic anomalies before its hook."""
        augmenter = getattr(self.inner, "augmenter", None)
        if augmenter is not None:
            augmenter.check()
        self.inner.on_fit_start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the wrapped model's arguments such that loading needs no pre-trained weights, which it contains."""
        super().on_save_checkpoint(checkpoint)
        saved = checkpoint["hyper_parameters"]["model"]
        overrides = getattr(self.inner, "checkpoint_overrides", {})
        changed = {name: value for name, value in overrides.items() if name in saved["init_args"]}
        checkpoint["hyper_parameters"]["model"] = {**saved, "init_args": {**saved["init_args"], **changed}}

    def _checkpointable_components(self) -> dict[str, nn.Module]:
        return {
            **super()._checkpointable_components(),
            "anomalib_plus_tile_pre_processor_config": self.model.tile_pre_processor,
        }

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export to ONNX for images of one size, which the graph cuts by slices; see anomalib's ``to_onnx``.

        ``input_size`` is that of the camera's images; it may be left out if the pre-processor resizes them.

        Raises:
            ValueError: If the size is not known.
            UntrainedModelError: If the model was neither trained nor loaded.
        """
        if input_size is None and self.input_size is None:
            msg = (
                "Tiled is exported for images of one size: pass input_size=(HEIGHT, WIDTH), or on the command line "
                '--input_size "[HEIGHT,WIDTH]".'
            )
            raise ValueError(msg)
        return super().to_onnx(export_root, model_file_name, input_size, **kwargs)


def _adopted(inner: AnomalibModule, name: str, given: Any) -> Any:
    """Return the component of that name: the one given, or the wrapped model's, without what it has measured."""
    component = getattr(inner, name)
    if given is not True:
        return given
    if isinstance(component, PostProcessor):
        for statistic in _STATISTICS:
            getattr(component, statistic).fill_(torch.nan)
    return False if component is None else component


def _check_arguments(tile: Sequence[int], overlap: float, scale: float, tile_batch: int) -> None:
    if len(tile) != 2 or min(tile) < 1:
        msg = f"tile must be a height and a width of at least 1 pixel, got {tile}."
        raise ValueError(msg)
    if not 0 <= overlap < 1:
        msg = f"overlap must be at least 0 and below 1, got {overlap}."
        raise ValueError(msg)
    if not scale > 0:
        msg = f"scale must be positive, got {scale}."
        raise ValueError(msg)
    if tile_batch < 1:
        msg = f"tile_batch must be at least 1, got {tile_batch}."
        raise ValueError(msg)
