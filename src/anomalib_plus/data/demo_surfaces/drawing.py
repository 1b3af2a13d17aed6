"""Draw one image of a category from its seed and address alone: category, split, kind of defect and number."""

from zlib import crc32

import numpy as np

from anomalib_plus.data.demo_surfaces.defects import DEFECTS
from anomalib_plus.data.demo_surfaces.photographs import TONES, draw_texture
from anomalib_plus.data.demo_surfaces.scene import Scene
from anomalib_plus.data.demo_surfaces.sheet import draw_sheet, draw_small_defect
from anomalib_plus.data.demo_surfaces.washer import draw_washer

SHEET = "sheet"
READ_NOISE, SHOT_NOISE = 0.004, 0.0001


def draw_image(seed: int, category: str, split: str, kind: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image.

    Returns:
        The image, uint8 (H, W, 3), and the mask of its defect, bool (H, W). Outside the mask the image equals its
        :func:`draw_twin`. A sheet has 768x1024 pixels, all others 256x256.
    """
    scene, noise, rng = _stage(seed, category, split, kind, number)
    image = scene.render()
    mask = np.zeros(image.shape[:2], dtype=bool)
    if kind != "good":
        damaged, mask = draw_small_defect(kind, scene, rng) if category == SHEET else DEFECTS[kind](scene, rng)
        image = np.where(mask[..., None], damaged, image)
    return _expose(image, noise), mask


def draw_twin(seed: int, category: str, split: str, kind: str, number: int) -> np.ndarray:
    """Draw the same image without the defect, uint8 (H, W, 3)."""
    scene, noise, _ = _stage(seed, category, split, kind, number)
    return _expose(scene.render(), noise)


def _stage(
    seed: int, category: str, split: str, kind: str, number: int
) -> tuple[Scene, np.ndarray, np.random.Generator]:
    address = crc32(f"{category}/{split}/{kind}".encode())
    for_scene, for_noise, for_defect = map(
        np.random.default_rng, np.random.SeedSequence([seed, address, number]).spawn(3)
    )
    if category == SHEET:
        scene = draw_sheet(for_scene)
    else:
        scene = draw_texture(category, for_scene, split) if category in TONES else draw_washer(for_scene)
    return scene, for_noise.standard_normal(scene.material.shape), for_defect


def _expose(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Add sensor noise, unit normal, to a float image in [0, 1] and convert it to uint8, each pixel on its own."""
    deviation = np.sqrt(READ_NOISE**2 + SHOT_NOISE * image.clip(0, 1))
    return np.rint((image + deviation * noise).clip(0, 1) * 255).astype(np.uint8)
