"""Textures: crops of the photographs in the scikit-image package, with new colours and lighting."""

from functools import lru_cache

import numpy as np
from skimage import data
from skimage.filters import gaussian

from anomalib_plus.data.demo_surfaces.scene import IMAGE_SIZE, Scene, enlarge, lamp, white_balance

CROP_SIDES = (184, 200)
FIRST_TEST_COLUMN = 308  # training crops end left of it, test crops start at it

# Colours for the dark, middle and bright tones of the grey photographs.
TONES = {
    "brick": ((0.33, 0.17, 0.12), (0.64, 0.42, 0.33), (0.90, 0.80, 0.72)),
    "gravel": ((0.06, 0.06, 0.07), (0.46, 0.43, 0.40), (0.95, 0.93, 0.90)),
    "grass": ((0.04, 0.08, 0.03), (0.30, 0.42, 0.16), (0.84, 0.90, 0.55)),
}


@lru_cache(maxsize=1)
def photograph(name: str) -> np.ndarray:
    """Load a grey 512x512 photograph, its contrast stretched to [0, 1]."""
    pixels = getattr(data, name)().astype(float)
    darkest, brightest = np.percentile(pixels, (0.5, 99.5))
    return ((pixels - darkest) / (brightest - darkest)).clip(0, 1)


def choose_crop(rng: np.random.Generator, split: str) -> tuple[slice, slice]:
    """Draw a square on the training or on the test side of :data:`FIRST_TEST_COLUMN`."""
    first, end = (0, FIRST_TEST_COLUMN) if split == "train" else (FIRST_TEST_COLUMN, 512)
    side = int(rng.integers(CROP_SIDES[0], CROP_SIDES[1] + 1))
    top, left = int(rng.integers(0, 512 - side + 1)), int(rng.integers(first, end - side + 1))
    return slice(top, top + side), slice(left, left + side)


def draw_texture(name: str, rng: np.random.Generator, split: str) -> Scene:
    """Draw a 256x256 scene of the texture by crop, flips, colour and lamp; the ground below it is dark."""
    grey = photograph(name)[choose_crop(rng, split)]
    grey = grey[:: rng.choice((1, -1)), :: rng.choice((1, -1))]
    grey = enlarge(grey).clip(0, 1) ** rng.uniform(0.92, 1.08)
    colours = np.stack([np.interp(grey, (0, 0.5, 1), tone) for tone in zip(*TONES[name], strict=True)], axis=-1)
    light, illumination = lamp(rng)
    material = (colours * white_balance(rng) * illumination[..., None]).clip(0, 1)
    depths = gaussian(material, sigma=4, channel_axis=-1) * 0.4
    return Scene(material, np.ones((IMAGE_SIZE, IMAGE_SIZE)), depths, light)
