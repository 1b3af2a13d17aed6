"""The tiny data set that other tests rely on is what its description says."""

import socket
from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD


def test_mvtec_layout_is_read_by_anomalib_and_its_masks_mark_the_bright_square(mvtec_layout: Path) -> None:
    datamodule = MVTecAD(root=mvtec_layout, category="surface", num_workers=0)
    datamodule.setup()
    assert len(datamodule.train_data) == 6
    assert sorted(int(item.gt_label) for item in datamodule.test_data) == [0, 0, 0, 1, 1, 1]
    for item in datamodule.test_data:
        assert item.image.shape == (3, 64, 64)
        bright = (item.image > 0.85).all(dim=0)
        assert torch.equal(bright, item.gt_mask.bool())
        assert int(bright.sum()) == (256 if item.gt_label else 0)


def test_tests_run_in_an_empty_folder_without_network(tmp_path: Path) -> None:
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="tests run offline"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
