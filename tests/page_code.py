"""Code on the pages of ``docs``, to run as it stands there, apart from sizes and lengths."""

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page(name), flags=re.DOTALL)


def replaced(code: str, changes: dict[str, str]) -> str:
    """Replace each text, which must be there."""
    for written, small in changes.items():
        assert written in code
        code = code.replace(written, small)
    return code


def run(code: str, name: str) -> dict[str, Any]:
    """Run code of a page; return what it defines."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, name, "exec"), names)
    return names
