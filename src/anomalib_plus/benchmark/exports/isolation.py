"""Keep failures where they happen: exceptions become values, and crashes of another process exceptions here."""

import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


class ProcessError(RuntimeError):
    """What went wrong in the other process; the message is for people."""


def attempt(work: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Give the result and None, or None and what was raised, as one line; the traceback is printed."""
    try:
        return work(), None
    except Exception as error:
        traceback.print_exc()
        return None, in_one_line(error)


def in_one_line(error: Exception) -> str:
    """The kind of an exception and the first line of its message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def run_apart(function: Callable[..., Any], arguments: tuple[Any, ...], log: Path, timeout_seconds: float) -> Any:
    """Call a function in a new process and give what it returns.

    Args:
        function: An importable function.
        arguments: Its arguments; they and the result must be picklable.
        log: Receives the process's output.
        timeout_seconds: After that the process is killed.

    Raises:
        ProcessError: If the function raises, its process dies, or time is up.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, log, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_seconds):
            msg = f"Not finished after {timeout_seconds:g} seconds."
            raise ProcessError(msg)
        succeeded, result = receiver.recv()
    except EOFError as error:
        process.join()
        msg = f"The process ended with status {process.exitcode} (a negative one is a signal)."
        raise ProcessError(msg) from error
    finally:
        process.kill()
        process.join()
        receiver.close()
    if not succeeded:
        raise ProcessError(result)
    return result


def _call(sender: Connection, log: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with log.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    result, error = attempt(lambda: function(*arguments))
    sys.stdout.flush()  # this process ends by a kill as soon as its answer is there
    sys.stderr.flush()
    sender.send((True, result) if error is None else (False, error))
