"""The code of docs/training.md runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
from anomalib.metrics import AUROC

from anomalib_plus import models

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.parametrize(("part", "names"), [(0, {"engine"}), (1, {"engine", "model"})])
def test_the_code_on_the_page(part: int, names: set[str]) -> None:
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[part]
    found: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), found)
    assert names <= found.keys()
    if "model" in names:
        evaluator = found["model"].evaluator
        assert [type(metric) for metric in (*evaluator.val_metrics, *evaluator.test_metrics)] == [AUROC, AUROC]


def test_every_model_stands_on_the_page_and_leads_there() -> None:
    page = PAGE.read_text()
    for name in models.__all__:
        assert name in page
        readme = Path(models.__file__).parent / name.lower() / "README.md"
        assert "docs/training.md" in readme.read_text()
