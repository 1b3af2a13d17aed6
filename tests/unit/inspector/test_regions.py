"""The largest region of a map, and overlays."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.inspector.regions import draw_overlay, largest_region, marked_region, save_overlay


def test_the_largest_region_is_measured() -> None:
    anomaly_map = np.zeros((20, 30), np.float32)
    anomaly_map[2:5, 1:3] = 0.9  # six pixels
    anomaly_map[10:12, 20:23] = 0.6
    anomaly_map[12, 23] = 0.51  # the seventh touches at a corner
    anomaly_map[15, 5:20] = 0.5  # not above the threshold
    assert largest_region(anomaly_map, 0.5) == (20, 10, 4, 3, 7)
    assert largest_region(anomaly_map, 0.9) is None
    assert largest_region(np.full((4, 4), np.nan, np.float32), 0.5) is None


def test_a_rejected_image_below_the_threshold_shows_its_highest_part() -> None:
    anomaly_map = np.full((20, 30), -0.2, np.float32)
    anomaly_map[2:5, 1:3] = 0.4
    anomaly_map[8, 9] = 0.09  # below the middle
    assert marked_region(anomaly_map, 0.5, is_rejected=True) == (1, 2, 2, 3, 6)
    assert marked_region(anomaly_map, 0.5, is_rejected=False) is None
    assert marked_region(anomaly_map, 0.05, is_rejected=True) == largest_region(anomaly_map, 0.05)
    anomaly_map[19, 29] = 0.7
    assert marked_region(anomaly_map, 0.5, is_rejected=True) == (29, 19, 1, 1, 1), "above the threshold"
    for flat in (0.2, np.nan):
        assert marked_region(np.full((4, 4), flat, np.float32), 0.5, is_rejected=True) is None


def test_an_overlay_shows_the_image_the_map_and_the_region() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    anomaly_map = np.zeros((40, 60), np.float32)
    anomaly_map[10:20, 30:50] = 0.95
    anomaly_map[30, 5] = np.nan
    region = largest_region(anomaly_map, 0.5)
    overlay = np.asarray(draw_overlay(pixels, anomaly_map, 0.5, region)).astype(int)
    assert overlay.shape == pixels.shape
    assert overlay[15, 40, 0] > overlay[15, 40, 2] + 30, "red"
    assert overlay[0, 0, 2] > overlay[15, 40, 2], "blue"
    assert (overlay[9, 29:51] == 255).all()
    assert (overlay[9:21, 50] == 255).all()
    pixels[:] = 0
    assert np.asarray(draw_overlay(pixels, anomaly_map, 0.5, region))[0, 0].sum() < overlay[0, 0].sum()


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("a.jpg", "a.jpg.png"),
        ("../parts/a.png", "parent/parts/a.png.png"),
        ("/data/a.png", "data/a.png.png"),
        (os.fsdecode(b"\xff.png"), os.fsdecode(b"\xff.png.png")),
    ],
)
def test_an_overlay_has_the_path_of_its_image(tmp_path: Path, image: str, place: str) -> None:
    save_overlay(Image.new("RGB", (8, 8)), tmp_path / "overlays", Path(image))
    files = [path for path in (tmp_path / "overlays").rglob("*") if path.is_file()]
    assert files == [tmp_path / "overlays" / place]


def test_an_overlay_of_a_long_name_is_saved(tmp_path: Path) -> None:
    for end in "ab":
        save_overlay(Image.new("RGB", (8, 8)), tmp_path, Path("x" * 250 + end + ".png"))
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".png"]) == 2


def test_a_failed_overlay_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_overlay(Image.new("RGB", (8, 8)), tmp_path, Path("a"))
    before = (tmp_path / "a.png").read_bytes()

    def half(self: Image.Image, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="No space"):
        save_overlay(Image.new("RGB", (8, 8)), tmp_path, Path("a"))
    assert (tmp_path / "a.png").read_bytes() == before
