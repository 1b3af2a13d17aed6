"""Memory stays flat over long prediction runs, with and without the pictures that the visualizer draws."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict_many
from anomalib_plus import models

PROGRAM = Path(predict_many.__file__)


def write_images(folder: Path, count: int) -> Path:
    """Pictures of 64 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for number in range(count):
        Image.fromarray(np.roll(pixels, number, axis=0)).save(folder / f"{number:04d}.png", compress_level=1)
    return folder


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("many"), 2000)


def growth_over_2000(*arguments: object) -> float:
    """Megabytes, in a process of its own."""
    paths = [str(PROGRAM.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    count, growth = shown.split()[-2:]
    assert count == "2000"
    print(*arguments, f"{growth} MB")
    return float(growth)


def test_memory_is_flat_over_200_images(tmp_path: Path) -> None:
    record, predictions = predict_many.predict("RamFAE", write_images(tmp_path, 200))
    assert predictions is None
    assert len(record.resident) == 200
    assert record.growth < 10


@pytest.mark.slow
@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("name", models.__all__)
def test_memory_is_flat_over_2000_images(many_images: Path, name: str, draw: bool) -> None:
    assert growth_over_2000(name, many_images, *["--draw"] * draw) < 50
    assert len(list(Path("results").rglob("images/**/*.png"))) == (2000 if draw else 0)


@pytest.mark.slow
def test_predictions_that_are_returned_are_held(many_images: Path) -> None:
    """What anomalib returns by default: each image with its maps, here about 170 KB."""
    assert growth_over_2000("RamFAE", many_images, "--keep") > 100
