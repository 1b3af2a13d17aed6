"""A small configuration of every model: 64 px images, seconds on a CPU, no pre-trained weights."""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import pytest
from anomalib.engine import Engine
from anomalib.models import AnomalibModule

from anomalib_plus import models

SMALL: dict[str, dict[str, Any]] = {
    "AstMFR": {"teacher": "test_resnet", "student": "test_efficientnet", "pre_trained": False},
    "FEAR": {
        "reconstruction_width": 8,
        "segmentation_width": 8,
        "learning_rate": 1e-3,
        "lr_milestones": [0.5, 0.75],
    },
    "RamFAE": {"widths": [4, 8, 16, 32], "learning_rate": 1e-3},
    "RbAE": {"widths": [8, 8, 16, 16, 16], "perceptual": False, "learning_rate": 3e-3},
    "TSDN": {
        "backbone": "test_efficientnet",
        "pre_trained": False,
        "bottleneck_width": 32,
        "decoder_widths": [32, 16, 16, 8, 8],
        "fne_width": 4,
        "fne_hidden_widths": [16],
        "fne_size": 2,
        "augmenter": {
            "class_path": "anomalib_plus.transforms.SuperpixelFilling",
            "init_args": {"n_segments": 64, "n_filled": 8},
        },
        "ssim_size": 16,
        "sigma": 1.0,
        "learning_rate": 2e-3,
    },
}
"""Constructor arguments by model. Plain data: they also travel through YAML and the command line."""

IMAGE_SIZE = (64, 64)


def each_once(cases: Collection[Any], every: Collection[Any] = ()) -> pytest.MarkDecorator:
    """Parametrize over models and cases: those of ``every`` with each model, the others with one model, in turn.

    The other pairs are slow: for cases that cost seconds and in which the models hardly differ.
    """
    names = models.__all__
    pairs = [
        pytest.param(
            name,
            case,
            id=f"{name}-{case}",
            marks=[] if case in every or index % len(names) == place else pytest.mark.slow,
        )
        for index, case in enumerate(cases)
        for place, name in enumerate(names)
    ]
    return pytest.mark.parametrize(("small_model", "case"), pairs, indirect=["small_model"])


class SmallModel(NamedTuple):
    """A model class and the arguments that make it small."""

    cls: type[AnomalibModule]
    arguments: dict[str, Any]

    @classmethod
    def named(cls, name: str) -> "SmallModel":
        if name not in SMALL:
            msg = f"the contract tests need a small configuration of {name}: add a line to SMALL in {__file__}"
            raise LookupError(msg)
        return cls(getattr(models, name), SMALL[name])

    @property
    def name(self) -> str:
        return self.cls.__name__

    @property
    def command_line(self) -> list[str]:
        """The options of anomalib's command that make the model ``build()`` makes, on the same device."""
        return [
            f"--model={self.name}",
            *(
                f"--model.{name}={value if isinstance(value, str) else json.dumps(value)}"
                for name, value in self.arguments.items()
            ),
            "--model.pre_processor=anomalib.pre_processing.PreProcessor",
            "--model.pre_processor.transform=torchvision.transforms.v2.Resize",
            f"--model.pre_processor.transform.size={list(IMAGE_SIZE)}",
            "--trainer.accelerator=cpu",
            "--trainer.devices=1",
        ]

    def build(self, **overrides: Any) -> AnomalibModule:
        """Build one for 64 px; without a visualizer, which would take most of a test's time."""
        components = {"pre_processor": self.cls.configure_pre_processor(IMAGE_SIZE), "visualizer": False}
        return self.cls(**{**self.arguments, **components, **overrides})


def quiet_engine(**trainer_arguments: Any) -> Engine:
    """Engine on one CPU that prints nothing and writes into the working folder."""
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Engine(**{"accelerator": "cpu", "devices": 1, **silent, **trainer_arguments})
