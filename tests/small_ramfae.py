"""A model of one's own that trains in a second, for tests of what is done with a trained one."""

from pathlib import Path

import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine

from anomalib_plus.models import RamFAE


def train_small_ramfae(root: Path, folder: Path) -> tuple[RamFAE, Engine]:
    """Train RamFAE for 32 px for a few steps on the data set of ``mvtec_layout``; it has thresholds."""
    torch.manual_seed(0)
    pre_processor = RamFAE.configure_pre_processor((32, 32))
    model = RamFAE(widths=[4, 8], learning_rate=5e-3, pre_processor=pre_processor, visualizer=False)
    engine = Engine(
        max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
        check_val_every_n_epoch=4,
    )  # fmt: skip
    engine.fit(model, datamodule=MVTecAD(root=root, category="surface", train_batch_size=2, num_workers=0))
    return model.eval(), engine
