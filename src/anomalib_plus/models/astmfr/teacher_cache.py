"""Cache of the teacher's features of the training images."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from anomalib_plus.models.astmfr.anomaly_map import unit_vectors

FeatureFunction = Callable[[Tensor], Sequence[Tensor]]

_BYTES_PER_GIB = 2**30


class TeacherFeatureCache:
    """Cache of the teacher's features by image file, as unit vectors in half precision, in CPU memory.

    The loss depends on directions only, so unit vectors suffice, and they do not overflow half precision. The first use
    of an image returns the rounded values too. Once the cache is full, other images are computed each time: eviction
    would not help, because images come in random order.

    Args:
        gib: Size in GiB; 0 for no cache.

    Raises:
        ValueError: If the size is negative.
    """

    def __init__(self, gib: float) -> None:
        if gib < 0:
            msg = f"teacher_cache_gib must not be negative, got {gib}."
            raise ValueError(msg)
        self.capacity = int(gib * _BYTES_PER_GIB)
        self.clear()

    def clear(self) -> None:
        """Empty the cache."""
        self._features: dict[str, list[Tensor]] = {}
        self.bytes_used = 0

    def __len__(self) -> int:
        return len(self._features)

    def __getstate__(self) -> dict[str, Any]:
        """Make copies and pickles start empty."""
        return {"capacity": self.capacity, "_features": {}, "bytes_used": 0}

    def features(self, images: Tensor, paths: Sequence[str], compute: FeatureFunction) -> list[Tensor]:
        """Return the features of images, computing those that are not in the cache.

        Args:
            images: (B, 3, H, W).
            paths: Files of the images, by which they are cached.
            compute: Function from images to features (B, C, h, w), one tensor per level.

        Returns:
            Unit vectors (B, C, h, w) per level, float32, on the images' device.
        """
        new = [index for index, path in enumerate(paths) if path not in self._features]
        computed: dict[str, list[Tensor]] = {}
        if new:
            levels = [unit_vectors(level).half() for level in compute(images[new] if len(new) < len(paths) else images)]
            if len(new) == len(paths) and not self._has_room(level[0] for level in levels):
                return [level.float() for level in levels]
            on_host = [level.cpu() for level in levels]
            for row, index in enumerate(new):
                computed[paths[index]] = [level[row] for level in on_host]
                self._keep(paths[index], computed[paths[index]])
        rows = [computed[path] if path in computed else self._features[path] for path in paths]
        return [torch.stack(level).to(images.device, non_blocking=True).float() for level in zip(*rows, strict=True)]

    def _has_room(self, levels: Iterable[Tensor]) -> bool:
        return self.bytes_used + _size(levels) <= self.capacity

    def _keep(self, path: str, levels: Sequence[Tensor]) -> None:
        if self._has_room(levels):
            self._features[path] = [level.clone() for level in levels]  # a view would keep the whole batch in memory
            self.bytes_used += _size(levels)


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
