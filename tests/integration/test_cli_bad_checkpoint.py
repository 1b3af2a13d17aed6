"""``anomalib test`` with a checkpoint that cannot be used."""

from pathlib import Path

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI

from anomalib_plus.models.components.checkpoint_files import CheckpointError

OF_FEAR = {"state_dict": {}, "hyper_parameters": {}, "anomalib_plus": {"model": "FEAR", "version": "9"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"model\.ckpt cannot be read: it is empty"),
        (OF_FEAR, "of the model FEAR"),
    ],
    ids=["empty", "another model"],
)
def test_the_error_is_the_same(mvtec_layout: Path, content: bytes | dict, message: str) -> None:
    if isinstance(content, bytes):
        Path("model.ckpt").write_bytes(content)
    else:
        torch.save(content | {"pytorch-lightning_version": "2.6.6"}, "model.ckpt")
    arguments = ["--data=MVTecAD", f"--data.root={mvtec_layout}", "--data.category=surface", "--data.num_workers=0"]
    with pytest.raises(CheckpointError, match=message):
        AnomalibCLI(["test", "--model=RamFAE", "--model.widths=[4,8,8,8]", *arguments, "--ckpt_path=model.ckpt"])
