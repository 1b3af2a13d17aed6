"""Score, p-value, decision and map of single images."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.inspector import Inspector, UnreadableImageError
from anomalib_plus.inspector.inspection import brightness
from tiny_bundle import write_tiny_bundle


def image(red: int, size: tuple[int, int] = (32, 40)) -> np.ndarray:
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[3, 5, 0] = red
    return pixels


@pytest.mark.parametrize(
    ("red", "decision", "p_value"),
    [(0, "accept", 1), (51, "accept", 0.6), (127, "accept", 0.01), (128, "reject", 0.01)],
)
def test_an_array_and_a_file_are_inspected(tmp_path: Path, red: int, decision: str, p_value: float) -> None:
    inspector = Inspector.load(write_tiny_bundle(tmp_path / "bundle"))
    Image.fromarray(image(red)).save(tmp_path / "part.png")
    for prediction in (inspector(image(red)), inspector(tmp_path / "part.png"), inspector(str(tmp_path / "part.png"))):
        assert prediction.score == pytest.approx(red / 255)
        assert prediction.decision == decision
        assert prediction.p_value == pytest.approx(p_value)
        assert prediction.map.shape == (32, 40)
        assert prediction.map[3, 5] == pytest.approx(red / 255)
        assert prediction.map.sum() == pytest.approx(red / 255)


def test_brightness_is_the_mean_of_all_pixels() -> None:
    stripes = np.zeros((600, 40, 3), np.uint8)
    stripes[::2] = 255
    assert brightness(stripes) == 127.5
    assert brightness(np.full((16, 16, 3), (0, 1, 1), np.uint8)) == 0.67, "in steps of 0.01"


def outputs(score: float) -> dict[str, np.ndarray]:
    half_a_map = np.concatenate([np.zeros((1, 1, 2, 4)), np.ones((1, 1, 2, 4))], axis=2).astype(np.float32)
    return {"pred_score": np.array([score], np.float32), "anomaly_map": half_a_map}


@pytest.mark.parametrize(
    ("score", "decision", "p_value"), [(0.5, "accept", 0.01), (np.nan, "reject", 0.01), (np.inf, "reject", 0.01)]
)
def test_the_threshold_itself_is_accepted_and_nan_is_not(
    tmp_path: Path, score: float, decision: str, p_value: float
) -> None:
    info = Inspector.load(write_tiny_bundle(tmp_path)).info
    prediction = Inspector(info, lambda _: outputs(score))(image(0, (64, 48)))
    assert (prediction.decision, prediction.p_value) == (decision, pytest.approx(p_value))
    assert prediction.map.shape == (64, 48), "enlarged to the image"
    assert (prediction.map[:24].max(), prediction.map[40:].min()) == (0, 1)


def test_the_p_value_counts_parts(tmp_path: Path) -> None:
    info = Inspector.load(write_tiny_bundle(tmp_path)).info
    of_parts = replace(info, calibration_scores=(0.1, 0.2, 0.3, 0.4), calibration_parts=(0, 0, 0, 1))
    found = [Inspector(of_parts, lambda _, s=score: outputs(s))(image(0)).p_value for score in (0.0, 0.25, 0.35, 0.5)]
    assert found == pytest.approx([1, (1 + 4 / 3) / 3, 2 / 3, 1 / 3])


def test_threads_share_an_inspector(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path)
    inspector = Inspector.load(tmp_path)
    reds = list(range(256)) * 2
    with ThreadPoolExecutor(8) as pool:
        scores = [prediction.score for prediction in pool.map(lambda red: inspector(image(red)), reds)]
    assert scores == pytest.approx([red / 255 for red in reds])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (np.zeros((32, 32), np.uint8), TypeError, r"\(32, 32\) of type uint8"),
        (np.zeros((3, 32, 32), np.uint8), TypeError, r"\(3, 32, 32\)"),
        (np.zeros((32, 32, 3), np.float32), TypeError, "float32"),
        (np.zeros((15, 400, 3), np.uint8), UnreadableImageError, "15x400 .* too few"),
    ],
)
def test_a_wrong_array_is_refused(tmp_path: Path, wrong: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Inspector.load(write_tiny_bundle(tmp_path))(wrong)


def test_a_model_of_a_fixed_size_refuses_others(tmp_path: Path) -> None:
    inspector = Inspector.load(write_tiny_bundle(tmp_path, size=(48, "width")))
    assert inspector(image(255, (48, 64))).decision == "reject"
    with pytest.raises(UnreadableImageError, match=r"has 64x48 pixels .* takes 48xany"):
        inspector(image(255, (64, 48)))


@pytest.mark.parametrize(
    ("name", "message"),
    [("cut.jpg", "damaged"), ("deep.png", "more than 8 bits"), ("gone.png", "not exist"), ("text.png", "not an image")],
)
def test_a_bad_file_is_refused(tmp_path: Path, name: str, message: str) -> None:
    Image.fromarray(image(9)).save(tmp_path / "whole.jpg", quality=95)
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UnreadableImageError, match=message):
        Inspector.load(write_tiny_bundle(tmp_path / "bundle"))(tmp_path / name)


START = """
import sys, time
start = time.perf_counter()
from anomalib_plus.inspector import Inspector
import numpy as np
Inspector.load(sys.argv[1])(np.zeros((32, 32, 3), np.uint8))
print(time.perf_counter() - start, sorted({"torch", "anomalib", "torchvision", "lightning"} & sys.modules.keys()))
"""


def test_inspection_starts_fast_and_without_torch(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path)
    command = [sys.executable, "-c", START, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    seconds, modules = shown.split(maxsplit=1)
    assert modules == "[]\n"
    assert float(seconds) < 10, "under 2 s on an idle machine; a busy one is given more"
