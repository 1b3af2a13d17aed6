"""The code of docs/training.md runs as it stands there."""

from pathlib import Path

import pytest
from anomalib.metrics import AUROC

from anomalib_plus import models
from page_code import blocks, page, run

PAGE = "training.md"


@pytest.mark.parametrize(("part", "names"), [(0, {"engine"}), (1, {"engine", "model"})])
def test_the_code_on_the_page(part: int, names: set[str]) -> None:
    found = run(blocks(PAGE, "python")[part], PAGE)
    assert names <= found.keys()
    if "model" in names:
        evaluator = found["model"].evaluator
        assert [type(metric) for metric in (*evaluator.val_metrics, *evaluator.test_metrics)] == [AUROC, AUROC]


def test_every_model_stands_on_the_page_and_leads_there() -> None:
    for name in models.__all__:
        assert name in page(PAGE)
        readme = Path(models.__file__).parent / name.lower() / "README.md"
        assert "docs/training.md" in readme.read_text()
