"""Brushed steel sheet, 1024x768 pixels, with defects of 6 to 20 pixels."""

import numpy as np
from skimage.filters import gaussian

from anomalib_plus.data.demo_surfaces.defects.strokes import irregular_outline, random_profile, stroke
from anomalib_plus.data.demo_surfaces.scene import IMAGE_SIZE, Scene, compose, relief_shading, white_balance

SHEET_SIZE = (768, 1024)
STEEL = np.array([0.56, 0.57, 0.59])
CRUMBS = ((0.86, 0.82, 0.74), (0.16, 0.12, 0.09), (0.42, 0.24, 0.11))
LARGEST = 20.0
"""Largest extent of a defect in pixels."""


def draw_sheet(rng: np.random.Generator) -> Scene:
    """Draw a sheet that fills the image: soft spots of the rolling, fine brush lines, grain, and an uneven lamp."""
    height, width = SHEET_SIZE
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.sin(angle), np.cos(angle)])
    rows, columns = np.mgrid[:height, :width] / (width - 1) - np.array([height, width])[:, None, None] / (2 * width)
    lamp = rng.uniform(0.92, 1.06) * (1 + rng.uniform(0.02, 0.12) * (rows * light[0] + columns * light[1]))
    spots = 0.035 * _noise(rng, (3.5, 5)) + 0.030 * _noise(rng, (9, 14)) + 0.010 * _noise(rng, (60, 60))
    brightness = 1 + spots + 0.012 * _noise(rng, (0.6, 40)) + 0.008 * _noise(rng, (0.8, 0.8))
    material = (STEEL * white_balance(rng) * (brightness * lamp)[..., None]).clip(0, 1)
    return Scene(material, np.ones(SHEET_SIZE), 0.3 * material, light)


def _noise(rng: np.random.Generator, grain: tuple[float, float]) -> np.ndarray:
    """Draw noise of mean 0 and standard deviation 1, blurred by ``grain`` pixels along rows and columns."""
    rows, columns = np.fft.fftfreq(SHEET_SIZE[0])[:, None], np.fft.rfftfreq(SHEET_SIZE[1])
    spectrum = np.exp(-2 * np.pi**2 * ((grain[0] * rows) ** 2 + (grain[1] * columns) ** 2))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(SHEET_SIZE)) * spectrum, SHEET_SIZE)
    return (noise - noise.mean()) / noise.std()


def draw_small_defect(kind: str, scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one defect anywhere on the sheet; return the image (H, W, 3) and the mask (H, W).

    It is drawn on a part of the size of the other categories' images, for which curves and outlines are made.
    """
    top, left = (int(rng.integers(0, side - IMAGE_SIZE + 1)) for side in SHEET_SIZE)
    part = np.s_[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
    piece = Scene(scene.material[part], scene.coverage[part], scene.ground[part], scene.light)
    centre = rng.uniform(LARGEST, IMAGE_SIZE - LARGEST, size=2)
    image, mask = scene.render(), np.zeros(SHEET_SIZE, dtype=bool)
    image[part], mask[part] = SMALL_DEFECTS[kind](piece, centre, rng)
    return image, mask


def small_scratch(piece: Scene, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a short groove across the brush lines, brighter or darker than the steel."""
    length, heading = rng.uniform(8, 18), rng.uniform(0.25, 0.75) * np.pi
    along = np.linspace(-0.5, 0.5, 48)[:, None] * length
    forward = np.array([np.sin(heading), np.cos(heading)])
    sideways = rng.uniform(-0.1, 0.1) * length * (4 * along**2 / length**2 - 1)
    points = centre + along * forward + sideways * np.array([forward[1], -forward[0]])
    groove, _ = stroke(points, random_profile(rng, len(points), 1.2, 2.2))
    tone = piece.material.mean(axis=(0, 1)) * rng.choice((0.8, 1.2), p=(0.4, 0.6))
    return compose(tone, groove, piece.render()), groove > 0.25


def pit(piece: Scene, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a corroded pit: a dark ground with a lit and a shaded wall."""
    depth = (irregular_outline(rng, centre, rng.uniform(3.0, 6.5), corners=int(rng.integers(6, 10))) + 0.5).clip(0, 1)
    wall = 1 + 0.18 * np.tanh(relief_shading(-4 * gaussian(depth, sigma=1.0), piece.light))
    return compose(piece.material * 0.9 * wall[..., None], depth, piece.render()), depth > 0.25


def crumb(piece: Scene, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a crumb of dust, scale or rust that lies on the sheet."""
    lying = (irregular_outline(rng, centre, rng.uniform(2.8, 6.0), corners=5) + 0.5).clip(0, 1)
    shading = 1 + 0.4 * relief_shading(gaussian(lying, sigma=1) * 2, piece.light)
    colour = np.array(CRUMBS[rng.integers(len(CRUMBS))]) * shading[..., None]
    return compose(colour, 0.22 * lying, piece.render()), lying > 0.25


def dent(piece: Scene, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a round dent or bump, which only its shading shows."""
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    radius = rng.uniform(5, 9)
    inside = (1 - ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / radius**2).clip(0)
    shading = rng.choice((-1, 1)) * relief_shading(radius * rng.uniform(0.25, 0.4) * inside**2, piece.light)
    mask = np.abs(shading) > 0.08
    return np.where(mask[..., None], piece.render() * (1 + 0.28 * shading)[..., None], piece.render()), mask


SMALL_DEFECTS = {"scratch": small_scratch, "hole": pit, "contamination": crumb, "deformation": dent}
"""By the names of the other categories' defects."""
