"""Report of a benchmark as one self-contained HTML page, Markdown or CSV.

All numbers come from the records; the report imports no model, data set or network.
"""

from anomalib_plus.report.records import ResultsError, Store, read_store

__all__ = ["ResultsError", "Store", "read_store"]
