"""Presets: settings of a model that were measured together, as configuration files.

They lie in ``configs`` of the repository, and in this package where it is installed from a wheel. A new file is listed
by itself; its first comment line describes it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_FOLDER = "small"
"""Folder of ``configs`` with presets; the others hold recipes for one data set, and no settings of models."""


def preset_names() -> list[str]:
    """Return the names of all presets, e.g. ``small/tsdn``."""
    return [f"{_FOLDER}/{file.stem}" for file in sorted((_configs() / _FOLDER).glob("*.yaml"))]


def preset_path(name: str) -> Path:
    """Return the file of a preset, for ``anomalib train --config``; the error for an unknown name lists all."""
    known = preset_names()
    if name not in known:
        msg = f"There is no preset {name!r}; available: {', '.join(known)}."
        raise ValueError(msg)
    return _configs() / f"{name}.yaml"


def preset(name: str) -> dict[str, Any]:
    """Return the content of a preset: ``model`` with ``class_path`` and ``init_args``, ``trainer``; no data.

    ``TSDN.from_config(preset("small/tsdn"))`` builds the model.
    """
    return yaml.safe_load(preset_path(name).read_text(encoding="utf-8"))


def describe_preset(name: str) -> str:
    """Return the first comment line of a preset; empty if it begins otherwise."""
    first = preset_path(name).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _configs() -> Path:
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def main(arguments: Sequence[str]) -> int:
    """Print the path of a preset, or a line for each preset.

    Returns:
        The exit status 0. Wrong arguments exit with 2.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-plus config",
        description="Print the path of a preset: anomalib train --config $(anomalib-plus config NAME) --data ...",
    )
    parser.add_argument("name", nargs="?", help="name of the preset (default: list all)")
    name = parser.parse_args(arguments).name
    if name is None:
        sys.stdout.writelines(f"{each:14} {describe_preset(each)}\n" for each in preset_names())
        return 0
    try:
        sys.stdout.write(f"{preset_path(name)}\n")
    except ValueError as error:
        parser.error(str(error))
    return 0
