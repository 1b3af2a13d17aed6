"""The benchmark report: results folder in, one self-contained HTML page, Markdown or CSV out.

Numbers come from the records alone; nothing here knows a model, a data set or a network.
"""

from .records import ResultsError, Store, read_store

__all__ = ["ResultsError", "Store", "read_store"]
