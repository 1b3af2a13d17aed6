"""The list of skipped images, which must not cost anybody the predictions."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.data.predict_images import PredictImages, report_skipped


@pytest.fixture
def images(tmp_path: Path) -> PredictImages:
    """One that can be read, and one that cannot."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "good.png")
    (folder / "bad.png").touch()
    (folder / "telephone.heic").touch()
    return PredictImages(folder, skip_bad_images=True)


def test_a_folder_that_cannot_be_written_costs_the_file_only(
    images: PredictImages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        report_skipped([images], tmp_path / "file" / "results")
    listed, failed = [record.getMessage() for record in caplog.records[-2:]]
    assert "1 image predicted, 2 skipped" in listed
    assert "bad.png: is empty (0 bytes)" in listed
    assert "telephone.heic: has a format that is not read (.heic)" in listed
    assert "could not be written: " in failed
    assert "Not a directory" in failed


def test_nothing_skipped_writes_nothing_but_over_an_older_list(images: PredictImages, tmp_path: Path) -> None:
    good = PredictImages(tmp_path / "images" / "good.png", skip_bad_images=True)
    report_skipped([good], tmp_path / "results")
    assert not (tmp_path / "results").exists()
    report_skipped([images], tmp_path / "results")
    assert len((tmp_path / "results" / "skipped_images.csv").read_text().splitlines()) == 3
    report_skipped([good], tmp_path / "results")
    assert (tmp_path / "results" / "skipped_images.csv").read_text().splitlines() == ["path,reason"]
