"""Label maps kept between epochs: bounded in memory, optionally in a folder that survives the process."""

import hashlib
import threading
import warnings
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anomalib_plus.files import unfinished_file


class LabelMap(NamedTuple):
    """Superpixels of one image: int16 host tensor (H, W) with labels 0 ... n_labels - 1."""

    labels: Tensor
    n_labels: int


class SuperpixelCache:
    """Label maps by key; in memory the least recently used leaves first.

    Copies and pickles (a spawned loader worker, an exported model) start with an empty memory and the same folder; a
    forked worker inherits what is there.

    Args:
        max_bytes: Bound of the label maps held in memory; a 352x352 map takes 248 kB. A larger map is not held.
        folder: Made when there is something to keep, never cleaned up; None keeps nothing on disk.
        settings: Description of all that the maps depend on besides key and image; part of the name of a file.
    """

    def __init__(self, max_bytes: int, folder: Path | None = None, settings: str = "") -> None:
        self.max_bytes = max_bytes
        self.folder = folder
        self.settings = f"{settings} scikit-image {version('scikit-image')}"
        self._forget()

    @property
    def nbytes(self) -> int:
        """Bytes of the label maps in memory."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._maps)

    def get(self, key: str) -> LabelMap | None:
        """Label map stored under ``key``, in memory or else on disk; None if there is none that can be read."""
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
                return self._maps[key]
        label_map = self._read(key)
        if label_map is None:
            self.misses += 1
        else:
            self._hold(key, label_map)
        return label_map

    def put(self, key: str, label_map: LabelMap) -> None:
        """Store a label map in memory and, if there is a folder, on disk."""
        self._hold(key, label_map)
        self._write(key, label_map)

    def _hold(self, key: str, label_map: LabelMap) -> None:
        if label_map.labels.nbytes > self.max_bytes:
            return
        with self._lock:
            self._nbytes += label_map.labels.nbytes
            if key in self._maps:
                self._nbytes -= self._maps.pop(key).labels.nbytes
            self._maps[key] = label_map
            while self._nbytes > self.max_bytes:
                _, oldest = self._maps.popitem(last=False)
                self._nbytes -= oldest.labels.nbytes

    def _file(self, key: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{hashlib.sha1(f'{self.settings} {key}'.encode(), usedforsecurity=False).hexdigest()}.npz"

    def _read(self, key: str) -> LabelMap | None:
        file = self._file(key)
        if file is None or not file.exists():
            return None
        try:
            with np.load(file) as archive:
                labels = torch.from_numpy(archive["labels"])
                return LabelMap(labels, int(labels.max()) + 1)
        except Exception:  # whatever broke the file (the archive carries a checksum), the map can be made anew
            return None

    def _write(self, key: str, label_map: LabelMap) -> None:
        """Write the file of a label map; warn if that fails."""
        file = self._file(key)
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with unfinished_file(file) as unfinished:
                np.savez_compressed(unfinished, labels=label_map.labels.numpy())
        except OSError as error:
            warnings.warn(f"Superpixels could not be stored in {self.folder}: {error}", stacklevel=2)

    def _forget(self) -> None:
        self._maps: OrderedDict[str, LabelMap] = OrderedDict()
        self._nbytes = 0
        self.misses = 0  # look-ups that found nothing, in memory or on disk
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes, "folder": self.folder, "settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
