"""The reference image and its features as part of a checkpoint."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_IMAGE = "image"


class ReferenceStore(nn.Module):
    """One clean image and its features at some layers; empty tensors before they are chosen.

    The buffers take the sizes they have in a checkpoint, so loading one needs no data set and no size beforehand.

    Args:
        widths: Channels of the features by layer.
    """

    image: Tensor

    def __init__(self, widths: dict[int, int]) -> None:
        super().__init__()
        self.levels = tuple(widths)
        self.register_buffer(_IMAGE, torch.empty(1, 3, 0, 0))
        for level, width in widths.items():
            self.register_buffer(f"layer{level}", torch.empty(1, width, 0, 0))

    @property
    def ready(self) -> bool:
        """Whether a reference has been chosen."""
        return self.image.numel() > 0

    def features(self, level: int) -> Tensor:
        """Features (1, C, H, W) of the reference at a layer."""
        return getattr(self, f"layer{level}")

    def fill(self, image: Tensor, features: Sequence[Tensor]) -> None:
        """Keep the image (1, 3, H, W) and its features, one (1, C, H, W) per layer of ``levels``."""
        self._resize(_IMAGE, image.shape).copy_(image)
        for level, values in zip(self.levels, features, strict=True):
            self._resize(f"layer{level}", values.shape).copy_(values)

    def clear(self) -> None:
        """Forget the reference."""
        for name, buffer in list(self.named_buffers()):
            self._resize(name, (*buffer.shape[:2], 0, 0))

    def _resize(self, name: str, shape: Sequence[int]) -> Tensor:
        buffer: Tensor = getattr(self, name)
        if buffer.shape != torch.Size(shape):
            setattr(self, name, buffer.new_empty(tuple(shape)))
        return getattr(self, name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in list(self.named_buffers()):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.ndim == 4 and stored.shape[:2] == buffer.shape[:2]:
                self._resize(name, stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
