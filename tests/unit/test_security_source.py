"""What the source must not contain; each rule is tried on code that breaks it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"
NEVER_CALLED = {
    "builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__",
    "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "pty.spawn", "subprocess.getoutput",
    "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "joblib.load", "marshal.loads",
    "shelve.open", "pandas.read_pickle", "cloudpickle.load", "cloudpickle.loads", "torch.package.PackageImporter",
    "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.hub.download_url_to_file",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "shutil.unpack_archive", "tarfile.open", "tempfile.mktemp", "random.seed",
    "xml.etree.ElementTree.parse", "xml.dom.minidom.parse",
}  # fmt: skip
MUST_SAY = {
    "torch.load": "weights_only",
    "timm.models.load_state_dict": "weights_only",
    "jinja2.Environment": "autoescape",
}
MUST_NOT_SAY = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "verify": False}
NETWORK = (
    "urllib.request",
    "requests",
    "http",
    "httpx",
    "aiohttp",
    "socket",
    "ftplib",
    "smtplib",
    "telnetlib",
    "paramiko",
)
ALLOWED = {
    "doctor.py": {"urllib.request"},  # asks the hub for an answer, unless --offline
    "page.py": {"markupsafe.Markup"},  # of the report's own script
    "build_report.py": {"markupsafe.Markup"},  # of JSON in which <, > and & are escaped
}


def violations(code: str, file: str = "") -> Iterator[str]:
    """Broken rules, as ``line: rule``. Names are followed through imports, also renaming ones."""
    tree = ast.parse(code)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [(alias.name, alias.asname, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported = [
                (f"{node.module}.{alias.name}", alias.asname or alias.name, node.module) for alias in node.names
            ]
        else:
            continue
        for name, known_as, module in imported:
            names[known_as or name.partition(".")[0]] = name if known_as else name.partition(".")[0]
            if any(f"{module}.".startswith(f"{net}.") for net in NETWORK) and module not in ALLOWED.get(file, ()):
                yield f"{node.lineno}: imports {module}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _full_name(node.func, names)
        said = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        if called in NEVER_CALLED or called.endswith(".extractall"):
            yield f"{node.lineno}: calls {called}"
        if called in MUST_SAY and said.get(MUST_SAY[called]) is not True:
            yield f"{node.lineno}: calls {called} without {MUST_SAY[called]}=True"
        for keyword, value in MUST_NOT_SAY.items():
            if said.get(keyword) is value:
                yield f"{node.lineno}: {keyword}={value}"
        if called == "markupsafe.Markup" and called not in ALLOWED.get(file, ()):
            yield f"{node.lineno}: calls {called}"


def _full_name(function: ast.expr, names: dict[str, str]) -> str:
    parts = []
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return ".".join(["", *reversed(parts)])
    first = names.get(function.id, f"builtins.{function.id}")
    return ".".join([first, *reversed(parts)])


@pytest.mark.parametrize("file", sorted(SOURCES.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCES)))
def test_source_keeps_the_rules(file: Path) -> None:
    assert list(violations(file.read_text(), file.name)) == []


@pytest.mark.parametrize(
    ("code", "broken"),
    [
        ("eval('1')", "builtins.eval"),
        ("from pickle import load as l\nl(f)", "pickle.load"),
        ("import pickle as p\np.loads(b)", "pickle.loads"),
        ("import os\nos.system('x')", "os.system"),
        ("from subprocess import run\nrun('x', shell=True)", "shell=True"),
        ("import torch\ntorch.load(f)", "without weights_only"),
        ("import torch\ntorch.load(f, weights_only=False)", "without weights_only"),
        ("from timm.models import load_state_dict\nload_state_dict(f)", "without weights_only"),
        ("import yaml\nyaml.load(f, Loader=yaml.Loader)", "yaml.load"),
        ("import numpy as np\nnp.load(f, allow_pickle=True)", "allow_pickle"),
        ("import requests", "imports requests"),
        ("from urllib.request import urlopen", "imports urllib.request"),
        ("import http.client", "imports http.client"),
        ("import zipfile\nzipfile.ZipFile(f).extractall()", "extractall"),
        ("from jinja2 import Environment\nEnvironment()", "without autoescape"),
        ("from markupsafe import Markup\nMarkup(x)", "markupsafe.Markup"),
    ],
)
def test_rules_find_what_breaks_them(code: str, broken: str) -> None:
    (found,) = violations(code)
    assert broken in found


def test_harmless_code_passes() -> None:
    code = "import torch, yaml\nmodel.eval()\nre.compile(x)\ntorch.load(f, weights_only=True)\nyaml.safe_load(f)"
    assert not list(violations(f"import re\n{code}"))
