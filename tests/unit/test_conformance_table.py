"""The table of ``.ci/conformance``: its list names tests that exist, and JUnit files are read as pytest writes them."""

import ast
from pathlib import Path

import pytest

import conformance_table as table
from conformance_table import Outcome, Run

TESTS = Path(__file__).parents[1]
MODELS = ("AstMFR", "FEAR")
JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<testcase classname="tests.contract.test_cli" name="test_export_to_torch[AstMFR]" time="1" />
<testcase classname="tests.contract.test_cli" name="test_export_to_torch[FEAR]" time="1">
<failure message="RuntimeError: first line&#10;second line">tests/contract/test_cli.py:1: in test
    command()
E   RuntimeError: first line
E   second line</failure></testcase>
<testcase classname="tests.contract.test_export" name="test_int8_keeps_the_ranking[FEAR-f32]" time="1">
<skipped type="pytest.skip" message="needs nncf">test_export.py:9: needs nncf</skipped></testcase>
<testcase classname="tests.contract.test_numbers" name="test_on_a_gpu[FEAR]" time="1">
<skipped type="pytest.skip" message="needs a GPU">test_numbers.py:9: needs a GPU</skipped></testcase>
<testcase classname="tests.integration.test_packaging" name="test_plain_anomalib_knows_every_name[build_wheel]">
<error message="failed on setup with &quot;OSError: no space&quot;">no traceback</error></testcase>
<testcase classname="" name="tests.contract.test_pipelines" time="0">
<error message="collection failure">ImportError while importing test module
E   ImportError: cannot import name 'TrainTiledEnsemble'</error></testcase>
</testsuite></testsuites>
"""


@pytest.fixture
def outcomes(tmp_path: Path) -> list[Outcome]:
    (tmp_path / "junit.xml").write_text(JUNIT)
    return table.read(tmp_path / "junit.xml", MODELS)


def passed(*, without: str = "") -> list[Outcome]:
    return [Outcome(test, model, "ok") for test in table.tests() for model in MODELS if test != without]


@pytest.mark.parametrize("test", table.tests())
def test_the_list_names_tests_that_exist(test: str) -> None:
    file, function = test.split("::")
    definitions = ast.parse((TESTS / file).read_text()).body
    assert function in {node.name for node in definitions if isinstance(node, ast.FunctionDef)}


def test_reading(outcomes: list[Outcome]) -> None:
    assert outcomes == [
        Outcome("contract/test_cli.py::test_export_to_torch", "AstMFR", "ok"),
        Outcome("contract/test_cli.py::test_export_to_torch", "FEAR", "broke", "RuntimeError: first line"),
        Outcome("contract/test_export.py::test_int8_keeps_the_ranking", "FEAR", "broke", "skipped: needs nncf"),
        Outcome("contract/test_numbers.py::test_on_a_gpu", "FEAR", "skipped", "needs a GPU"),
        Outcome(
            "integration/test_packaging.py::test_plain_anomalib_knows_every_name",
            "",
            "broke",
            'failed on setup with "OSError: no space"',
        ),
        Outcome("contract/test_pipelines.py", "", "broke", "ImportError: cannot import name 'TrainTiledEnsemble'"),
    ]


def test_items_by_model(outcomes: list[Outcome]) -> None:
    run = Run("anomalib 2.7.0", True, outcomes)
    assert table.results_of_item(run, "export to torch", MODELS) == {"AstMFR": "ok", "FEAR": "broke"}
    assert table.results_of_item(run, "`anomalib benchmark`", MODELS) == dict.fromkeys(MODELS, "did not run")
    assert table.results_of_item(run, "start-up hook", MODELS) == dict.fromkeys(MODELS, "broke")
    half = Run("", True, [Outcome(table.ITEMS["engine: predict"][0], model, "ok") for model in MODELS])
    assert table.results_of_item(half, "engine: predict", MODELS) == dict.fromkeys(MODELS, "did not run")


def test_the_table_says_what_broke(outcomes: list[Outcome]) -> None:
    runs = [Run("anomalib 2.7.0", True, passed()), Run("anomalib 2.6.2", False, outcomes)]
    lines = table.markdown([*runs, Run("anomalib 9", False, [], "ERROR: nothing fits")], MODELS).splitlines()
    assert "| item | anomalib 2.7.0 | anomalib 2.6.2 | anomalib 9 |" in lines
    assert "| export to torch | ok | broke: FEAR; ok: AstMFR | unusable |" in lines
    assert f"| test cases | {len(passed())} ok | 1 skipped, 1 ok, 4 broke |  |" in lines
    assert "What broke with anomalib 2.6.2, which the pin excludes:" in lines
    assert "- 1 x `RuntimeError: first line` (FEAR): test_export_to_torch" in lines
    assert "- `ERROR: nothing fits`" in lines
    assert not [line for line in lines if line.startswith("What broke with anomalib 2.7.0")]


def test_only_a_release_within_the_pin_must_work(outcomes: list[Outcome]) -> None:
    assert not table.broke(Run("", True, passed()), MODELS)
    assert table.broke(Run("", True, passed(without=table.tests()[0])), MODELS)
    assert table.broke(Run("", True, [], "ERROR: nothing fits"), MODELS)
    assert not table.broke(Run("", False, outcomes), MODELS)


@pytest.mark.parametrize(("reason", "fails"), [("could not import 'nncf'", True), ("needs CUDA", False)])
def test_a_list_that_skips_everything_does_not_pass(reason: str, fails: bool, tmp_path: Path) -> None:
    cases = [
        f'<testcase classname="tests.{file.removesuffix(".py").replace("/", ".")}" name="{name}[{model}]">'
        f'<skipped type="pytest.skip" message="{reason}">x.py:1: {reason}</skipped></testcase>'
        for file, name in (test.split("::") for test in table.tests())
        for model in MODELS
    ]
    (tmp_path / "junit.xml").write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    assert table.broke(Run("", True, table.read(tmp_path / "junit.xml", MODELS)), MODELS) is fails
