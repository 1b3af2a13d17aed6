"""Progress of a build on disk, so that a build that was killed goes on where it was."""

import json
import time
from pathlib import Path
from typing import Any

from anomalib_plus.files import replace_file

FILE = "state.json"


def describe_work(folder: Path) -> str:
    """Say what the folder of jobs, logs, maps and synthetic images is for, and how large it is."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return (
        f"{folder} ({size / 1e6:.0f} MB) is for building again: no finished training is repeated. Inspector and report "
        "do not need it; it may be deleted."
    )


class BuildState:
    """Rounds with their budgets, the time spent, and what was chosen, in a JSON file.

    A state with another ``identity``, a hash of settings and data, is replaced; its results stay in the store of jobs,
    which repeats no job. The time counts from ``started``, a value of ``time.monotonic``.
    """

    def __init__(self, folder: Path, identity: str, started: float) -> None:
        self._file = folder / FILE
        content = self._read()
        self.continues = content.get("identity") == identity
        self.content: dict[str, Any] = content if self.continues else {"identity": identity, "seconds": 0.0}
        self._started = started
        self._before = float(self.content["seconds"])

    @property
    def seconds(self) -> float:
        """Seconds spent so far, those of earlier runs included."""
        return self._before + time.monotonic() - self._started

    def get(self, name: str) -> Any:
        """Return a value, or None."""
        return self.content.get(name)

    def put(self, name: str, value: Any) -> None:
        """Set a value; it is on the disk when this returns."""
        self.content[name] = value
        self.save()

    def save(self) -> None:
        """Write the state with the time spent."""
        self.content["seconds"] = self.seconds
        replace_file(self._file, json.dumps(self.content, indent=1))

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or damaged: the store of jobs is what costs time
            return {}
        return content if isinstance(content, dict) and "seconds" in content else {}
