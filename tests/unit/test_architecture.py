"""The rooms of the package: their order, what they may name, and how large files and functions may be."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import anomalib_plus.models

PACKAGE = Path(anomalib_plus.models.__file__).parents[1]
ORDER = (
    "data",
    "transforms",
    "validation",
    "layers",
    "metrics",
    "post_processing",
    "deployment",
    "training",
    "tiling",
    "models",
    "benchmark",
    "report",
    "gallery",
    "inspector",
)
"""A room imports itself and those before it."""
NAMELESS = (
    "data",
    "transforms",
    "validation",
    "layers",
    "metrics",
    "post_processing",
    "deployment",
    "training",
    "tiling",
    "benchmark",
    "report",
    "inspector",
)
"""Rooms whose code and templates name no model of ours."""
FILES = sorted(PACKAGE.rglob("*.py"))
MODELS = sorted(path for path in (PACKAGE / "models").iterdir() if (path / "torch_model.py").exists())


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere but under ``if TYPE_CHECKING``; relative ones made absolute."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    package = ("anomalib_plus", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = [*package[: len(package) - node.level + 1], node.module] if node.level else [node.module]
            module = ".".join(part for part in parts if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "anomalib_plus" and len(parts) > 1 and parts[1] in ORDER else None


def test_every_folder_is_a_room() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == set(ORDER)


@pytest.mark.parametrize("path", [file for file in FILES if file.parent != PACKAGE], ids=relative)
def test_no_import_against_the_order(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    later = {name for name in imports(path) if (found := room_of(name)) and ORDER.index(found) > ORDER.index(room)}
    assert not later


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_models_stand_alone(folder: Path) -> None:
    others = {path.name for path in MODELS} - {folder.name}
    for file in folder.glob("*.py"):
        modules = set(imports(file))
        assert not {name for name in modules if name.split(".")[1:2] == ["models"] and set(name.split(".")) & others}
        if file.name == "torch_model.py":
            assert not {name for name in modules if name.endswith(".loss") or name.split(".")[0] == "lightning"}
            assert not {name for name in modules if name.startswith("anomalib.engine")}
        if file.name == "loss.py":
            assert not {name for name in modules if name.endswith((".torch_model", ".lightning_model"))}


@pytest.mark.parametrize("room", NAMELESS)
def test_only_models_name_models(room: str) -> None:
    names = re.compile(rf"\b({'|'.join(anomalib_plus.models.__all__)})\b", re.IGNORECASE)
    templates = [file for file in (PACKAGE / room).rglob("*") if file.suffix in {".j2", ".js"}]
    assert not [file for file in templates if names.search(file.read_text())]
    for file in (PACKAGE / room).rglob("*.py"):
        tree = ast.parse(file.read_text())
        documented = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }  # docstrings may cite a paper
        code = [
            node.value if isinstance(node, ast.Constant) else getattr(node, "id", getattr(node, "attr", ""))
            for node in ast.walk(tree)
            if id(node) not in documented
        ]
        assert not [text for text in code if isinstance(text, str) and names.search(text)], file


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":  # constructors list their arguments
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
