"""Errors of which the message says enough, told apart from faults in the code, of which the traceback is needed."""

import linecache
from traceback import walk_tb

_KINDS = (ValueError, OSError, RuntimeError, FloatingPointError)
_NAME_MISSING_FILES = {"anomalib", "lightning"}


def find_expected(error: BaseException) -> BaseException | None:
    """Find the error that this package raised on purpose, in ``error`` itself or in jsonargparse's summary of errors.

    Expected is what a ``raise`` statement of this package made, and a ``FileNotFoundError`` that one of anomalib or
    Lightning made. Errors of the same kinds also come out of calls that fail by mistake, ``int("x")`` for one: these
    are not expected, nor is anything where the source is not there to look at.

    Returns:
        None if the error is not expected.
    """
    places = list(walk_tb(error.__traceback__))
    if not places or not isinstance(error, _KINDS):
        return None
    frame, line = places[-1]
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    if package == "jsonargparse":  # it chains none of the errors of a model's constructor
        inner = frame.f_locals.get("exceptions", ())
        return next(filter(None, map(find_expected, inner)), None)
    ours = package == "anomalib_plus" or (package in _NAME_MISSING_FILES and isinstance(error, FileNotFoundError))
    on_purpose = linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")
    return error if ours and on_purpose else None
