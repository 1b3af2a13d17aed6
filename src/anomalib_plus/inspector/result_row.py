"""Row of results for an image file, which ``score`` and ``watch`` write."""

import time
from pathlib import Path

import numpy as np
from PIL import Image

from anomalib_plus.inspector.inspection import Inspector, UnreadableImageError, brightness, read_pixels
from anomalib_plus.inspector.regions import draw_overlay, marked_region

RESULT_COLUMNS = (
    "score", "p_value", "decision", "x", "y", "width", "height", "area", "brightness", "milliseconds",
    "problem", "bundle",
)  # fmt: skip
TEXTS = ("file", "modified", "time", "decision", "problem", "bundle", "warning")
"""Columns that hold texts."""


def inspect_file(inspector: Inspector, path: Path, with_overlay: bool) -> tuple[dict[str, object], Image.Image | None]:
    """Inspect a file; never fails because of it.

    Returns:
        The values of ``RESULT_COLUMNS``, and the overlay if wanted. The decision is ``accept``, ``reject``, or
        ``unreadable`` with the reason as ``problem``; scores have as many digits as distinguish them. An overlay that
        cannot be drawn is a ``problem`` too, and does not change the decision.
    """
    start = time.perf_counter()
    row: dict[str, object] = {"bundle": inspector.info.identity}
    overlay = None
    try:
        pixels = read_pixels(path)
        row["brightness"] = brightness(pixels)
        prediction = inspector(pixels)
        region = marked_region(prediction.map, inspector.info.threshold, prediction.decision == "reject")
        row |= {"score": np.float32(prediction.score), "p_value": round(prediction.p_value, 6)}
        row |= {"decision": prediction.decision} | (region._asdict() if region else {})
    except UnreadableImageError as error:
        row |= {"decision": "unreadable", "problem": str(error)}
    except Exception as error:  # a person checks it; the other images must be inspected all the same
        row |= {"decision": "unreadable", "problem": f"{type(error).__name__}: {error}"}
    else:
        try:
            overlay = draw_overlay(pixels, prediction.map, inspector.info.threshold, region) if with_overlay else None
        except Exception as error:
            row["problem"] = f"no overlay: {type(error).__name__}: {error}"
    row["milliseconds"] = round(1000 * (time.perf_counter() - start), 1)
    return row, overlay
