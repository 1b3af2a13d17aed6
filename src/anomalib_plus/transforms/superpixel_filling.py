"""Superpixel random filling (SURF): whole superpixels filled with random colours.

Park et al., "Two-stream decoder feature normality estimating network for industrial anomaly detection", section 3.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from anomalib_plus.counts import counted
from anomalib_plus.transforms.augmenter import Augmenter, SyntheticBatch
from anomalib_plus.transforms.draws import check_severity
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.image_batch import as_image_batch
from anomalib_plus.transforms.region import Region, RegionOfInterest
from anomalib_plus.transforms.superpixel_cache import LabelMap, SuperpixelCache
from anomalib_plus.transforms.superpixel_colours import draw_fillings, draw_opacity, fill_superpixels
from anomalib_plus.transforms.superpixel_labels import superpixel_labels
from anomalib_plus.transforms.visibility import Grey, check_grey, ensure_visible, gets_grey

_PAPER_SEGMENTS = 400
_PAPER_SIZE = 352


class SuperpixelFilling(Augmenter):
    """Fill a fixed number of superpixels per image, each with one random colour or grey, opaque or half-transparent.

    Superpixels cost 0.1 s per image, everything else a few table lookups, so label maps are cached. Without ``keys``
    an image is recognised by its content, which must be read (on CUDA: waited for). With ``keys`` a cached image is not
    read at all. A key together with the image size and ``preparation`` stands for one label map: give keys (paths, say)
    only if nothing random, no crop or flip, happens to the images before.

    Args:
        n_segments: Superpixels asked for; their number comes out within a few percent on images above 100x100. None for
            the paper's 400 at 352x352, scaled with the side: 145 at 128x128. (Scaled with the area, 53 large ones would
            be left there, and far fewer shapes to learn from.)
        n_filled: Superpixels filled per image, all of them if there are fewer; None for an eighth of ``n_segments``,
            as the paper's 50 are of 400.
        probability: Share of images that get filled superpixels.
        grey: Fill with greys instead of colours: True, False, or "auto" for images without colours, whose
            channels differ by less than 0.02 on average, and where colour alone would give the defect away.
        opacity: Of the filling, one number or a range to draw from per superpixel; the paper's is 1.
        max_cache_bytes: Memory for label maps (248 kB per 352x352 image); the least recently used leaves first.
        cache_folder: Folder in which label maps are kept between runs; None keeps them in memory only.
        severity: In (0, 1]: fills this share of ``n_filled`` superpixels, at least one, and makes sure that they can be
            seen. None fills all ``n_filled``, visible or not.
        roi: Region of filled superpixels and labels, see :class:`anomalib_plus.transforms.defect.Defect`; superpixels
            are cut off at its border.
        foreground_polarity: Side of Otsu's threshold that is the object, for a ``roi`` of "foreground".

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        n_segments: int | None = None,
        n_filled: int | None = None,
        probability: float = 1.0,
        grey: Grey = False,
        opacity: float | tuple[float, float] = 1.0,
        max_cache_bytes: int = 2**30,
        cache_folder: str | Path | None = None,
        severity: float | None = None,
        roi: RegionOfInterest = None,
        foreground_polarity: Polarity = "auto",
    ) -> None:
        super().__init__()
        self.n_segments = n_segments
        self.n_filled = n_filled
        self.probability = probability
        check_grey(grey)
        self.grey = grey
        self.opacity = (opacity, opacity) if isinstance(opacity, int | float) else (opacity[0], opacity[1])
        self.counts(_PAPER_SIZE, _PAPER_SIZE)
        if not 0 <= probability <= 1:
            msg = f"probability must lie in [0, 1], got {probability}."
            raise ValueError(msg)
        if not 0 <= self.opacity[0] <= self.opacity[1] <= 1:
            msg = f"opacity must be a number in [0, 1] or a range (low, high) in it, got {opacity}."
            raise ValueError(msg)
        if max_cache_bytes < 0:
            msg = f"max_cache_bytes must not be negative, got {max_cache_bytes}."
            raise ValueError(msg)
        self.preparation = ""
        """Description of earlier steps, a part of every key, because other crops get other label maps."""
        self.max_cache_bytes = max_cache_bytes
        self.cache_folder = cache_folder
        check_severity(severity)
        self.severity = severity
        self.roi = roi
        self.foreground_polarity = foreground_polarity
        self.region = Region(roi, foreground_polarity)
        self.cache = SuperpixelCache(
            max_cache_bytes,
            None if cache_folder is None else Path(cache_folder),
            settings=f"SLICO {n_segments} filled {n_filled}",
        )

    def counts(self, height: int, width: int) -> tuple[int, int]:
        """Numbers of superpixels asked for and filled in an image of this size.

        Raises:
            ValueError: If more are to be filled than asked for, or none.
        """
        n_segments, n_filled = self.n_segments, self.n_filled
        if n_segments is None:
            n_segments = max(round(_PAPER_SEGMENTS * math.sqrt(height * width) / _PAPER_SIZE), 1)
        if n_filled is None:
            n_filled = max(round(n_segments / 8), 1)
        if not 1 <= n_filled <= n_segments:
            msg = f"n_filled must lie between 1 and n_segments={n_segments}, got {n_filled}"
            msg += f": {height}x{width} pixels have so few superpixels." if self.n_segments is None else "."
            raise ValueError(msg)
        return n_segments, n_filled

    def forward(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        keys: Sequence[str] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Fill superpixels in a copy of ``images``.

        Labels and colours are drawn on the host, image by image, so a CPU ``generator`` gives the same result on every
        device and for every batch size.

        Args:
            images: RGB (B, 3, H, W) or (3, H, W), float in [0, 1]; left as it is.
            generator: CPU generator; torch's default one if None.
            keys: One name per image under which its label map is cached; see the class.

        Returns:
            Corrupted images and their masks (B, 1, H, W) or (1, H, W), 1 where a superpixel was filled, else 0.

        Raises:
            ValueError: If the images are not RGB, far out of [0, 1] (seen when a label map is made), or if there is not
                one key per image.
        """
        batch = as_image_batch(images)
        _check_rgb(batch)
        if keys is not None and (isinstance(keys, str) or len(keys) != len(batch)):
            msg = f"keys must be a list of {counted(len(batch), 'string')}, one per image, got {keys!r}."
            raise ValueError(msg)
        maps = self._label_maps(batch, keys)
        counts = [label_map.n_labels for label_map in maps]
        region = None if self.region.is_everywhere else self.region.masks(batch)
        candidates = None
        if region is not None:
            where = region.cpu()
            candidates = [label_map.labels[own[0]].unique() for label_map, own in zip(maps, where, strict=True)]
        _, n_filled = self.counts(*batch.shape[-2:])
        n_filled = max(1, round(n_filled * (1 if self.severity is None else self.severity)))
        colours, filled = draw_fillings(counts, n_filled, self.probability, generator, candidates)
        opacity = draw_opacity(filled, self.opacity, generator)
        labels = torch.stack([label_map.labels for label_map in maps])
        labels, colours, filled, opacity = (
            _to_device(values, batch.device) for values in (labels, colours, filled, opacity)
        )
        if self.grey is not False:
            colours = torch.where(gets_grey(batch, self.grey).squeeze(3), colours[:, :1], colours)
        corrupted, masks = fill_superpixels(batch, labels, colours, filled, opacity)
        if region is not None:
            corrupted, masks = torch.where(region, corrupted, batch), masks * region
        if self.severity is not None:
            corrupted, masks = ensure_visible(batch, batch.float(), corrupted.float(), masks.float(), 0.5)
        return (corrupted, masks) if images.ndim == 4 else (corrupted[0], masks[0])

    def corrupt(
        self, images: Tensor, generator: torch.Generator | None = None, keys: Sequence[str] | None = None
    ) -> SyntheticBatch:
        """Do what :meth:`forward` does; the images remain the target."""
        return SyntheticBatch(images, *self(images, generator, keys))

    def prepare(self, images: Any, transform: Callable[[Tensor], Tensor], description: str, progress: bool) -> None:
        """Compute the superpixels of all images; see :meth:`warm`."""
        self.preparation = description
        self.warm(images, transform=transform, progress=progress)

    def warm(
        self,
        images: Any,
        keys: Sequence[str] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> int:
        """Fill the cache before the first epoch, on several threads.

        Args:
            images: Anything with ``len()`` and indexing that gives RGB tensors (3, H, W) in [0, 1] or items of an
                anomalib dataset; those bring their ``image_path`` as key.
            keys: One key per image, as they will be given to ``forward``.
            transform: Applied to an image before ``forward`` sees it (resizing).
            workers: Threads; the number of CPUs if None.
            progress: Draw a progress bar.

        Returns:
            Number of label maps that were made, the others having been cached before.
        """
        if keys is not None and len(keys) != len(images):
            msg = f"warm() got {counted(len(keys), 'key')} for {counted(len(images), 'image')}."
            raise ValueError(msg)

        def warm_one(index: int) -> int:
            item = images[index]
            image, key = (item, None) if isinstance(item, Tensor) else (item.image, item.image_path)
            batch = as_image_batch(image if transform is None else transform(image))
            _check_rgb(batch)
            if keys is not None:
                key = keys[index]
            (label_map,) = self._label_maps(batch, None if key is None else [key])
            return label_map.labels.nbytes

        misses_before = self.cache.misses
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            sizes = pool.map(warm_one, range(len(images)))
            needed = sum(track(sizes, "Superpixels", total=len(images), disable=not progress))
        if needed > self.cache.max_bytes and self.cache.folder is None:
            msg = (
                f"The label maps take {needed / 2**20:.0f} MiB, the cache holds {self.cache.max_bytes / 2**20:.0f}: "
                "most will be computed again in every epoch. Give it more bytes or a folder."
            )
            warnings.warn(msg, stacklevel=2)
        return self.cache.misses - misses_before

    def _label_maps(self, images: Tensor, keys: Sequence[str] | None) -> list[LabelMap]:
        height, width = images.shape[-2:]
        if keys is None:
            images = _on_host(images)
            keys = [hashlib.sha1(image.numpy(), usedforsecurity=False).hexdigest() for image in images]
        suffix = f" {height}x{width} {self.preparation}".rstrip()
        return [self._label_map(key + suffix, image) for key, image in zip(keys, images, strict=True)]

    def _label_map(self, key: str, image: Tensor) -> LabelMap:
        label_map = self.cache.get(key)
        if label_map is None:
            pixels = _on_host(image).permute(1, 2, 0).numpy()
            n_segments, n_filled = self.counts(*image.shape[-2:])
            # Half of what was asked counts as degenerate at the latest, or a large n_filled would never see one.
            least = max(min(2 * n_filled, n_segments // 2), 2)
            labels = torch.from_numpy(superpixel_labels(pixels, n_segments, least))
            label_map = LabelMap(labels, int(labels.max()) + 1)
            self.cache.put(key, label_map)
        return label_map


def _check_rgb(images: Tensor) -> None:
    if images.shape[1] != 3:
        msg = f"Superpixels need RGB images, (B, 3, H, W) or (3, H, W), got {images.shape[1]} channels."
        raise ValueError(msg)


def _on_host(images: Tensor) -> Tensor:
    return images.detach().to("cpu", torch.float32).contiguous()


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to ``device``; from pinned memory where the copy can then run behind the host's back."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
