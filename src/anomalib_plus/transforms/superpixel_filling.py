"""Superpixel random filling (SURF): whole superpixels repainted with random colours.

Park et al., "Two-stream decoder feature normality estimating network for industrial anomaly detection", section 3.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from anomalib_plus.transforms.augmenter import Augmenter, SyntheticBatch
from anomalib_plus.transforms.draws import check_severity
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.image_batch import as_image_batch
from anomalib_plus.transforms.region import Region, RegionOfInterest
from anomalib_plus.transforms.superpixel_cache import LabelMap, SuperpixelCache
from anomalib_plus.transforms.superpixel_labels import superpixel_labels
from anomalib_plus.transforms.visibility import ensure_visible


class SuperpixelFilling(Augmenter):
    """Repaint a fixed number of superpixels per image, each with one random colour.

    Superpixels cost 0.1 s per image, everything else a few table lookups, so label maps are cached. Without ``keys``
    an image is recognised by its content, which must be read (on CUDA: waited for). With ``keys`` a cached image is not
    read at all. A key together with the image size and ``preparation`` stands for one label map: give keys (paths, say)
    only if nothing random, no crop or flip, happens to the images before.

    Args:
        n_segments: Superpixels asked for; their number comes out within a few percent on images above 100x100.
        n_filled: Superpixels repainted per image, 12.5 % of the area by default; all of them if there are fewer.
        probability: Share of images that are repainted.
        max_cache_bytes: Memory for label maps (248 kB per 352x352 image); the least recently used leaves first.
        cache_folder: Where label maps are kept between runs; None keeps them in memory only.
        severity: In (0, 1]: ``n_filled`` is what it fills at 1, fewer below; what is filled can be seen. None fills
            ``n_filled`` of them whatever comes out.
        roi: Where superpixels and labels may lie, see :class:`anomalib_plus.transforms.defect.Defect`; superpixels
            are cut off at its border.
        foreground_polarity: Which side of Otsu's threshold is the object, for a ``roi`` of "foreground".

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        n_segments: int = 400,
        n_filled: int = 50,
        probability: float = 1.0,
        max_cache_bytes: int = 2**30,
        cache_folder: str | Path | None = None,
        severity: float | None = None,
        roi: RegionOfInterest = None,
        foreground_polarity: Polarity = "auto",
    ) -> None:
        super().__init__()
        if not 1 <= n_filled <= n_segments:
            msg = f"n_filled must lie between 1 and n_segments={n_segments}, got {n_filled}."
            raise ValueError(msg)
        if not 0 <= probability <= 1:
            msg = f"probability must lie in [0, 1], got {probability}."
            raise ValueError(msg)
        if max_cache_bytes < 0:
            msg = f"max_cache_bytes must not be negative, got {max_cache_bytes}."
            raise ValueError(msg)
        self.preparation = ""
        """What happens to the images before, in words: part of every key, so that other crops get other label maps."""
        self.n_segments = n_segments
        self.n_filled = n_filled
        self.probability = probability
        self.max_cache_bytes = max_cache_bytes
        self.cache_folder = cache_folder
        check_severity(severity)
        self.severity = severity
        self.roi = roi
        self.foreground_polarity = foreground_polarity
        self.region = Region(roi, foreground_polarity)
        # Half of what was asked counts as degenerate at the latest, or a large n_filled would never see a superpixel.
        self.min_segments = min(2 * n_filled, n_segments // 2)
        self.cache = SuperpixelCache(
            max_cache_bytes,
            None if cache_folder is None else Path(cache_folder),
            settings=f"SLICO {n_segments} at least {self.min_segments}",
        )

    def forward(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        keys: Sequence[str] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Repaint a copy of ``images``.

        Labels and colours are drawn on the host, image by image, so a CPU ``generator`` gives the same result on every
        device and for every batch size.

        Args:
            images: RGB (B, 3, H, W) or (3, H, W), float in [0, 1]; left as it is.
            generator: CPU generator; torch's default one if None.
            keys: One name per image under which its label map is cached; see the class.

        Returns:
            Repainted images and their masks (B, 1, H, W) or (1, H, W): 1 where a superpixel was repainted, else 0.

        Raises:
            ValueError: If the images are not RGB, far out of [0, 1] (seen when a label map is made), or if there is not
                one key per image.
        """
        batch = as_image_batch(images)
        _check_rgb(batch)
        if keys is not None and (isinstance(keys, str) or len(keys) != len(batch)):
            msg = f"keys must be a list of {len(batch)} strings, one per image, got {keys!r}."
            raise ValueError(msg)
        maps = self._label_maps(batch, keys)
        counts = [label_map.n_labels for label_map in maps]
        region = None if self.region.is_everywhere else self.region.masks(batch)
        candidates = None
        if region is not None:
            where = region.cpu()
            candidates = [label_map.labels[own[0]].unique() for label_map, own in zip(maps, where, strict=True)]
        n_filled = max(1, round(self.n_filled * (1 if self.severity is None else self.severity)))
        colours, filled = draw_fillings(counts, n_filled, self.probability, generator, candidates)
        labels = torch.stack([label_map.labels for label_map in maps])
        device = batch.device
        repainted, masks = fill_superpixels(
            batch, _to_device(labels, device), _to_device(colours, device), _to_device(filled, device)
        )
        if region is not None:
            repainted, masks = torch.where(region, repainted, batch), masks * region
        if self.severity is not None:
            repainted, masks = ensure_visible(batch, batch.float(), repainted.float(), masks.float(), 0.5)
        return (repainted, masks) if images.ndim == 4 else (repainted[0], masks[0])

    def corrupt(
        self, images: Tensor, generator: torch.Generator | None = None, keys: Sequence[str] | None = None
    ) -> SyntheticBatch:
        """Do what :meth:`forward` does; the images remain the target."""
        return SyntheticBatch(images, *self(images, generator, keys))

    def check(self) -> None:
        """Raise ``FileNotFoundError`` or ``ValueError`` if the region of interest is a file that cannot be used."""
        self.region.check()

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
            transform: What happens to an image before ``forward`` sees it (resizing).
            workers: Threads; the number of CPUs if None.
            progress: Whether a progress bar is drawn.

        Returns:
            Number of label maps that were made, the others having been cached before.
        """
        if keys is not None and len(keys) != len(images):
            msg = f"warm() got {len(keys)} keys for {len(images)} images."
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
            labels = torch.from_numpy(superpixel_labels(pixels, self.n_segments, self.min_segments))
            label_map = LabelMap(labels, int(labels.max()) + 1)
            self.cache.put(key, label_map)
        return label_map


def draw_fillings(
    counts: Sequence[int],
    n_filled: int,
    probability: float = 1.0,
    generator: torch.Generator | None = None,
    candidates: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose ``n_filled`` of each image's ``counts[i]`` superpixels (all if there are fewer) and a colour for each.

    With ``candidates``, the labels to choose from, one list per image, the others are left alone.

    Returns:
        Colours (B, 3, max(counts)), uniform in [0, 1), and which superpixels are repainted, bool (B, 1, max(counts)).
    """
    colours = torch.zeros(len(counts), 3, max(counts))
    filled = torch.zeros(len(counts), 1, max(counts), dtype=torch.bool)
    for index, count in enumerate(counts):
        if torch.rand((), generator=generator) < probability:
            if candidates is None:
                chosen = torch.randperm(count, generator=generator)[:n_filled]
            else:
                own = candidates[index].long()
                chosen = own[torch.randperm(len(own), generator=generator)[:n_filled]]
            colours[index, :, chosen] = torch.rand(3, len(chosen), generator=generator)
            filled[index, :, chosen] = True
    return colours, filled


def fill_superpixels(images: Tensor, labels: Tensor, colours: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Look up each pixel's colour by its label.

    Args:
        images: (B, 3, H, W).
        labels: Integer label maps (B, H, W), values below L.
        colours: (B, 3, L).
        filled: Which labels take their colour, bool (B, 1, L).

    Returns:
        Repainted images and masks (B, 1, H, W), both of the images' dtype.
    """
    index = labels.flatten(1).long().unsqueeze(1)
    masks = filled.gather(2, index).unflatten(2, labels.shape[1:])
    colours = colours.to(images.dtype).gather(2, index.expand(-1, 3, -1)).unflatten(2, labels.shape[1:])
    return torch.where(masks, colours, images), masks.to(images.dtype)


def _check_rgb(images: Tensor) -> None:
    if images.shape[1] != 3:
        msg = f"Superpixels need RGB images, (B, 3, H, W) or (3, H, W), got {images.shape[1]} channels."
        raise ValueError(msg)


def _on_host(images: Tensor) -> Tensor:
    return images.detach().to("cpu", torch.float32).contiguous()


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to ``device``; from pinned memory where the copy can then run behind the host's back."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
