"""Images of parts for tests of the build: a textured disc on a mat, each a little different."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_part(seed: int, size: int = 48, grey: bool = False) -> np.ndarray:
    """Draw a part, uint8 (size, size, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    radius = np.hypot(rows - 0.5 - rng.uniform(-0.05, 0.05), columns - 0.5 - rng.uniform(-0.05, 0.05))
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 6)
    stripes = 0.1 * np.sin(25 * (rows * np.cos(turn) + columns * np.sin(turn)) + phase)
    plane = np.where(radius < 0.35, 0.6 + stripes, 0.2) + rng.normal(0, 0.01, (size, size))
    tint = np.ones(3) if grey else np.array([1.0, 0.9, 0.7])
    return (255 * (plane[..., None] * tint).clip(0, 1)).astype(np.uint8)


def save_parts(folder: Path, count: int, first: int = 0, **options: object) -> list[Path]:
    """Save images ``part_000.png`` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"part_{number:03d}.png" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        Image.fromarray(draw_part(number, **options)).save(path)  # type: ignore[arg-type]
    return paths
