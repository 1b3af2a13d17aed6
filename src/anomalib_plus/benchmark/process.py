"""A Python module in a process of its own, which never outlives its parent: the runner of trainings and of exports."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

SUPERVISED = "--supervised"
"""Argument that tells the module to call :func:`end_with_parent`."""
_POLL_SECONDS = 0.2

Death = Literal["crash", "out_of_memory", "timeout"]


class ModuleProcess:
    """``python -m MODULE ARGUMENTS --supervised``, running; its standard input is the lifeline.

    Args:
        module: Calls :func:`end_with_parent` first.
        arguments: Its command line.
        log: Receives its output, behind what is there.
        timeout_seconds: :meth:`poll` ends the process after this time; None waits forever.
        environment: Variables to set in it.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        log: Path,
        timeout_seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._timed_out = False
        self._begin = time.monotonic()
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", module, *arguments, SUPERVISED],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._begin

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs; end it when its time is up."""
        if self.timeout_seconds is not None and self.seconds > self.timeout_seconds and self.process.poll() is None:
            self._timed_out = True
            self.end()
        return self.process.poll()

    def wait(self) -> int:
        """Return the exit status when there is one; an exception here, Ctrl-C for one, ends the process."""
        try:
            while (status := self.poll()) is None:
                time.sleep(_POLL_SECONDS)
        finally:
            self.end()
        return status

    def end(self) -> None:
        """Kill the process and all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def death(self) -> tuple[Death, str]:
        """Return kind and description of the end of a process that left no result."""
        status = self.process.wait()
        if self._timed_out:
            return "timeout", f"Not finished after {self.timeout_seconds:g} seconds."
        if status == -signal.SIGKILL:
            return "out_of_memory", "Killed by signal 9: where nobody did that, the system had run out of memory."
        if status < 0:
            return "crash", f"Killed by {signal.Signals(-status).name}."
        return "crash", f"The process ended with status {status} and left no record."


def end_with_parent() -> None:
    """End this process when the other end of its standard input is closed, as a kill of the parent does."""

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin: a thread that waits there aborts the interpreter's shutdown
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
