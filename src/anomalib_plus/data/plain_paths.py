"""Paths that anomalib refuses because of a letter such as é: it takes printable ASCII characters only."""

import os
from contextlib import suppress
from pathlib import Path

from anomalib.data.utils.path import contains_non_printable_characters

from anomalib_plus.data.image_files import printable

ADVICE = (
    "anomalib takes paths of printable ASCII characters only. Make a link with a plain name to the image folder "
    "(ln -s FOLDER /tmp/images) and pass that. Folder needs normal_dir, abnormal_dir and mask_dir as full paths "
    "through the link, without root. To predict, PredictImages takes any path."
)


def acceptable_root(root: str | Path, category: str) -> Path:
    """Find a form of a data set's root folder that anomalib takes.

    Anomalib looks at the path as it is given, so a path relative to the working folder passes if the letter is above
    that folder.

    Raises:
        ValueError: If neither the path nor its relative form will do.
    """
    if not contains_non_printable_characters(Path(root) / category):
        return Path(root)
    with suppress(ValueError):  # no relative path leads to another drive of Windows
        relative = Path(os.path.relpath(root))
        if not contains_non_printable_characters(relative / category):
            return relative
    msg = f"anomalib would refuse the path {printable(Path(root) / category)}. {ADVICE}"
    raise ValueError(msg)
