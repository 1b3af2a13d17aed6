"""Anomaly maps in colour, and laid over images."""

import numpy as np
from PIL import Image

_OPACITY = 0.8
"""Opacity of the largest level."""


def colour(levels: Image.Image) -> Image.Image:
    """Colour a map of 8-bit levels, from dark blue (0) over green to dark red (255); RGB."""
    from matplotlib import colormaps  # takes a while, and not every program needs it

    return Image.fromarray(colormaps["turbo"](np.arange(256), bytes=True)[:, :3][np.asarray(levels)])


def lay_over(image: Image.Image, levels: Image.Image) -> Image.Image:
    """Lay a map of 8-bit levels, coloured, over an RGB image of its size.

    The opacity follows the level, so that the part stays visible where nothing is found.
    """
    return Image.composite(colour(levels), image, levels.point(lambda level: level * _OPACITY))
