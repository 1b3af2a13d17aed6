"""Hashes of files, and files and folders that are written completely or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from anomalib_plus.files import file_hash, replace_file, unfinished_folder


def test_hash(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file(tmp_path / "state.json", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "state.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").read_text() == "old"


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, replace: bool) -> None:
    folder = tmp_path / "new" / "set"

    def write(name: str) -> None:
        with unfinished_folder(folder, replace=replace) as unfinished:
            (unfinished / name).touch()
            if name == "bad":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("bad")
    assert not list(folder.parent.iterdir())
    folder.mkdir()
    write("first")
    if replace:
        write("second")
    else:
        with pytest.raises(OSError, match="not empty"):
            write("second")
    with pytest.raises(KeyboardInterrupt):
        write("bad")
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
    assert [path.name for path in folder.iterdir()] == ["second" if replace else "first"]


def test_two_processes_may_write_one_folder(tmp_path: Path) -> None:
    with unfinished_folder(tmp_path / "set", replace=True) as slower:
        with unfinished_folder(tmp_path / "set") as faster:
            (faster / "faster").touch()
        (slower / "slower").touch()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["slower"]
