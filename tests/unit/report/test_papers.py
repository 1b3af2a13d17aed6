"""Numbers of the papers in a results folder."""

import json
from pathlib import Path

import pytest

from anomalib_plus.report.records import ResultsError, read_published

ENTRY = {"model": "package.models.Net", "category": "bolt", "metric": "aupro", "value": 0.9}


def test_numbers_by_model_category_and_metric(tmp_path: Path) -> None:
    entries = [ENTRY, ENTRY | {"metric": "image_auroc", "value": None}, ENTRY | {"category": "nut", "value": 0.4}]
    (tmp_path / "published.json").write_text(json.dumps(entries))
    assert read_published(tmp_path) == {("Net", "bolt", "aupro"): 0.9, ("Net", "nut", "aupro"): 0.4}


def test_results_of_earlier_versions_have_none(tmp_path: Path) -> None:
    assert read_published(tmp_path) == {}


@pytest.mark.parametrize("content", ["[", "{}x", "[1]", '[{"model": "a.B"}]', "3"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "published.json").write_text(content)
    with pytest.raises(ResultsError, match=r"published\.json is damaged"):
        read_published(tmp_path)
