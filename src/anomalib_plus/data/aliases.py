"""Datamodules of anomalib under the usual names of their data sets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from anomalib.data import BTech, MVTecAD

from anomalib_plus.data.mask_pairs import check_mask_pairs
from anomalib_plus.data.plain_paths import acceptable_root


@contextmanager
def _explained_download(folder: Path) -> Iterator[None]:
    """Name the missing folder if anomalib's download of its data set fails: often, only the root is misspelt."""
    try:
        yield
    except URLError as error:
        msg = (
            f"{folder} is missing, and the download of the data set failed ({error.reason}). Pass the folder that "
            f"contains {folder.name} as root (--data.root), or download the data set into {folder.parent}."
        )
        raise FileNotFoundError(msg) from error


class MVTec(MVTecAD):
    """anomalib's :class:`anomalib.data.MVTecAD` under a shorter name, which results folders get too."""

    root: Path

    def prepare_data(self) -> None:
        """Download the data set if its folder is missing.

        Raises:
            FileNotFoundError: If the folder is missing and the download fails.
        """
        with _explained_download(Path(self.root) / self.category):
            super().prepare_data()

    def _setup(self, _stage: str | None = None) -> None:
        self.root = acceptable_root(self.root, self.category)
        check_mask_pairs(self)
        super()._setup(_stage)


class BTAD(BTech):
    """anomalib's :class:`anomalib.data.BTech` (beanTech) under the name in its paper."""

    root: Path

    def prepare_data(self) -> None:
        """Download the data set if its folder is missing.

        Raises:
            FileNotFoundError: If the folder is missing and the download fails.
        """
        with _explained_download(Path(self.root) / self.category):
            super().prepare_data()

    def _setup(self, _stage: str | None = None) -> None:
        self.root = acceptable_root(self.root, self.category)
        super()._setup(_stage)
