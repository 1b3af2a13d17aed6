"""Which printed figures stand beside ours: those of the full model, one category each."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from anomalib_plus.report.papers import paper_figures

TABLES = "anomalib_plus.benchmark.papers"


class Published:
    def __init__(self, width: int = 64, maps: str = "ssim") -> None:
        pass


def cell(
    paper: float | None, *variants: dict, categories: tuple[str, ...] = ("bolt",), metric: str = "aupro"
) -> object:
    return SimpleNamespace(paper=paper, metric=metric, variants=variants, categories=categories)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Tables of one paper, to be filled, in the place of the benchmark's."""
    tables: dict[int, list] = {}
    package = ModuleType("published_models")
    package.Published = Published
    monkeypatch.setitem(sys.modules, "published_models", package)
    recipes = {
        "ours": {"class_path": "published_models.Published", "tables": tables},
        "theirs": {"class_path": "published_models.NotInstalled", "tables": {1: None}},
    }
    module = ModuleType(TABLES)
    module.paper_names = lambda: list(recipes)
    module.load_recipes = lambda: recipes
    module.load_recipe = lambda paper, number: {
        "init_args": {"width": 32} if number == 2 else {},
        **({"rows": [{}]} if number == 0 else {}),
    }
    module.cells = lambda paper, number: tables[number]
    monkeypatch.setitem(sys.modules, "anomalib_plus.benchmark", ModuleType("anomalib_plus.benchmark"))
    monkeypatch.setitem(sys.modules, TABLES, module)
    return tables


def test_the_full_model_by_category(printed: dict) -> None:
    printed[0] = [cell(0.3, {}), cell(0.2, {}, categories=("ablated",))]
    printed[1] = [
        cell(0.9, {}),
        cell(0.8, {"width": 8}, metric="image_auroc"),
        cell(0.7, {"maps": "ssim"}, metric="pixel_auroc"),
        cell(0.6, {"maps": "ssim"}, {"maps": "gms"}, metric="pixel_ap"),
        cell(0.5, {}, categories=("bolt", "nut")),
        cell(None, {}, categories=("felt",)),
    ]
    printed[2] = [cell(0.1, {"width": 32}), cell(0.4, {"width": 32}, categories=("nut",))]
    assert paper_figures() == {
        ("Published", "bolt", "aupro"): 0.9,
        ("Published", "bolt", "pixel_auroc"): 0.7,
        ("Published", "nut", "aupro"): 0.4,
    }


def test_without_tables_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, TABLES, None)
    assert paper_figures() == {}


def test_the_benchmarks_own_tables() -> None:
    pytest.importorskip(TABLES, reason="this version has no tables of papers")
    figures = paper_figures()
    assert figures
    assert all(0 < value <= 1 for value in figures.values())
    assert {metric for _, _, metric in figures} >= {"image_auroc", "pixel_auroc"}
    assert figures["RamFAE", "hazelnut", "pixel_auroc_per_image"] == 0.976, "of Table 3, not of the ablation"
