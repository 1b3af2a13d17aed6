"""Distinguish expected errors, whose message suffices, from bugs, whose traceback is needed."""

import linecache
from traceback import walk_tb

_KINDS = (ValueError, OSError, RuntimeError, FloatingPointError)
_NAME_MISSING_FILES = {"anomalib", "lightning"}


def find_expected(error: BaseException) -> BaseException | None:
    """Return the expected error in ``error`` or in jsonargparse's summary of errors; None if there is none.

    Expected are errors from a ``raise`` statement of this package, and a ``FileNotFoundError`` from one of anomalib or
    Lightning. Errors of failed calls, such as ``int("x")``, are bugs, and so is any error without source code.
    """
    places = list(walk_tb(error.__traceback__))
    if not places or not isinstance(error, _KINDS):
        return None
    frame, line = places[-1]
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    if package == "jsonargparse":  # it does not chain the errors of a model's constructor
        inner = frame.f_locals.get("exceptions", ())
        return next(filter(None, map(find_expected, inner)), None)
    ours = package == "anomalib_plus" or (package in _NAME_MISSING_FILES and isinstance(error, FileNotFoundError))
    on_purpose = linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")
    return error if ours and on_purpose else None
