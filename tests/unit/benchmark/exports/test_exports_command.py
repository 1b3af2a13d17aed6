"""``anomalib-plus deployment`` with measurements that take milliseconds."""

import importlib
import io
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from rich.console import Console
from torch import nn

from anomalib_plus.benchmark.exports import command
from anomalib_plus.benchmark.exports.isolation import ProcessError, attempt, run_apart
from anomalib_plus.benchmark.exports.plan import DeploymentPlan, load_plan
from anomalib_plus.benchmark.exports.preparation import forget_sources_of_weights
from anomalib_plus.benchmark.exports.tables import Rows, print_tables
from anomalib_plus.cli import main

CONFIGS = Path(__file__).parents[4] / "configs" / "deployment"


def figures(error: str | None = None, **values: Any) -> dict[str, Any]:
    return {"error": error, **values}


def measured(plan: DeploymentPlan, index: int, threads: int, folder: Path) -> dict[str, Any]:
    """A made-up record of the plan's model; the one called "Raises" does so."""
    entry = plan.models[index]
    if entry.label == "Raises":
        msg = "no such network\nand more"
        raise ValueError(msg)
    same = {"score_difference": 0.0, "map_difference": 0.0, "decisions_changed": 0, "image_auroc": 0.9}
    times = {"latency_ms": {"1": 30.0, "8": 200.0}, "speed_up": {"1": 1.0, "8": 1.0}}
    faster = {"latency_ms": {"1": 10.0, "8": 100.0}, "speed_up": {"1": 3.0, "8": 2.0}}
    return {
        "label": entry.label,
        "variant": entry.variant,
        "class_path": entry.class_path,
        "arguments": entry.init_args,
        "error": None,
        "image_size": list(plan.image_size or (256, 256)),
        "images": 7,
        "parameters": 1_500_000,
        "formats": {"ONNX": figures(mib=6.25, seconds=1.0, path="x"), "OpenVINO INT8": figures("RuntimeError: no")},
        "backends": {
            "eager": figures(**same, **times),
            "ONNX Runtime": figures(**(same | {"score_difference": 2e-5, "image_auroc": 0.895}), **faster),
            "torch.compile": figures("RuntimeError: no compiler"),
        },
        "engine": same,
    }


@pytest.fixture
def plan_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("anomalib_plus.benchmark.exports.measure.measure", measured)
    monkeypatch.setattr(command, "run_apart", lambda function, arguments, *_: called_here(function, arguments))
    good = {"class_path": "x.Net", "label": "Good", "variant": "narrow"}
    plan = {
        "models": [good, {"class_path": "x.Net", "label": "Raises"}],
        "data": {"class_path": "x.Data", "init_args": {"category": "washer", "num_workers": 0}},
        "image_size": [128, 128],
    }
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    return file


def called_here(function: Any, arguments: tuple) -> Any:
    result, error = attempt(lambda: function(*arguments))
    if error is not None:
        raise ProcessError(error)
    return result


def test_tables_name_figures_and_failures(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deployment", "--config", str(plan_file), "--threads", "3"]) == 1
    assert (
        "failed: ValueError: no such network See results/deployment/plan/01-Raises/log.txt." in capsys.readouterr().out
    )
    folder = Path("results/deployment/plan")
    content = json.loads((folder / "records.json").read_text())
    assert content["environment"]["threads"] == 3
    assert content["environment"]["packages"]["torch"]
    assert [record["error"] is None for record in content["models"]] == [True, False]
    text = (folder / "tables.md").read_text()
    for row in (
        "| Good (narrow) | 128x128 | 30 | 10 | \N{EN DASH} | 3.00 (ONNX Runtime) |",
        "| Good (narrow) | 128x128 | 200 | 100 | \N{EN DASH} | 2.00 (ONNX Runtime) |",
        "| Good (narrow) | 1.5 | 6.25 | \N{EN DASH} |",
        "| Good (narrow) | ONNX Runtime | 2.0e-05 | 0.0e+00 | 0/7 | 89.50 | -0.50 |",
        "| Good (narrow) | OpenVINO INT8 | RuntimeError: no |",
        "| Good (narrow) | torch.compile | RuntimeError: no compiler |",
    ):
        assert row in text
    assert "| Raises | the model itself | ValueError: no such network See" in text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_cut_at_any_width(width: int) -> None:
    names = [
        "eager",
        "torch.compile",
        "torch.export",
        "ONNX Runtime",
        "OpenVINO FP32",
        "OpenVINO FP16",
        "OpenVINO INT8",
    ]
    columns = ["model", "pixels", *names, "best / eager"]
    rows = [["AstMFR (EfficientNet-Lite)", "256x256", *(f"{7 * n}.25" for n in range(7)), "3.00 (OpenVINO FP32)"]]
    error = "RuntimeError: [enforce] " + "/a/path/without/a/blank" * 8
    found = [
        Rows("Median milliseconds", columns, rows),
        Rows("Failures", ["model", "what", "error"], [["RbAE [x]", "the model itself", error]]),
        Rows("Agreement", ["model", "image AUROC", "against eager"], [["TSDN", "99.25", "+0.50"]]),
    ]
    stream = io.StringIO()
    print_tables(found, Console(file=stream, width=width))
    shown = stream.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert max(map(len, shown.splitlines())) <= width
    cells = [
        word
        for columns, rows in ((each.columns, each.rows) for each in found)
        for row in (columns, *rows)
        for word in row
    ]
    words = [word for cell in cells if cell != error for word in cell.split()]
    assert [word for word in words if word not in shown and not (word in {"model", "what"} and width < 100)] == []
    assert error.replace(" ", "") in "".join(re.findall(r"[^\s│]+", shown))


def test_options_change_the_plan(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "anomalib_plus.benchmark.exports.measure.measure",
        lambda *arguments: seen.append(arguments) or measured(*arguments),
    )
    options = ["--models", "good", "--data.root", "folder", "--data.category", "tile", "--max-epochs", "3"]
    options += ["--formats", "ONNX", "OpenVINO FP16"]
    main(["deployment", "--config", str(plan_file), *options, "--images", "5", "--no-timing", "--output", "here"])
    ((plan, index, threads, folder),) = seen
    assert (index, folder, threads > 0) == (0, Path("here/00-Good"), True)
    assert plan.data.class_path == "anomalib_plus.data.MVTec"
    assert plan.data.init_args == {"root": "folder", "category": "tile", "num_workers": 0}
    assert (plan.budget.max_epochs, plan.images, plan.batch_sizes) == (3, 5, ())
    assert plan.formats == ("ONNX", "OpenVINO FP16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "nothing"], "no model nothing"),
        (["--data.root", "folder"], "go together"),
        (["--formats", "ONNX", "INT8"], "no format INT8; there are torch, ONNX, OpenVINO FP32, "),
    ],
)
def test_wrong_options_say_what_is_wrong(
    plan_file: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["deployment", "--config", str(plan_file), *options])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_configurations_are_plans_of_every_model_and_of_baselines(file: Path) -> None:
    labels = {model.label or model.class_path.rpartition(".")[2] for model in load_plan(file).models}
    baselines = {"PaDiM", "PatchCore", "DRAEM"} | ({"STFPM"} if file.stem == "small" else set())
    assert labels == {"RamFAE", "FEAR", "AstMFR", "TSDN", "RbAE"} | baselines


def test_a_plan_of_random_weights_asks_for_no_others() -> None:
    for model in load_plan(CONFIGS / "default.yaml").models:
        if model.class_path.rpartition(".")[2] in {"AstMFR", "TSDN", "Padim", "Patchcore"}:
            assert model.init_args["pre_trained"] is False


def test_an_export_holds_pre_trained_weights_once() -> None:
    values = timm.create_model("resnet10t", pretrained=False).state_dict()
    options = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": values}}
    networks = nn.ModuleList(
        timm.create_model("resnet10t", features_only=features, **options) for features in (True, False)
    )
    sources = [module.pretrained_cfg for module in networks.modules() if hasattr(module, "pretrained_cfg")]
    assert any("state_dict" in source for source in sources)
    forget_sources_of_weights(networks)
    assert not any("state_dict" in source for source in sources)


def test_openvino_tells_nobody_of_its_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from the command nor from the processes of its models."""
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    main(["--version"])
    assert sys.modules["openvino_telemetry"] is None
    with pytest.raises(ProcessError, match="ModuleNotFoundError: import of openvino_telemetry halted"):
        run_apart(importlib.import_module, ("openvino_telemetry",), tmp_path / "log.txt", 60.0)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (os.abort, (), r"status -6"),
        (time.sleep, (60,), "Not finished after 0.5 seconds"),
        (int, ("x",), "ValueError: invalid literal"),
    ],
    ids=["dies", "takes too long", "raises"],
)
def test_what_happens_to_another_process_is_an_exception_here(
    function: Any, arguments: tuple, message: str, tmp_path: Path
) -> None:
    limit = 0.5 if function is time.sleep else 60.0
    with pytest.raises(ProcessError, match=message):
        run_apart(function, arguments, tmp_path / "log.txt", limit)


def test_another_process_gives_its_result_and_its_output_goes_to_the_log(tmp_path: Path) -> None:
    assert run_apart(sum, ([1, 2],), tmp_path / "log.txt", 60) == 3
    run_apart(print, ("said there",), tmp_path / "log.txt", 60)
    assert "said there" in (tmp_path / "log.txt").read_text()
