"""Paths that anomalib refuses because it accepts printable ASCII characters only."""

import os
from contextlib import suppress
from pathlib import Path

from anomalib.data.utils.path import contains_non_printable_characters

from anomalib_plus.image_files import printable

ADVICE = (
    "anomalib accepts paths of printable ASCII characters only. Make a link with an ASCII name to the image folder "
    "(ln -s FOLDER /tmp/images) and pass that. Folder needs normal_dir, abnormal_dir and mask_dir as full paths "
    "through the link, without root. For prediction, PredictImages accepts any path."
)


def acceptable_root(root: str | Path, category: str) -> Path:
    """Return a dataset's root folder in a form that anomalib accepts.

    Anomalib checks the path as given, so a path relative to the working folder is accepted if the character in question
    belongs to a parent of that folder.

    Raises:
        ValueError: If anomalib refuses both the path and its relative form.
    """
    if not contains_non_printable_characters(Path(root) / category):
        return Path(root)
    with suppress(ValueError):  # no relative path leads to another drive of Windows
        relative = Path(os.path.relpath(root))
        if not contains_non_printable_characters(relative / category):
            return relative
    msg = f"anomalib would refuse the path {printable(Path(root) / category)}. {ADVICE}"
    raise ValueError(msg)
