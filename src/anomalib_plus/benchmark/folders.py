"""Categories in folders of data, and titles for the folders."""

from collections.abc import Sequence
from pathlib import Path


def find_categories(root: Path, parts: Sequence[str] = ("train/good", "test")) -> list[str]:
    """Names of the folders in ``root`` with all of the folders ``parts``, by default those of MVTec AD's layout."""
    return [name for name in subfolders(root) if all((root / name / part).is_dir() for part in parts)]


def subfolders(root: Path) -> list[str]:
    """Names of the folders in ``root``; empty if it does not exist."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def folder_titles(roots: Sequence[Path]) -> list[str]:
    """Names of the folders, with as many parents in front as are needed to make them unique."""
    places = [root.resolve() for root in roots]
    return [_title(place, {*places} - {place}) for place in places]


def _title(place: Path, others: set[Path]) -> str:
    length = 1
    while any(other.parts[-length:] == place.parts[-length:] for other in others):
        length += 1
    return Path(*place.parts[-length:]).as_posix()
