"""Description of a bundle: a folder with an exported model and what is needed to use its scores."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import anomalib_plus
from anomalib_plus.counts import counted
from anomalib_plus.files import file_hash, replace_file
from anomalib_plus.image_files import printable
from anomalib_plus.post_processing.conformal_math import smallest_rate

SCHEMA = 1
"""Version of ``inspector.json``."""
INFO_FILE = "inspector.json"
MODEL_FILES = {"openvino": ("model.xml", "model.bin"), "onnx": ("model.onnx",), "torch": ("model.pt",)}
"""Files of a bundle by its format."""
RUNTIMES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "anomalib"}
"""Package that loads the model of a bundle, by its format."""
_OPTIONAL_FILES = ("model.onnx.data", "roi.png")
ALL_FILES = (INFO_FILE, *(name for names in MODEL_FILES.values() for name in names), *_OPTIONAL_FILES, "model.ckpt")
"""Files of bundles of every format; without the first, nothing takes the others for a bundle."""
_NEEDED = ("threshold", "files")
"""Values that are optional in ``BundleInfo``, and never missing in a file."""


class BundleError(ValueError):
    """Error for a folder that is no bundle, or one that cannot be used here; the message says what to do."""


def _versions() -> dict[str, str]:
    installed = [name for name in ("anomalib", "torch", "openvino", "onnxruntime") if find_spec(name)]
    return {"anomalib_plus": anomalib_plus.__version__, **{name: version_of(name) for name in installed}}


def version_of(package: str) -> str:
    """Return the version of an installed package; "unknown" if its distribution has another name (onnxruntime-gpu)."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class BundleInfo:
    """Content of ``inspector.json``.

    Args:
        name: Class of the model.
        format: ``"openvino"``, ``"onnx"`` or ``"torch"``.
        image_size: Height and width of the images that the network computes on.
        calibration_scores: ``pred_score`` of good images that the model was not trained on, as the exported model
            gives them. They are kept in ascending order.
        preset: Preset that the model was trained with.
        threshold: Larger values of ``pred_score`` are rejected. Pixels of the map above it are defective.
        false_alarm_rate: Share of good images that may be rejected.
        calibration_parts: Number of the part that each of these images shows, in the order of the scores; None if each
            shows another one. p-values and ``supported_rate`` count parts.
        calibration_brightness: Mean of the pixels of each of these images, 0 to 255, in the order of the scores. None
            if unknown: then there is no warning of other light.
        supported_rate: Smallest rate that the number K of parts supports, 1 / (K + 1).
        roi: Name of the image file that marks what is inspected. The exported model applies it.
        tiles: Settings of the tiling: ``tile``, ``overlap`` and ``scale``.
        seed: Seed of the training.
        data_sha256: Hash of the training data.
        choices: Choices that were made when the bundle was built, for people to read.
        warnings: Warnings of the build, which ``score`` and ``watch`` print.
        versions: Versions of the packages that built it.
        created: ISO 8601 time.
        files: SHA-256 of each file, by name; ``write_bundle_info`` computes it.

    Raises:
        BundleError: If a value is unusable.
    """

    name: str
    format: str
    image_size: tuple[int, int]
    calibration_scores: Sequence[float]
    preset: str | None = None
    threshold: float = 0.5
    false_alarm_rate: float = 0.01
    calibration_parts: Sequence[int] | None = None
    calibration_brightness: Sequence[float] | None = None
    supported_rate: float = field(init=False)
    roi: str | None = None
    tiles: Mapping[str, Any] | None = None
    seed: int = 0
    data_sha256: str = ""
    choices: Sequence[Any] = ()
    warnings: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=_versions)
    created: str = field(default_factory=_now)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format not in MODEL_FILES:
            msg = f"Format {self.format!r} of a bundle is unknown: use one of {', '.join(MODEL_FILES)}."
            raise BundleError(msg)
        if not isinstance(self.threshold, Real) or not math.isfinite(self.threshold):
            msg = f"The threshold of a bundle must be a finite number, got {self.threshold!r}: correct it."
            raise BundleError(msg)
        object.__setattr__(self, "threshold", float(self.threshold))
        scores = np.asarray(self.calibration_scores, np.float64)
        if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
            msg = (
                f"A bundle needs the finite scores of one or more good calibration images, got {scores.size}, "
                f"{int(np.isfinite(scores).sum())} of them finite: build it again with more good images."
            )
            raise BundleError(msg)
        order = np.argsort(scores, kind="stable")
        parts = _checked_parts(self.calibration_parts, len(scores))
        light = _checked_brightness(self.calibration_brightness, len(scores))
        object.__setattr__(self, "calibration_scores", tuple(scores[order].tolist()))
        object.__setattr__(self, "calibration_parts", None if parts is None else tuple(parts[order].tolist()))
        object.__setattr__(self, "calibration_brightness", None if light is None else tuple(light[order].tolist()))
        object.__setattr__(self, "image_size", tuple(self.image_size))
        object.__setattr__(self, "supported_rate", smallest_rate(self.number_of_parts))

    @property
    def number_of_parts(self) -> int:
        """Number of parts that the calibration images show."""
        return len(self.calibration_scores if self.calibration_parts is None else set(self.calibration_parts))

    @cached_property
    def identity(self) -> str:
        """Twelve hexadecimal digits that differ between bundles whose decisions or p-values can differ."""
        content: list[Any] = [dict(self.files), self.threshold, self.calibration_scores]
        if self.calibration_parts is not None:
            content.append(self.calibration_parts)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _checked_parts(parts: Sequence[int] | None, count: int) -> NDArray[np.int64] | None:
    """Return the numbers of the parts, or None if each of ``count`` images shows another one."""
    if parts is None:
        return None
    numbers = np.asarray(parts)
    if numbers.shape != (count,) or numbers.dtype.kind != "i":
        msg = (
            f"calibration_parts must be one whole number for each of {counted(count, 'calibration score')}, "
            f"got {counted(numbers.size, 'value')} such as {numbers.reshape(-1)[:3].tolist()}: build the bundle again."
        )
        raise BundleError(msg)
    return numbers if len(np.unique(numbers)) < count else None


def _checked_brightness(values: Sequence[float] | None, count: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    found = np.asarray(values, np.float64)
    if found.shape != (count,) or not ((found >= 0) & (found <= 255)).all():
        msg = (
            f"calibration_brightness must be one number from 0 to 255 for each of "
            f"{counted(count, 'calibration score')}, got {counted(found.size, 'value')} such as "
            f"{found.reshape(-1)[:3].tolist()}: build the bundle again."
        )
        raise BundleError(msg)
    return found


def write_bundle_info(folder: Path | str, info: BundleInfo) -> BundleInfo:
    """Write ``inspector.json`` of a bundle whose other files exist, completely or not at all.

    Returns:
        ``info`` with the hashes of the files.

    Raises:
        FileNotFoundError: If a file of the bundle is missing.
    """
    folder = Path(folder)
    needed = [*MODEL_FILES[info.format], *([info.roi] if info.roi else [])]
    if missing := [name for name in needed if not (folder / name).is_file()]:
        msg = f"The bundle {printable(folder)} lacks {', '.join(missing)}: export the model there first."
        raise FileNotFoundError(msg)
    names = sorted({*needed, *(name for name in _OPTIONAL_FILES if (folder / name).is_file())})
    info = replace(info, files={name: file_hash(folder / name) for name in names})
    replace_file(folder / INFO_FILE, json.dumps({"schema": SCHEMA, **asdict(info)}, indent=1))
    return info


def read_bundle_info(folder: Path | str) -> BundleInfo:
    """Read ``inspector.json`` and check that the bundle is complete, unchanged and usable here.

    Raises:
        BundleError: If it is not; the message says what to do.
    """
    folder = Path(folder)
    content = _read_json(folder)
    known = {known.name for known in fields(BundleInfo) if known.init}
    if missing := [name for name in _NEEDED if name not in content]:
        msg = f"{INFO_FILE} of the bundle {printable(folder)} lacks {', '.join(missing)}: copy the whole folder again."
        raise BundleError(msg)
    try:
        info = BundleInfo(**{name: value for name, value in content.items() if name in known})
        _check_files(folder, info)
    except BundleError:
        raise
    except (TypeError, ValueError) as error:  # a value is missing or of another type
        msg = f"{INFO_FILE} of the bundle {printable(folder)} is incomplete ({error}): build the bundle again."
        raise BundleError(msg) from error
    runtime = RUNTIMES[info.format]
    if find_spec(runtime) is None:
        msg = (
            f"The bundle {printable(folder)} has the format {info.format} and needs {runtime}, which is not installed: "
            f"pip install {runtime}"
        )
        raise BundleError(msg)
    return info


def _check_files(folder: Path, info: BundleInfo) -> None:
    needed = {**dict.fromkeys(MODEL_FILES[info.format], ""), **info.files}
    if missing := [name for name in needed if Path(name).name != name or not (folder / name).is_file()]:
        msg = f"The bundle {printable(folder)} lacks {', '.join(missing)}: copy the whole folder again."
        raise BundleError(msg)
    if edited := [name for name, expected in needed.items() if file_hash(folder / name) != expected]:
        msg = (
            f"{', '.join(edited)} of the bundle {printable(folder)} was changed after it was built (the SHA-256 "
            "differs), so the threshold may not fit the scores: copy the whole folder again, or build it again."
        )
        raise BundleError(msg)


def _read_json(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        if not folder.exists():
            msg = f"There is no folder {printable(folder)}: give the one that anomalib-plus build has written."
            raise BundleError(msg) from error
        msg = f"{printable(folder)} is no bundle, because {INFO_FILE} cannot be read: {error.strerror}."
        if (folder / "work").is_dir():
            msg += " A build there has not ended: start it again, and it goes on."
        raise BundleError(msg) from error
    except ValueError as error:
        msg = f"{INFO_FILE} of the bundle {printable(folder)} is damaged ({error}): copy the whole folder again."
        raise BundleError(msg) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        versions = content.get("versions") if isinstance(content, dict) else None
        made_by = versions.get("anomalib_plus", "unknown") if isinstance(versions, dict) else "unknown"
        msg = (
            f"The bundle {printable(folder)} has schema {schema}, and anomalib-plus {anomalib_plus.__version__} reads "
            f"schema {SCHEMA}: install the version that built it ({made_by}), or build it again."
        )
        raise BundleError(msg)
    return content
