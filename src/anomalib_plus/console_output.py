"""Console output of the ``anomalib-plus`` command: short warnings, and with ``--quiet`` nothing else of libraries."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ADVERTISING = ("💡 Tip", "The following callbacks returned in `LightningModule.configure_callbacks`")
"""Beginnings of Lightning's messages that are not about the run."""


@contextmanager
def less_output(quiet: bool) -> Iterator[None]:
    """Hide what libraries print for developers; with ``quiet``, hide all log messages but warnings and errors.

    A warning is one line, without the place in the code that raised it, and equal ones are printed once.
    """
    disabled, seen = logging.root.manager.disable, set[str]()

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        text = " ".join(str(message).split())
        if text not in seen:
            seen.add(text)
            sys.stderr.write(f"{category.__name__}: {text}\n")

    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = show
        if quiet:
            logging.disable(logging.INFO)
        try:
            yield
        finally:
            logging.disable(disabled)


def drop_advertising() -> None:
    """Drop messages of Lightning that are not about the run, in the handlers that exist."""
    for name in ("lightning.pytorch", "lightning.fabric", None):
        for handler in logging.getLogger(name).handlers:
            if _is_about_the_run not in handler.filters:
                handler.addFilter(_is_about_the_run)


def _is_about_the_run(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_ADVERTISING)
