"""The papers' numbers for the models of a benchmark, which the benchmark leaves in its folder of results."""

import json
from pathlib import Path

from .records import ResultsError, finite
from .tables import PaperFigures

FILE = "published.json"


def read_published(folder: Path) -> PaperFigures:
    """Read ``published.json``; results of earlier versions have none, and nothing is compared.

    Raises:
        ResultsError: If the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            (entry["model"].rpartition(".")[2], entry["category"], entry["metric"]): value
            for entry in entries
            if (value := finite(entry["value"])) is not None
        }
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"{path} is damaged: delete it, and call the benchmark once more, which writes it anew."
        raise ResultsError(msg) from error
