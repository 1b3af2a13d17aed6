"""Jobs that take milliseconds."""

import os
from pathlib import Path

import pytest

from anomalib_plus.benchmark import supervision


@pytest.fixture
def stub_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``tests/stub_job.py`` in place of real jobs."""
    monkeypatch.setattr(supervision, "JOB_MODULE", "stub_job")
    tests = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))
