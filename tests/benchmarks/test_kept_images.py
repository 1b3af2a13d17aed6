"""Steps of a training in the same processor time, with images kept in memory and read anew in each epoch.

``pytest -s tests/benchmarks/test_kept_images.py``
"""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from anomalib.data import Folder
from anomalib.engine import Engine
from PIL import Image

from anomalib_plus import RbAE
from anomalib_plus.benchmark.processor_timer import ProcessorTimer
from anomalib_plus.presets import preset
from anomalib_plus.training.kept_images import KeepImages

SECONDS, IMAGES = 8.0, 40


def count_steps(folder: Path) -> int:
    data = Folder("parts", "good", root=folder, train_batch_size=8, num_workers=0)
    timer = ProcessorTimer(SECONDS)
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "limit_val_batches": 1}
    engine = Engine(max_epochs=-1, check_val_every_n_epoch=10**9, callbacks=[timer], default_root_dir=folder, **quiet)
    model = RbAE.from_config(preset("small/rbae"))
    model.visualizer = False
    engine.fit(model, data)
    return engine.trainer.global_step


@pytest.mark.parametrize("side", [256, 1024])
def test_steps_with_images_in_memory(side: int, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (side // 8, side // 8, 3), np.uint8)
        Image.fromarray(pixels).resize((side, side)).save(tmp_path / "good" / f"{number:02d}.png")
    kept = count_steps(tmp_path)
    with patch.object(KeepImages, "setup", lambda *_, **__: None):
        read = count_steps(tmp_path)
    print(f"{side}x{side}: {kept} steps in {SECONDS:g} s from memory, {read} without: {kept / read:.2f} times")
