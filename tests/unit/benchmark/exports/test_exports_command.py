"""``anomalib-plus deployment`` with measurements that take milliseconds."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import yaml
from rich.console import Console
from torch import nn

from anomalib_plus import models
from anomalib_plus.benchmark.exports import command
from anomalib_plus.benchmark.exports.measure import forget_sources_of_weights
from anomalib_plus.benchmark.exports.plan import DeploymentPlan
from anomalib_plus.benchmark.exports.tables import Rows, print_tables
from anomalib_plus.benchmark.plan import label_of, load
from anomalib_plus.cli import main

TESTS = Path(__file__).parents[3]
CONFIGS = Path(__file__).parents[4] / "configs" / "deployment"


@pytest.fixture
def plan_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "MEASURE_MODULE", "stub_measure")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    good = {"class_path": "x.Net", "label": "Good", "variant": "narrow"}
    plan = {
        "models": [good, {"class_path": "x.Net", "label": "Raises"}],
        "data": {"class_path": "x.Data", "init_args": {"category": "washer", "num_workers": 0}},
        "image_size": [128, 128],
    }
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    return file


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
    assert "| Raises | the model | ValueError: no such network See" in text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_cut_at_any_width(width: int) -> None:
    names = [
        "eager",
        "torch.compile",
        "torch.export",
        "ONNX Runtime",
        *(f"OpenVINO {p}" for p in ("FP32", "FP16", "INT8")),
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
    cells = [cell for table in found for row in (table.columns, *table.rows) for cell in row]
    words = [word for cell in cells if cell != error for word in cell.split()]
    assert [word for word in words if word not in shown and not (word in {"model", "what"} and width < 100)] == []
    assert error.replace(" ", "") in "".join(re.findall(r"[^\s│]+", shown))


def test_options_change_the_plan(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    error = {"label": "Good", "variant": None, "error": "none of it matters"}
    monkeypatch.setattr(command, "measure_apart", lambda *arguments: seen.append(arguments) or error)
    options = ["--models", "good", "--data.root", "folder", "--data.category", "tile", "--max-epochs", "3"]
    options += ["--formats", "ONNX", "OpenVINO FP16"]
    main(["deployment", "--config", str(plan_file), *options, "--images", "5", "--no-timing", "--output", "here"])
    ((plan, index, threads, folder),) = seen
    assert (index, folder, threads > 0) == (0, Path("here"), True)
    assert plan.data.class_path == "anomalib_plus.data.MVTec"
    assert plan.data.init_args == {"root": "folder", "category": "tile", "num_workers": 0}
    assert (plan.budget.max_epochs, plan.images, plan.batch_sizes) == (3, 5, ())
    assert plan.formats == ("ONNX", "OpenVINO FP16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "nothing"], "no model nothing"),
        (["--data.root", "folder"], "must be given together"),
        (["--formats", "ONNX", "INT8"], "no format INT8; available: torch, ONNX, OpenVINO FP32, "),
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
    labels = {label_of(model) for model in load(DeploymentPlan, file).models}
    baselines = {"PaDiM", "PatchCore", "DRAEM"} | ({"STFPM"} if file.stem == "small" else set())
    assert labels == {*models.__all__} | baselines


def test_a_plan_of_random_weights_asks_for_no_others() -> None:
    for model in load(DeploymentPlan, CONFIGS / "default.yaml").models:
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


def test_openvino_tells_nobody_of_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from the command nor from the processes of its models, which import this package first."""
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    main(["--version"])
    assert sys.modules["openvino_telemetry"] is None
    package = command.MEASURE_MODULE.rpartition(".")[0]
    code = f"import sys, {package}; sys.exit(sys.modules['openvino_telemetry'] is not None)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("label", "message"), [("Dies", "Killed by SIGABRT. See"), ("Sleeps", "Not finished after 30 seconds. See")]
)
def test_the_failure_of_a_process_is_a_record(
    label: str, message: str, plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes faster here, so that a time-out leaves the process time to start."""
    plan = load(DeploymentPlan, plan_file)
    plan = replace(plan, models=(replace(plan.models[0], label=label),), timeout_seconds=30.0)
    log = tmp_path / f"00-{label}" / "log.txt"
    if label == "Sleeps":
        started = lambda self: 100.0 if log.exists() and "said there" in log.read_text() else 0.0  # noqa: E731
        monkeypatch.setattr(command.ModuleProcess, "seconds", property(started))
    log.parent.mkdir()
    log.write_text("of an earlier run")
    (log.parent / "record.json").write_text('{"error": null}')
    record = command.measure_apart(plan, 0, 1, tmp_path)
    assert record["error"].startswith(message)
    assert "said there" in log.read_text()
    assert "of an earlier run" not in log.read_text()
