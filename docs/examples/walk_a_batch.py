"""The project's files that run for one training batch and for one prediction of a model, in order of first use."""

import argparse
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from anomalib.engine import Engine
from anomalib.models import get_model
from lightning.pytorch import Callback

import anomalib_plus

PACKAGE = Path(anomalib_plus.__file__).parent
SMALL: dict[str, dict[str, Any]] = {
    "RamFAE": {"widths": [8, 16, 32, 64]},
    "AstMFR": {"teacher": "test_resnet", "student": "test_efficientnet", "pre_trained": False},
    "TSDN": {
        "backbone": "test_efficientnet",
        "pre_trained": False,
        "bottleneck_width": 32,
        "decoder_widths": [32, 16, 16, 8, 8],
        "fne_size": 4,
        "ssim_size": 32,
    },
    "RbAE": {"widths": [8, 8, 16, 16, 16], "perceptual": False},
    "FEAR": {"reconstruction_width": 8, "segmentation_width": 8},
}


class Walk(Callback):
    """Record files between the start and the end of a batch."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.batch = False

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        if self.batch and event == "call" and PACKAGE in (file := Path(frame.f_code.co_filename)).parents:
            name = file.relative_to(PACKAGE).as_posix()
            if name not in self.files:
                self.files.append(name)

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.batch = arguments[-1] == 1  # its index: the first batch of an epoch is checked, too

    def on_train_batch_end(self, *_: Any) -> None:
        self.batch = False

    def on_predict_batch_start(self, *_: Any) -> None:
        self.batch = True

    def on_predict_batch_end(self, *_: Any) -> None:
        self.batch = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name of the model, e.g. RamFAE")
    name = parser.parse_args().model
    kind = getattr(anomalib_plus, name)
    model = get_model(name, **SMALL.get(name, {}), visualizer=False, evaluator=False)
    model.pre_processor = kind.configure_pre_processor((128, 128))
    data = anomalib_plus.DemoSurfaces(category="brick", num_workers=0)
    with tempfile.TemporaryDirectory() as folder:
        for stage in ("training batch", "prediction"):
            walk = Walk()
            options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "default_root_dir": folder}
            engine = Engine(max_steps=2, limit_val_batches=1, limit_predict_batches=1, callbacks=[walk], **options)
            sys.setprofile(walk.profile)
            if stage == "prediction":
                engine.predict(model, datamodule=data)
            else:
                engine.fit(model, data)
            sys.setprofile(None)
            print(f"{stage}: {len(walk.files)} files", *walk.files, sep="\n  ")


if __name__ == "__main__":
    main()
