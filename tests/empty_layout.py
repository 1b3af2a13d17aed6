"""Empty folders in MVTec layout, for tests that read no image."""

from pathlib import Path


def make_categories(root: Path, *names: str) -> Path:
    """Create categories without images below a folder and return it."""
    for name in names:
        (root / name / "train" / "good").mkdir(parents=True)
        (root / name / "test").mkdir()
    return root
