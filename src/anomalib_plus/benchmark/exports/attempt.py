"""Exceptions as values, so that a part that fails hides no other."""

import traceback
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def attempt(work: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Return the result and None, or None and the exception as one line; the traceback is printed."""
    try:
        return work(), None
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        return None, f"{type(error).__name__}: {lines[0]}"
