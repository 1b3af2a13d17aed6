"""A scene: what lies before the camera, kept in layers so that a defect can change one of them."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

IMAGE_SIZE = 256


@dataclass(frozen=True)
class Scene:
    """Layers of one picture, float RGB in [0, 1] without sensor noise.

    ``material`` is defined everywhere, ``coverage`` says where it hides the ``ground`` (1) or not (0), ``light`` is the
    unit vector (row, column) that points towards the lamp in the image plane.
    """

    material: np.ndarray
    coverage: np.ndarray
    ground: np.ndarray
    light: np.ndarray

    @property
    def rim(self) -> np.ndarray:
        """Where the material's outline runs, bool (H, W); empty for a texture that fills the picture."""
        return (self.coverage > 0.02) & (self.coverage < 0.98)

    def render(self) -> np.ndarray:
        """The picture without any defect, (H, W, 3)."""
        return compose(self.material, self.coverage, self.ground)


def compose(front: np.ndarray, coverage: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Lay (H, W, 3) ``front`` over ``back`` with opacity ``coverage`` (H, W)."""
    return front * coverage[..., None] + back * (1 - coverage[..., None])


def pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column numbers of all pixels, float (H, W) each."""
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(float)
    return rows, columns


def relief_shading(height: np.ndarray, light: np.ndarray) -> np.ndarray:
    """How much brighter a matt surface of this ``height`` (in pixels) gets by facing the light; 0 where it is flat."""
    slope_rows, slope_columns = np.gradient(height)
    return -(slope_rows * light[0] + slope_columns * light[1])


def lamp(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A lamp in a random direction: the unit vector towards it, and its uneven illumination (H, W) around 1."""
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.sin(angle), np.cos(angle)])
    rows, columns = (grid / (IMAGE_SIZE - 1) - 0.5 for grid in pixel_grid())
    fall_off = 1 + rng.uniform(0.02, 0.12) * (rows * light[0] + columns * light[1])
    vignette = 1 - rng.uniform(0.02, 0.10) * (rows**2 + columns**2)
    return light, rng.uniform(0.92, 1.06) * fall_off * vignette


def white_balance(rng: np.random.Generator) -> np.ndarray:
    """Gains of red, green and blue: each picture is a little warmer or colder."""
    warmth = rng.uniform(-0.025, 0.025)
    return np.array([1 + warmth, 1.0, 1 - warmth])


def enlarge(grey: np.ndarray) -> np.ndarray:
    """Resize a float image (h, w) to the size of a picture, bicubic."""
    return np.asarray(
        Image.fromarray(grey.astype(np.float32)).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    )


def smooth_noise(rng: np.random.Generator, grain: int) -> np.ndarray:
    """Random brightness that varies over about ``grain`` pixels: mean 0, standard deviation 1, (H, W)."""
    side = IMAGE_SIZE // grain
    noise = enlarge(rng.standard_normal((side, side)))
    return (noise - noise.mean()) / noise.std()
