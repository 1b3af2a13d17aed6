"""What the data cost before a training starts: ``pytest tests/benchmarks/test_data.py``."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from anomalib_plus.data.demo_surfaces.writing import CATEGORIES, write_category
from anomalib_plus.data.image_files import inspect_image


@pytest.mark.parametrize("category", CATEGORIES)
def test_drawing_a_category(benchmark: BenchmarkFixture, tmp_path: Path, category: str) -> None:
    """At most 15 s each."""
    folders = iter(tmp_path / str(number) for number in range(3))
    benchmark.pedantic(lambda: write_category(next(folders), category, 0), rounds=2)
    assert benchmark.stats.stats.min < 15


@pytest.mark.parametrize(("suffix", "limit"), [("png", 1e-2), ("jpg", 1e-3)])
def test_checking_a_file(benchmark: BenchmarkFixture, tmp_path: Path, suffix: str, limit: float) -> None:
    """Milliseconds for 1024x1024 pixels: the checksums of a PNG or the end of a JPEG are read, not the image."""
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    path = tmp_path / f"large.{suffix}"
    Image.fromarray(noise).save(path)
    benchmark(inspect_image, path)
    assert benchmark.stats.stats.median < limit
