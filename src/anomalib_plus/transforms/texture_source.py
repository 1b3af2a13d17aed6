"""Images to paste from: a bounded number of textures, held in memory as bytes."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.image_files import IMAGE_FORMATS, IMAGE_SUFFIXES, find_readable_files
from anomalib_plus.transforms.histogram import byte_histograms
from anomalib_plus.transforms.procedural_textures import procedural_textures

NUM_PROCEDURAL_TEXTURES = 128
SELF = "self"


class TextureSource:
    """A pool of textures to draw from at training speed.

    The pool is filled once, at the first use or by :meth:`load`, and never read from disk again. Creating a source
    touches no disk, so a checkpoint that names a texture folder opens on machines that lack it. The pool belongs to the
    process: it is in no ``state_dict`` and is left out when the source is pickled. Before data loader workers are
    forked, call :meth:`load`, and they share one pool.

    Args:
        folder: Folder of images of any kind, searched recursively (DTD, ImageNet, photographs). Without one the pool
            holds procedural textures and a warning says so. With "self" there is no pool: the textures are other
            locations of the batch's images, so that grey images get grey ones. (A folder of that name is "./self".)
        max_images: Most images in the pool; a larger folder gives a random subset.
        max_bytes: Most memory for the pool; an image takes 3 * height * width bytes.
        seed: Chooses the subset, and draws the procedural textures.

    Raises:
        ValueError: If a limit is not positive.
    """

    def __init__(
        self, folder: str | Path | None = None, max_images: int = 1000, max_bytes: int = 2**28, seed: int = 0
    ) -> None:
        if max_images < 1 or max_bytes < 1:
            msg = f"max_images and max_bytes must be positive, got {max_images} and {max_bytes}."
            raise ValueError(msg)
        self.is_self = folder == SELF
        self.folder = None if folder is None or self.is_self else Path(folder)
        self.max_images = max_images
        self.max_bytes = max_bytes
        self.seed = seed
        self._pool: Tensor | None = None
        self._histograms: Tensor | None = None

    @classmethod
    def build(cls, source: "TextureSource | str | Path | Mapping[str, Any] | None") -> "TextureSource":
        """Return a source: the one that is given, or one of a folder, of arguments by name, or of no folder."""
        if isinstance(source, TextureSource):
            return source
        return cls(**source) if isinstance(source, Mapping) else cls(source)

    def config(self) -> dict[str, Any]:
        """Return the arguments as plain data."""
        folder = SELF if self.is_self else None if self.folder is None else str(self.folder)
        return {"folder": folder, "max_images": self.max_images, "max_bytes": self.max_bytes, "seed": self.seed}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None, "_histograms": None}

    def check(self) -> None:
        """Look for the folder without reading its images, so that a training can fail before it starts.

        Raises:
            FileNotFoundError: If the folder does not exist or holds no image.
        """
        if self._pool is None and self.folder is not None:
            _image_paths(self.folder)

    def load(self, size: tuple[int, int]) -> Tensor:
        """Fill the pool with textures of ``size`` (height, width), unless it is already filled, and return it.

        Returns:
            (N, 3, height, width), uint8, on the host.

        Raises:
            FileNotFoundError: If the folder does not exist or holds no image.
            ValueError: If a file cannot be read as an image, or if the source is "self", which has no pool.
        """
        if self.is_self:
            msg = 'TextureSource("self") has no pool: its textures come from each batch.'
            raise ValueError(msg)
        if self._pool is None:
            limit = max(1, min(self.max_images, self.max_bytes // (3 * size[0] * size[1])))
            generator = torch.Generator().manual_seed(self.seed)
            if self.folder is None:
                warnings.warn(
                    "No texture folder given: anomalies are filled with procedural textures. A folder of natural "
                    "images, for instance the Describable Textures Dataset, gives more varied ones.",
                    stacklevel=2,
                )
                self._pool = procedural_textures(min(limit, NUM_PROCEDURAL_TEXTURES), size, generator)
            else:
                paths = _image_paths(self.folder)
                chosen = torch.randperm(len(paths), generator=generator)[:limit].tolist()
                self._pool = torch.stack([_read_texture(paths[index], size) for index in chosen])
        return self._pool

    def sample(
        self,
        count: int,
        size: tuple[int, int],
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        images: Tensor | None = None,
    ) -> Tensor:
        """Draw ``count`` textures with replacement.

        The first ``size`` asked for is the one the pool is held in; other sizes are resized on ``device``.

        Args:
            count: Number of textures.
            size: Height and width.
            device: Where they are needed.
            generator: CPU generator; torch's default one if None.
            images: (B, 3, height, width) in [0, 1], the batch; needed by a source of "self" only.

        Returns:
            (count, 3, height, width), uint8, on ``device``.

        Raises:
            ValueError: If the source is "self" and there are no images.
        """
        return self.sample_counted(count, size, device, generator, images)[0]

    def sample_counted(
        self,
        count: int,
        size: tuple[int, int],
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        images: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Do what :meth:`sample` does and return the histograms too, which are counted once for the whole pool.

        Returns:
            The textures and, if they are as they lie in the pool, their histograms (count, 3, 256) on the host.
        """
        if self.is_self:
            if images is None:
                msg = 'TextureSource("self") takes textures from the batch: give its images.'
                raise ValueError(msg)
            return _other_places(images, count, generator), None
        pool = self.load(size)
        chosen = torch.randint(len(pool), (count,), generator=generator)
        textures = pool.index_select(0, chosen).to(device, non_blocking=True)
        if textures.shape[2:] != size:
            return tv.resize(textures, list(size), antialias=True), None
        if self._histograms is None:
            self._histograms = byte_histograms(pool)
        return textures, self._histograms.index_select(0, chosen)


def _other_places(images: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Move random images of a batch by at least a quarter of their sides, mirrored at the borders; uint8."""
    height, width = images.shape[2:]
    chosen = torch.randint(len(images), (count,), generator=generator).tolist()
    shares = torch.rand(count, 2, generator=generator) * 1.5 + 0.25
    flips = torch.rand(count, 2, generator=generator) < 0.5
    moved = []
    for index, share, flip in zip(chosen, shares.tolist(), flips.tolist(), strict=True):
        places = []
        for side, part, is_flipped in zip((height, width), share, flip, strict=True):
            place = (torch.arange(side) + int(part * side)) % (2 * side)
            place = torch.minimum(place, 2 * side - 1 - place)
            places.append((place.flip(0) if is_flipped else place).to(images.device, non_blocking=True))
        moved.append(images[index].index_select(1, places[0]).index_select(2, places[1]))
    return torch.stack(moved).float().mul_(255).round_().clamp_(0, 255).byte()


def _image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        msg = f"Texture folder {folder} does not exist. Give a folder of images, or None for procedural textures."
        raise FileNotFoundError(msg)
    paths = find_readable_files(folder, "Texture folder")
    if not paths:
        msg = f"Texture folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)})."
        raise FileNotFoundError(msg)
    return paths


def _read_texture(path: Path, size: tuple[int, int]) -> Tensor:
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            image.draft("RGB", (size[1], size[0]))  # lets a JPEG be decoded at a fraction of its size
            if image.mode.startswith(("I", "F")):  # 16-bit greys, which convert("RGB") would clip at 255
                values = np.asarray(image, dtype=np.float32)
                eight_bit = Image.fromarray((values * (255 / max(values.max(), 1))).clip(0, 255).astype(np.uint8))
            else:
                eight_bit = image
            resized = eight_bit.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow raises all of these
        msg = f"Texture {path} cannot be read as an image: {error}. Repair it or take it out of the folder."
        raise ValueError(msg) from error
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
