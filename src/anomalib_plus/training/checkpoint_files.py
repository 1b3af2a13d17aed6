"""Checkpoint files: atomic writing, reading without running code, and helpful errors."""

import io
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from anomalib.utils.serialization import anomalib_safe_globals
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from anomalib_plus.counts import counted

ORIGIN = "anomalib_plus"
"""Key of a checkpoint's entry with model and version."""
PART_SUFFIX = ".part"
"""Suffix of an unfinished file; the next checkpoint of the same name overwrites it."""
_ELSEWHERE = "Free disk space, change the permissions, or choose another folder by default_root_dir."


class CheckpointError(RuntimeError):
    """Error for a checkpoint that cannot be read or does not fit the model."""


class SafeCheckpointIO(CheckpointIO):
    """Checkpoint plugin of Lightning that writes local files atomically.

    Lightning itself writes to the system's temporary folder and moves the file. If that is another file system, the
    move is a copy, and a full disk or a kill leaves a truncated file in place of the last good one. If the folder is
    not writable, it skips the checkpoint without an error.

    Args:
        inner: Plugin that reads and removes files, and writes to remote file systems.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner = inner

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint; see :func:`write_whole`."""
        if storage_options is not None or not is_local(path):
            self.inner.save_checkpoint(checkpoint, path, storage_options)
        else:
            content = io.BytesIO()
            torch.save(checkpoint, content)
            write_whole(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, without running code from it unless ``weights_only=False``.

        Raises:
            CheckpointError: If it is damaged, contains code or is not a checkpoint.
        """
        with explained(path):
            checkpoint = self.inner.load_checkpoint(path, map_location, weights_only is not False)
            check_is_checkpoint(checkpoint)
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Tear down the inner plugin."""
        self.inner.teardown()


class SafeCheckpoints(Callback):
    """Wrap the trainer's checkpoint plugin in :class:`SafeCheckpointIO`, unless it writes in its own way."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Wrap the plugin before anything is read or written."""
        current = trainer.strategy.checkpoint_io
        if type(current).save_checkpoint is TorchCheckpointIO.save_checkpoint:
            trainer.strategy.checkpoint_io = SafeCheckpointIO(current)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Raise ``OSError`` at the start of the fit if checkpoints cannot be written."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for callback in trainer.checkpoint_callbacks:
                folder = getattr(callback, "dirpath", None)
                writes = getattr(callback, "save_top_k", 1) or getattr(callback, "save_last", None)
                if folder and writes and is_local(folder):
                    check_writable(Path(folder))


def check_writable(folder: Path) -> None:
    """Raise ``OSError`` unless files can be created in the folder, which need not exist yet."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    effective = os.access in os.supports_effective_ids
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK, effective_ids=effective)):
        error = PermissionError if existing.is_dir() else NotADirectoryError
        msg = f"No checkpoint can be written to {folder}: {existing} is not a writable folder. {_ELSEWHERE}"
        raise error(msg)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically: write and sync a temporary file in the same folder, and rename it.

    Raises:
        OSError: If that fails; an existing file stays intact.
    """
    part = path.with_name(f".{path.name}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        state = "the previous one is intact" if path.exists() else "earlier checkpoints are intact"
        msg = (
            f"The checkpoint {path} ({len(content) / 2**20:.1f} MiB) could not be written: {error.strerror} "
            f"({_free_space(path.parent)} left in that folder); {state}. {_ELSEWHERE} Resume from a checkpoint by "
            "ckpt_path=FILE."
        )
        raise OSError(error.errno, msg) from error


def _free_space(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB"
    except OSError:
        return "unknown space"


@contextmanager
def explained(path: Any) -> Iterator[None]:
    """Convert torch's errors on reading a file to a :class:`CheckpointError` that names file, fault and remedy."""
    try:
        yield
    except (OSError, MemoryError, CheckpointError):
        raise
    except pickle.UnpicklingError as error:
        # torch names the first object that is neither tensor nor plain data.
        msg = (
            f"The checkpoint {path} was refused: it is damaged, or holds more than tensors and plain data, which could "
            f"run code when loaded. Use a checkpoint that this library wrote. ({_shorten(error)})"
        )
        raise CheckpointError(msg) from error
    except Exception as error:  # a damaged pickle fails in any way: KeyError, UnicodeDecodeError, struct.error, ...
        if not isinstance(path, str | Path) or (isinstance(error, RuntimeError) and _can_be_read(path)):
            raise
        msg = (
            f"The checkpoint {path} cannot be read: it is {_damage(path)}. Copy it again, or use an earlier one. "
            f"({_shorten(error)})"
        )
        raise CheckpointError(msg) from error


def _damage(path: str | Path) -> str:
    try:
        size = Path(path).stat().st_size
    except OSError:  # a URL (s3://), or removed meanwhile
        return "damaged or incomplete"
    return f"damaged or incomplete ({counted(size, 'byte')})" if size else "empty"


def _can_be_read(path: str | Path) -> bool:
    """Return True if a file can be read on the CPU, so that an error was not its fault but, for example, the GPU's."""
    try:
        load_on_cpu(path)
    except OSError:  # a remote file may be intact
        return True
    except Exception:
        return False
    return True


def is_local(path: Any) -> bool:
    """Return True for a path of the local file system, False for an open file or a URL (``s3://``)."""
    return isinstance(path, str | Path) and "://" not in str(path)


@contextmanager
def _opened(source: Any) -> Iterator[Any]:
    """Open a URL, or yield an open file and restore its offset afterwards."""
    if isinstance(source, str | Path):
        with get_filesystem(source).open(str(source), "rb") as stream:
            yield stream
    else:
        offset = source.tell()
        yield source
        source.seek(offset)


def load_on_cpu(path: Any) -> Any:
    """Read a file without running code from it; memory-map its weights if the format allows."""
    with anomalib_safe_globals():
        if not is_local(path):
            with _opened(path) as stream:
                return torch.load(stream, map_location="cpu", weights_only=True)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # torch's old file format


def check_is_checkpoint(content: Any) -> None:
    """Raise ``CheckpointError`` unless the content is a Lightning checkpoint whose entries have the right types."""
    if not (isinstance(content, dict) and isinstance(content.get("state_dict"), dict)):
        found = (
            f"a dictionary of {', '.join(map(str, list(content)[:3]))}, ..."
            if isinstance(content, dict)
            else type(content)
        )
        msg = (
            f"This is not a checkpoint of a training, which has a 'state_dict', but {found}. Pass weights of a "
            "pre-trained network to the model's argument for them, for example weights=FILE."
        )
        raise CheckpointError(msg)
    faults = list(_wrong_parts(content))
    if faults:
        msg = f"This checkpoint is damaged or of another library: {'; '.join(faults)}. Use an earlier one."
        raise CheckpointError(msg)


def _wrong_parts(checkpoint: dict[Any, Any]) -> Iterator[str]:
    version, arguments = checkpoint.get("pytorch-lightning_version"), checkpoint.get("hyper_parameters", {})
    if not isinstance(version, str):
        yield "its 'pytorch-lightning_version' is missing" if version is None else "its Lightning version is no string"
    if not (isinstance(arguments, dict) and all(isinstance(name, str) for name in arguments)):
        yield "its 'hyper_parameters' are not a dictionary of names"
    origin = checkpoint.get(ORIGIN, {"model": "", "version": ""})
    if not (isinstance(origin, dict) and all(isinstance(origin.get(name), str) for name in ("model", "version"))):
        yield f"its '{ORIGIN}' does not name model and version"
    for name, value in checkpoint["state_dict"].items():
        # torch lets modules store other objects than tensors under this suffix.
        if not (isinstance(value, Tensor) or str(name).endswith("_extra_state")):
            yield f"its weight {name!r} is not a tensor but {type(value).__name__}"
            return


def _shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
