"""Datamodules of anomalib under the usual names of their data sets."""

from pathlib import Path
from urllib.error import URLError

from anomalib.data import BTech, MVTecAD

from anomalib_plus.data.mask_pairs import check_mask_pairs
from anomalib_plus.data.plain_paths import acceptable_root


class _ExplainedData:
    """Mixin of the aliases: errors that name the folder, and roots that anomalib would refuse."""

    root: Path
    category: str

    def prepare_data(self) -> None:
        """Download the data set if its folder is missing.

        Raises:
            FileNotFoundError: If the folder is missing and the download fails.
        """
        folder = Path(self.root) / self.category
        try:
            super().prepare_data()  # type: ignore[misc]
        except URLError as error:  # often, only the root is misspelt
            msg = (
                f"{folder} is missing, and the download of the data set failed ({error.reason}). Pass the folder that "
                f"contains {folder.name} as root (--data.root), or download the data set into {folder.parent}."
            )
            raise FileNotFoundError(msg) from error

    def _setup(self, _stage: str | None = None) -> None:
        self.root = acceptable_root(self.root, self.category)
        check_mask_pairs(self)  # type: ignore[arg-type]
        super()._setup(_stage)  # type: ignore[misc]


class MVTec(_ExplainedData, MVTecAD):
    """anomalib's :class:`anomalib.data.MVTecAD` under a shorter name, which results folders get too."""


class BTAD(_ExplainedData, BTech):
    """anomalib's :class:`anomalib.data.BTech` (beanTech) under the name in its paper."""
