"""What pip would install, wheel and editable, in an environment of its own: plain anomalib knows the plugin there."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import anomalib_plus
from anomalib_plus.presets import preset_names
from fresh_interpreter import SOURCES, START_UP_FILES, FreshInterpreter

BUILD = "import sys, hatchling.build; print(hatchling.build.{hook}(sys.argv[1]))"


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def wheel(request, tmp_path_factory) -> Path:
    """Built by the back end that pip calls, without network and without a copy of the sources."""
    folder = tmp_path_factory.mktemp(request.param)
    arguments = [sys.executable, "-c", BUILD.format(hook=request.param), str(folder)]
    built = subprocess.run(arguments, cwd=SOURCES.parent, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> FreshInterpreter:
    interpreter = FreshInterpreter(tmp_path_factory.mktemp("environment"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(interpreter.site_packages)
    interpreter.add_installed_packages()
    return interpreter


def is_editable(wheel: Path) -> bool:
    return "build_editable" in str(wheel)


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        texts = {name: archive.read(name).decode() for name in names if name.endswith((".pth", ".txt", "METADATA"))}
    assert set(START_UP_FILES) <= names
    info = f"anomalib_plus-{anomalib_plus.__version__}.dist-info"
    assert "anomalib-plus = anomalib_plus.cli:main" in texts[f"{info}/entry_points.txt"]
    assert "Requires-Dist: anomalib<2.8,>=2.7" in texts[f"{info}/METADATA"]
    assert f"{info}/licenses/LICENSE" in names
    files = (file.relative_to(SOURCES) for file in (SOURCES / "anomalib_plus").rglob("*") if file.is_file())
    package = {str(file) for file in files if "__pycache__" not in file.parts}
    package |= {f"anomalib_plus/configs/{name}.yaml" for name in preset_names()}
    top_level = {name.split("/")[0] for name in names} - set(START_UP_FILES) - {info}
    if is_editable(wheel):
        assert top_level == {"_anomalib_plus.pth"}
        assert texts["_anomalib_plus.pth"].strip() == str(SOURCES)
    else:
        assert top_level == {"anomalib_plus"}
        assert package == {name for name in names if name.startswith("anomalib_plus/")}


NAMES = """
from anomalib.data import get_datamodule
from anomalib.models import get_model, list_models
from omegaconf import DictConfig

small = {"widths": [4, 8, 16, 32]}
forms = ["ram_fae", "ramfae", "RamFAE", {"class_path": "RamFAE"}, {"class_path": "anomalib_plus.models.RamFAE"}]
forms += [{"class_path": "anomalib_plus.RamFAE"}, DictConfig({"class_path": "RamFAE"})]
for form in forms:
    model = get_model(form, **small)
    assert type(model).__module__.startswith("anomalib_plus.models.ramfae"), form
    assert list(model.hparams["widths"]) == small["widths"], form
with_arguments = get_model({"class_path": "RamFAE", "init_args": small | {"anomaly_map": "ssim"}})
assert with_arguments.hparams["anomaly_map"] == "ssim"
assert "ram_f_a_e" in list_models()
assert "RamFAE" in list_models("pascal")
for name, category in (("MVTec", "bottle"), ("BTAD", "02"), ("anomalib_plus.data.MVTec", "screw")):
    datamodule = get_datamodule({"class_path": name, "init_args": {"category": category}})
    assert (type(datamodule).__module__.split(".")[0], datamodule.category) == ("anomalib_plus", category)
"""
CONFIG_OF_EACH = """
import sys
from anomalib.cli.cli import main
for data, category in (("MVTec", "bottle"), ("BTAD", "02")):
    sys.argv = ["anomalib", "train", "--model", "RamFAE", "--data", data, "--data.category", category, "--print_config"]
    try:
        main()
    except SystemExit as exit_:
        assert exit_.code == 0
    print("---")
"""


def test_the_package_and_its_start_up_hook_are_found(environment, wheel, tmp_path):
    """Without anomalib, which takes many seconds to start."""
    code = "import sys, importlib.util as u; print(u.find_spec('anomalib_plus').origin, *sys.meta_path)"
    result = environment.run("-c", code, cwd=tmp_path)
    home = SOURCES if is_editable(wheel) else environment.site_packages
    assert result.stdout.startswith(str(home / "anomalib_plus" / "__init__.py")), result.stderr
    assert "_anomalib_plus_autoload" in result.stdout


@pytest.mark.parametrize(
    "wheel", ["build_wheel", pytest.param("build_editable", marks=pytest.mark.slow)], indirect=True, scope="module"
)
def test_plain_anomalib_knows_every_name(environment, wheel, tmp_path):
    """From another folder and without an import; one process, because starting anomalib takes many seconds."""
    where = "import sys; file = sys.modules['anomalib_plus'].__file__; print(file, file=sys.stderr)\n"
    where += "from anomalib_plus import preset_path; print(preset_path('small/ramfae'), file=sys.stderr)"
    result = environment.run("-c", CONFIG_OF_EACH + NAMES + where, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    home = SOURCES if is_editable(wheel) else environment.site_packages
    configs = SOURCES.parent / "configs" if is_editable(wheel) else home / "anomalib_plus" / "configs"
    places = [home / "anomalib_plus" / "__init__.py", configs / "small" / "ramfae.yaml"]
    assert result.stderr.splitlines()[-2:] == list(map(str, places))
    # anomalib's log lines go to stdout too: take each config from its header on
    mvtec, btad = map(yaml.safe_load, re.findall(r"^# anomalib==.*?(?=^---)", result.stdout, re.DOTALL | re.MULTILINE))
    for config, data in ((mvtec, {"name": "MVTec", "category": "bottle"}), (btad, {"name": "BTAD", "category": "02"})):
        assert config["model"]["class_path"].split(".")[-1] == "RamFAE"
        assert config["data"]["class_path"].split(".")[-1] == data["name"]
        assert config["data"]["init_args"]["category"] == data["category"]
