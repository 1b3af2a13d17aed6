"""Run a Python module in a child process that ends with its parent; for trainings and exports."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from anomalib_plus.benchmark.record import FailureKind
from anomalib_plus.counts import counted

SUPERVISED = "--supervised"
"""Argument that tells the module to call :func:`end_with_parent`."""
_POLL_SECONDS = 0.2


class ModuleProcess:
    """Child process ``python -m MODULE ARGUMENTS --supervised``; it ends when its standard input is closed.

    The module calls :func:`end_with_parent` first. Its output is appended to ``log``; :meth:`poll` ends it after
    ``timeout_seconds`` (None: no limit); ``environment`` is added to the variables of this process.
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
        """Seconds since the start."""
        return time.monotonic() - self._begin

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs; end it after the timeout."""
        if self.timeout_seconds is not None and self.seconds > self.timeout_seconds and self.process.poll() is None:
            self._timed_out = True
            self.end()
        return self.process.poll()

    def wait(self) -> int:
        """Wait for the exit status; an exception meanwhile, such as Ctrl-C, ends the process."""
        try:
            while (status := self.poll()) is None:
                time.sleep(_POLL_SECONDS)
        finally:
            self.end()
        return status

    def end(self) -> None:
        """Kill the process and its children."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def failure(self) -> tuple[FailureKind, str]:
        """Return kind and description of the failure of a process that left no result."""
        status = self.process.wait()
        if self._timed_out:
            return "timeout", f"Not finished after {counted(self.timeout_seconds or 0, 'second')}."
        if status == -signal.SIGKILL:
            return "out_of_memory", "Killed by signal 9: probably by the system, out of memory."
        if status < 0:
            return "crash", f"Killed by {signal.Signals(-status).name}."
        return "crash", f"The process ended with status {status} and left no record."


def end_with_parent() -> None:
    """End this process when its parent closes the other end of standard input or dies."""

    def wait_for_end() -> None:
        while os.read(0, 1):  # not sys.stdin: a thread that waits there aborts the interpreter's shutdown
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()
