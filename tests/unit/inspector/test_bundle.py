"""What a bundle says about itself, and what is said of one that cannot be used."""

import json
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from anomalib_plus.inspector import BundleError, BundleInfo, Inspector, bundle, read_bundle_info, write_bundle_info
from tiny_bundle import CALIBRATION, write_tiny_bundle


def edit(folder: Path, **changes: object) -> None:
    file = folder / "inspector.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in (content | changes).items() if value != "remove"}))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = write_tiny_bundle(
        tmp_path / "bundle", calibration_scores=CALIBRATION[::-1], preset="small/tsdn", choices=[{"model": "Tiny"}]
    )
    info = read_bundle_info(folder)
    assert (info.name, info.preset, info.format, info.image_size) == ("Tiny", "small/tsdn", "onnx", (32, 32))
    assert info.calibration_scores == CALIBRATION, "in ascending order"
    assert info.supported_rate == 0.01
    assert list(info.files) == ["model.onnx"]
    content = json.loads((folder / "inspector.json").read_text())
    assert content["schema"] == 1
    assert content["choices"] == [{"model": "Tiny"}]
    assert content["versions"].keys() >= {"anomalib_plus", "anomalib", "torch", "onnxruntime"}
    assert sorted(path.name for path in folder.iterdir()) == ["inspector.json", "model.onnx"]
    assert write_bundle_info(folder, info).identity == info.identity
    assert info.identity is info.identity, "not computed for each image"
    assert read_bundle_info(write_tiny_bundle(tmp_path / "other", threshold=0.6)).identity != info.identity


def test_parts_stay_with_their_scores(tmp_path: Path) -> None:
    scores, parts = [0.3, 0.1, 0.4, 0.2], [7, 7, 2, 7]
    folder = write_tiny_bundle(tmp_path / "bundle", calibration_scores=scores, calibration_parts=parts)
    info = read_bundle_info(folder)
    assert (info.calibration_scores, info.calibration_parts) == ((0.1, 0.2, 0.3, 0.4), (7, 7, 7, 2))
    assert (info.number_of_parts, info.supported_rate) == (2, 1 / 3)
    assert json.loads((folder / "inspector.json").read_text())["calibration_parts"] == [7, 7, 7, 2]
    edit(folder, calibration_parts="remove")  # as in bundles of earlier versions
    older = read_bundle_info(folder)
    assert (older.calibration_parts, older.number_of_parts, older.supported_rate) == (None, 4, 0.2)
    assert older.identity != info.identity, "their p-values differ"
    edit(folder, calibration_parts=[3, 5, 4, 0])
    alone = read_bundle_info(folder)
    assert (alone.calibration_parts, alone.identity) == (None, older.identity), "each shows another part"


def test_brightness_stays_with_its_score(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, calibration_scores=[0.3, 0.1, 0.2], calibration_brightness=[30, 10.5, 20])
    info = read_bundle_info(folder)
    assert info.calibration_brightness == (10.5, 20, 30)
    edit(folder, calibration_brightness="remove")  # as in bundles of earlier versions
    older = read_bundle_info(folder)
    assert (older.calibration_brightness, older.identity) == (None, info.identity), "it changes no decision"


@pytest.mark.parametrize("name", ["model.onnx", "roi.png"])
def test_an_edited_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "roi.png").write_bytes(b"white")
    write_tiny_bundle(tmp_path, roi="roi.png")
    with (tmp_path / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=f"{name} of the bundle .* was changed .*copy the whole folder"):
        Inspector.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}:"):
        Inspector.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2, "versions": {"anomalib_plus": "0.9"}}, r"schema 2, .* reads schema 1: install .* \(0.9\)"),
        ({"schema": "remove"}, "schema None"),
        ({"calibration_scores": "remove"}, "incomplete .*calibration_scores.*: build the bundle again"),
        ({"calibration_scores": []}, "got 0, 0 of them finite"),
        ({"calibration_scores": [0.1, np.nan]}, "got 2, 1 of them finite"),
        ({"format": "tensorrt"}, "'tensorrt' of a bundle is unknown: use one of openvino, onnx, torch"),
        ({"threshold": "remove"}, "lacks threshold: copy the whole folder"),
        ({"files": "remove"}, "lacks files"),
        *(
            ({"threshold": value}, "threshold .* must be a finite number, got")
            for value in (np.nan, np.inf, None, "0.5")
        ),
        ({"calibration_scores": "many"}, "incomplete .*: build the bundle again"),
        (
            {"calibration_parts": [1, 2]},
            "must be one whole number for each of 99 calibration scores, got 2 values such as",
        ),
        (
            {"calibration_brightness": [9.5]},
            "from 0 to 255 for each of 99 calibration scores, got 1 value such",
        ),
        ({"calibration_brightness": [256] * 99}, r"got 99 values such as \[256.0, 256.0, 256.0\]: build the bundle"),
        ({"calibration_brightness": [np.nan] * 99}, "number from 0 to 255"),
        ({"calibration_parts": ["a"] * 99}, r"got 99 values such as \['a', 'a', 'a'\]: build the bundle again"),
        ({"calibration_parts": [[1], 2]}, "incomplete .*: build the bundle again"),
        ({"files": ["model.onnx"]}, "incomplete"),
        ({"schema": 2, "versions": ["0.9"]}, r"schema 2, .* \(unknown\)"),
        ({"files": {}}, "model.onnx .* was changed"),
        ({"files": {"../model.onnx": ""}}, r"lacks \.\./model.onnx"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_unusable_description_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "model.onnx").touch()
    edit(folder, **changes)
    with pytest.raises(BundleError, match=message):
        read_bundle_info(folder)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_that_is_no_bundle_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "inspector.json").write_text(content)
    with pytest.raises(BundleError, match=r"no bundle|damaged|schema None"):
        read_bundle_info(tmp_path)


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_bundle(tmp_path)
    monkeypatch.setattr(bundle, "find_spec", lambda name: None if name == "onnxruntime" else util.find_spec(name))
    with pytest.raises(BundleError, match=r"format onnx and needs onnxruntime.*: pip install onnxruntime"):
        Inspector.load(tmp_path)


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_model_that_the_runtime_cannot_load_is_named(tmp_path: Path, form: str) -> None:
    """It may be one of a newer version."""
    for name in bundle.MODEL_FILES[form]:
        (tmp_path / name).write_text("<net")
    info = BundleInfo("Tiny", form, (32, 32), CALIBRATION, versions={"onnxruntime": "99.0", "openvino": "99.0"})
    write_bundle_info(tmp_path, info)
    with pytest.raises(BundleError, match=r"cannot be loaded by \w+ \d.*; the bundle was built with 99.0. \w+: "):
        Inspector.load(tmp_path)


def test_a_runtime_may_come_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = bundle.metadata.version

    def find(name: str) -> str:
        if name == "onnxruntime":  # installed as onnxruntime-gpu
            raise bundle.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(bundle.metadata, "version", find)
    info = read_bundle_info(write_tiny_bundle(tmp_path))
    assert info.versions["onnxruntime"] == "unknown"


def test_a_bundle_without_its_model_is_not_written(tmp_path: Path) -> None:
    info = BundleInfo("Tiny", "openvino", (32, 32), CALIBRATION)
    with pytest.raises(FileNotFoundError, match=r"lacks model.xml, model.bin: export"):
        write_bundle_info(tmp_path, info)
    assert list(tmp_path.iterdir()) == []
