"""Scenes, kept in layers so that a defect can change one of them."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

IMAGE_SIZE = 256


@dataclass(frozen=True)
class Scene:
    """Layers of one image, in [0, 1] without sensor noise."""

    material: np.ndarray
    """RGB (H, W, 3), defined everywhere."""
    coverage: np.ndarray
    """Opacity (H, W) of the material over the ground."""
    ground: np.ndarray
    """RGB (H, W, 3)."""
    light: np.ndarray
    """Unit vector (row, column) in the image plane, towards the lamp."""

    @property
    def rim(self) -> np.ndarray:
        """Outline of the material, bool (H, W); empty for a texture that fills the image."""
        return (self.coverage > 0.02) & (self.coverage < 0.98)

    def render(self) -> np.ndarray:
        """Compose the image without any defect, (H, W, 3)."""
        return compose(self.material, self.coverage, self.ground)


def compose(front: np.ndarray, coverage: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Blend ``front`` over ``back`` (H, W, 3) with opacity ``coverage`` (H, W)."""
    return front * coverage[..., None] + back * (1 - coverage[..., None])


def pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column numbers of all pixels, float (H, W) each."""
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(float)
    return rows, columns


def relief_shading(height: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Change in brightness (H, W) of a matt surface of this ``height`` (in pixels) by its slope; 0 where it is flat."""
    slope_rows, slope_columns = np.gradient(height)
    return -(slope_rows * light[0] + slope_columns * light[1])


def lamp(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a lamp: the unit vector towards it, and its uneven illumination (H, W) around 1."""
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.sin(angle), np.cos(angle)])
    rows, columns = (grid / (IMAGE_SIZE - 1) - 0.5 for grid in pixel_grid())
    fall_off = 1 + rng.uniform(0.02, 0.12) * (rows * light[0] + columns * light[1])
    vignette = 1 - rng.uniform(0.02, 0.10) * (rows**2 + columns**2)
    return light, rng.uniform(0.92, 1.06) * fall_off * vignette


def white_balance(rng: np.random.Generator) -> np.ndarray:
    """Draw gains of red, green and blue that make an image a little warmer or colder."""
    warmth = rng.uniform(-0.025, 0.025)
    return np.array([1 + warmth, 1.0, 1 - warmth])


def enlarge(grey: np.ndarray) -> np.ndarray:
    """Resize a float image (h, w) to 256x256, bicubic."""
    return np.asarray(
        Image.fromarray(grey.astype(np.float32)).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    )


def smooth_noise(rng: np.random.Generator, grain: int) -> np.ndarray:
    """Draw noise (H, W) of mean 0 and standard deviation 1 that varies over about ``grain`` pixels."""
    side = IMAGE_SIZE // grain
    noise = enlarge(rng.standard_normal((side, side)))
    return (noise - noise.mean()) / noise.std()
