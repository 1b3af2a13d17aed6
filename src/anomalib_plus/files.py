"""Files and folders: hashes, and writing them completely or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def file_hash(path: Path) -> str:
    """Compute the SHA-256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """Yield a hidden path with the same ending, whose file takes the place of ``path`` at the end, or is removed."""
    unfinished = path.with_name(f".{uuid4().hex}{path.suffix}")  # another process may write the same file
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a new hidden folder, which takes the place of ``folder`` at the end, or is removed.

    Its parents are created. A killed process leaves the hidden folder. An existing folder must be empty, which is
    checked at the end (``OSError``), unless ``replace`` deletes its content.
    """
    # Another process may write the same folder.
    unfinished = folder.absolute().with_name(f".{folder.absolute().name}-{uuid4().hex}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def replace_file(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content; it is on the disk when this returns."""
    with unfinished_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    synchronise_folder(path.parent)


def synchronise_folder(folder: Path) -> None:
    """Write the names of a folder's files to the disk, where the system can."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
