"""Checkpoint files: written whole or not at all, read without running code, and errors that say what to do."""

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

ORIGIN = "anomalib_plus"
"""Entry of a checkpoint with the names of model and version."""
PART_SUFFIX = ".part"
"""Of a file that is being written; the next checkpoint of the same name overwrites what an interruption left."""


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, cannot be read, or does not fit the model."""


class SafeCheckpointIO(CheckpointIO):
    """Read and write checkpoints of a local file system for Lightning.

    Lightning writes into the system's temporary folder and moves the file: where that is another file system the move
    is a copy, and a full disk or a kill in the middle of it leaves a torn file in the place of the last good one. A
    folder without write permission makes it skip the checkpoint without an error.

    Args:
        inner: Reads the files, removes them, and writes to places that are no local paths.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner = inner

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint.

        Raises:
            OSError: If that fails; a file that was there before is left as it was.
        """
        if storage_options is not None or "://" in str(path):
            self.inner.save_checkpoint(checkpoint, path, storage_options)
        else:
            content = io.BytesIO()
            torch.save(checkpoint, content)
            write_whole(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; without running code from it, unless ``weights_only=False`` is asked for.

        Raises:
            CheckpointError: If it is damaged, holds code or is no checkpoint.
        """
        with explained(path):
            checkpoint = self.inner.load_checkpoint(path, map_location, weights_only is not False)
            check_is_checkpoint(checkpoint)
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Let the inner one end its work."""
        self.inner.teardown()


class SafeCheckpoints(Callback):
    """Put :class:`SafeCheckpointIO` around the trainer's, unless that writes in a way of its own."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Do so, before anything is read or written."""
        current = trainer.strategy.checkpoint_io
        if type(current).save_checkpoint is TorchCheckpointIO.save_checkpoint:
            trainer.strategy.checkpoint_io = SafeCheckpointIO(current)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Look whether checkpoints can be written, not only when the first one is due.

        Raises:
            OSError: If they cannot.
        """
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for callback in trainer.checkpoint_callbacks:
                folder = getattr(callback, "dirpath", None)
                writes = getattr(callback, "save_top_k", 1) or getattr(callback, "save_last", None)
                if folder and writes and "://" not in str(folder):
                    check_writable(Path(folder))


def check_writable(folder: Path) -> None:
    """Raise ``OSError`` unless files can be made in the folder, or the folder itself where it does not exist yet."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    effective = os.access in os.supports_effective_ids
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK, effective_ids=effective)):
        error = PermissionError if existing.is_dir() else NotADirectoryError
        msg = f"No checkpoint can be written to {folder}: {existing} is no folder with write permission. {_ELSEWHERE}"
        raise error(msg)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file next to its place, have it on the disk, and move it there in one step.

    Raises:
        OSError: If that fails; what was there before is left as it was.
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
        state = "the one before it is intact" if path.exists() else "checkpoints written before are intact"
        msg = (
            f"The checkpoint {path} ({len(content) / 2**20:.1f} MiB) could not be written: {error.strerror} "
            f"({_free_space(path.parent)} left in that folder); {state}. {_ELSEWHERE} ckpt_path=FILE goes on from a "
            "checkpoint."
        )
        raise OSError(error.errno, msg) from error


_ELSEWHERE = "Make room or permit writing there, or choose another folder by default_root_dir."


def _free_space(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB"
    except OSError:
        return "unknown space"


@contextmanager
def explained(path: Any) -> Iterator[None]:
    """Turn what torch raises on reading a file into one :class:`CheckpointError` that names file, fault and remedy."""
    try:
        yield
    except (OSError, MemoryError, CheckpointError):
        raise
    except pickle.UnpicklingError as error:
        # torch names the first object that is neither tensor nor plain data.
        msg = (
            f"The checkpoint {path} was refused: it is damaged, or holds more than tensors and plain data, and loading "
            f"that could run any code. Use a checkpoint that this library wrote. ({_shorten(error)})"
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
    except OSError:  # of another place (s3://), or gone by now
        return "damaged or incomplete"
    return f"damaged or incomplete ({size} bytes)" if size else "empty"


def _can_be_read(path: str | Path) -> bool:
    """Whether the fault is not the file's but, for one, the memory of a GPU."""
    try:
        load_on_cpu(path)
    except OSError:  # of another place: it cannot be told
        return True
    except Exception:
        return False
    return True


def is_local(path: Any) -> bool:
    """Whether this is the path of a file, and neither an open file nor of another place (``s3://``)."""
    return isinstance(path, str | Path) and "://" not in str(path)


@contextmanager
def _opened(source: Any) -> Iterator[Any]:
    """A stream of an address or of an open file, which is left at the place where it was."""
    if isinstance(source, str | Path):
        with get_filesystem(source).open(str(source), "rb") as stream:
            yield stream
    else:
        place = source.tell()
        yield source
        source.seek(place)


def load_on_cpu(path: Any) -> Any:
    """Read a file without running code from it, and without its weights' values where its format allows that."""
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
    """Raise ``CheckpointError`` unless the content of a file is Lightning's dictionary with a model's weights.

    The parts on which loading relies must have the types that they have in every checkpoint of ours.
    """
    if not (isinstance(content, dict) and isinstance(content.get("state_dict"), dict)):
        found = (
            f"a dictionary of {', '.join(map(str, list(content)[:3]))}, ..."
            if isinstance(content, dict)
            else type(content)
        )
        msg = (
            f"This is no checkpoint of a training, which has a 'state_dict', but {found}. Weights of a pre-trained "
            "network go into the argument of the model that names them, for example weights=FILE."
        )
        raise CheckpointError(msg)
    faults = list(_wrong_parts(content))
    if faults:
        msg = f"This checkpoint is damaged, or something else wrote it: {'; '.join(faults)}. Use an earlier one."
        raise CheckpointError(msg)


def _wrong_parts(checkpoint: dict[Any, Any]) -> Iterator[str]:
    version, arguments = checkpoint.get("pytorch-lightning_version"), checkpoint.get("hyper_parameters", {})
    if not isinstance(version, str):
        yield "its 'pytorch-lightning_version' is missing" if version is None else "its Lightning version is no text"
    if not (isinstance(arguments, dict) and all(isinstance(name, str) for name in arguments)):
        yield "its 'hyper_parameters' are no dictionary of names"
    origin = checkpoint.get(ORIGIN, {"model": "", "version": ""})
    if not (isinstance(origin, dict) and all(isinstance(origin.get(name), str) for name in ("model", "version"))):
        yield f"its '{ORIGIN}' does not name model and version"
    for name, value in checkpoint["state_dict"].items():
        # torch lets modules keep other things than tensors under this ending.
        if not (isinstance(value, Tensor) or str(name).endswith("_extra_state")):
            yield f"its weight {name!r} is no tensor but {type(value).__name__}"
            return


def _shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
