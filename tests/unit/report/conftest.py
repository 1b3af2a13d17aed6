"""One large synthetic results folder for all tests of the report."""

from pathlib import Path

import pytest

from anomalib_plus.report import read_store
from anomalib_plus.report.summary import Summary
from synthetic_results import full_store


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_store(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def summary(results: Path) -> Summary:
    return Summary(read_store(results))
