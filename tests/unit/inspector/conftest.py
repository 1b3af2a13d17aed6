"""A tiny bundle and parts to inspect."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def save_part(path: Path, red: int = 0, size: tuple[int, int] = (20, 30)) -> Path:
    """Save an image (height, width) with a square of 3x2 pixels at x=5, y=4, which alone has a red channel."""
    pixels = np.full((*size, 3), (0, 100, 100), np.uint8)
    pixels[4:6, 5:8, 0] = red
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
