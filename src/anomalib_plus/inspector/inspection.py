"""Score, p-value and decision of single images."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_plus.image_files import IMAGE_FORMATS, inspect_image, too_small
from anomalib_plus.inspector.bundle import BundleInfo, read_bundle_info
from anomalib_plus.inspector.runtime import Runtime, load_runtime
from anomalib_plus.post_processing.conformal_math import p_values


class UnreadableImageError(ValueError):
    """Error for an image that cannot be inspected, with the reason."""


class Prediction(NamedTuple):
    """Result for an image."""

    score: float
    """``pred_score`` of the model."""
    p_value: float
    """Share of good images that score as high or higher, by the calibration scores; in (0, 1]."""
    decision: Literal["accept", "reject"]
    map: NDArray[np.float32]
    """Anomaly map (H, W) in the size of the image."""


class Inspector:
    """Model of a bundle with its threshold and calibration scores. Threads may share it.

    Args:
        info: Description of the bundle.
        runtime: Function that computes the outputs of the model for images (1, 3, H, W) in [0, 1].
        input_size: Height and width that the model takes; None where any number will do.
    """

    def __init__(
        self, info: BundleInfo, runtime: Runtime, input_size: tuple[int | None, int | None] = (None, None)
    ) -> None:
        self.info = info
        self._runtime = runtime
        self._input_size = input_size
        self._calibration = np.asarray(info.calibration_scores), info.calibration_parts

    @classmethod
    def load(cls, folder: Path | str) -> "Inspector":
        """Load a bundle.

        Raises:
            BundleError: If it is incomplete, was changed, or cannot be used here.
        """
        info = read_bundle_info(folder)
        return cls(info, *load_runtime(Path(folder), info))

    def __call__(self, image: Path | str | NDArray[np.uint8]) -> Prediction:
        """Inspect an image file, or an RGB image (H, W, 3) of type uint8.

        Raises:
            UnreadableImageError: If the file cannot be read or would be read wrongly, or the image has a wrong size.
            TypeError: If the array has another shape or type.
        """
        pixels = _check_array(image) if isinstance(image, np.ndarray) else read_pixels(Path(image))
        self._check_size(pixels.shape[0], pixels.shape[1])
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)
        planes /= 255
        outputs = self._runtime(planes)
        score = float(outputs["pred_score"].reshape(-1)[0])
        return Prediction(
            score=score,
            p_value=float(p_values(score, *self._calibration)),
            decision="accept" if score <= self.info.threshold else "reject",  # NaN is rejected
            map=_resize(outputs["anomaly_map"], pixels.shape[0], pixels.shape[1]),
        )

    def _check_size(self, height: int, width: int) -> None:
        if any(size not in (None, actual) for size, actual in zip(self._input_size, (height, width), strict=True)):
            wanted = "x".join("any" if size is None else str(size) for size in self._input_size)
            msg = f"has {height}x{width} pixels (height x width), but the model takes {wanted}: use the right camera"
            raise UnreadableImageError(msg)
        if fault := too_small(height, width):
            raise UnreadableImageError(fault)


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Read an image file as anomalib does, as 8-bit RGB (H, W, 3).

    Raises:
        UnreadableImageError: If it cannot be read or would be read wrongly.
    """
    if fault := inspect_image(path).fault:
        raise UnreadableImageError(fault)
    try:
        with path.open("rb") as stream, Image.open(stream, formats=IMAGE_FORMATS) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # every format fails in its own way; removed meanwhile
        msg = "is damaged or cut off" if path.is_file() else "does not exist"
        raise UnreadableImageError(msg) from error


def brightness(pixels: NDArray[np.uint8]) -> float:
    """Compute the mean of the pixels of an image (H, W, 3), 0 to 255, in steps of 0.01."""
    return round(float(pixels.mean()), 2)


def _check_array(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        msg = f"An image must be RGB, (H, W, 3) of type uint8, got {image.shape} of type {image.dtype}: convert it."
        raise TypeError(msg)
    return image


def _resize(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a map (1, 1, h, w) bilinearly to (height, width)."""
    plane = np.asarray(anomaly_map, np.float32).reshape(anomaly_map.shape[-2:])
    if plane.shape == (height, width):
        return plane
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
