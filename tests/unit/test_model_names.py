"""The benchmark and the report name no model: what they know of one, the model says or ``paper_tables`` holds."""

import re
from pathlib import Path

import pytest

import anomalib_plus
from anomalib_plus import models

PACKAGE = Path(anomalib_plus.__file__).parent
NAMES = re.compile("|".join("-?".join(name) for name in models.__all__), re.IGNORECASE)


@pytest.mark.parametrize("room", ["benchmark", "report"])
def test_no_model_is_named(room):
    files = [file for file in (PACKAGE / room).rglob("*") if file.suffix in {".py", ".j2", ".css", ".js"}]
    assert len(files) > 10
    named = [
        f"{file.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if NAMES.search(line)
    ]
    assert named == []
