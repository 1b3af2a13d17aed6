"""The start-up hook, in real interpreters, with a stub of anomalib that imports in no time.

Hook, ``.pth`` file, ``anomalib_plus/__init__.py`` and ``plugin.py`` are the real ones.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from fresh_interpreter import SOURCES, FreshInterpreter

STUBS = {
    "anomalib/__init__.py": "",
    "anomalib/data/__init__.py": "class Folder: ...\n__all__ = ['Folder']\n",
    "anomalib/models/__init__.py": """
        import anomalib.data
        class AnomalibModule: ...
        class Padim(AnomalibModule): ...
        ALLOWED_MODULES = {"anomalib.models"}
        """,
    "anomalib_plus/data/__init__.py": """
        from anomalib.data import Folder
        class Washers(Folder): ...
        __all__ = ["Washers"]
        """,
    "anomalib_plus/models/__init__.py": """
        from anomalib.models import AnomalibModule
        from anomalib_plus.data import Washers
        class Repair(AnomalibModule): ...
        __all__ = ["Repair"]
        """,
    "anomalib_plus/tiling/__init__.py": """
        from anomalib.models import AnomalibModule
        class Tiles(AnomalibModule): ...
        __all__ = ["Tiles"]
        """,
    "anomalib_plus/transforms/__init__.py": "__all__ = []\n",
}
REGISTERED = """
import sys, anomalib.data, anomalib.models
assert anomalib.models.Repair is sys.modules["anomalib_plus.models"].Repair
assert anomalib.models.Tiles is sys.modules["anomalib_plus.tiling"].Tiles
assert anomalib.data.Washers is sys.modules["anomalib_plus.data"].Washers
ours = {"anomalib_plus", "anomalib_plus.models", "anomalib_plus.tiling"}
assert anomalib.models.ALLOWED_MODULES == {"anomalib.models", *ours}
"""
UNTOUCHED = """
import sys, anomalib.models, anomalib.data
assert anomalib.models.Padim() and anomalib.data.Folder()
assert not hasattr(anomalib.models, "Repair") and not hasattr(anomalib.data, "Washers")
assert anomalib.models.ALLOWED_MODULES == {"anomalib.models"}
"""


@pytest.fixture
def interpreter(tmp_path: Path) -> FreshInterpreter:
    interpreter = FreshInterpreter(tmp_path / "environment")
    interpreter.add_start_up_files()
    for path, code in STUBS.items():
        write(interpreter, path, code)
    for name in ("__init__.py", "plugin.py"):
        shutil.copy(SOURCES / "anomalib_plus" / name, interpreter.site_packages / "anomalib_plus")
    return interpreter


def write(interpreter: FreshInterpreter, path: str, code: str) -> None:
    file = interpreter.site_packages / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dedent(code))


def runs_silently(result: subprocess.CompletedProcess[str]) -> bool:
    return (result.returncode, result.stdout, result.stderr) == (0, "", "")


def warnings_in(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stderr.splitlines() if "Warning" in line]


FIRST_IMPORTS = {
    "models": "import anomalib.models",
    "data": "import anomalib.data, anomalib.models",
    "name": "from anomalib.models import Repair",
    "search only": "import importlib.util as u; u.find_spec('anomalib.models'); import anomalib.models",
    "two threads": """
from threading import Thread
threads = [Thread(target=__import__, args=(name,)) for name in ("anomalib.models", "anomalib_plus.models")]
[thread.start() for thread in threads], [thread.join() for thread in threads]
""",
}
EXPLICIT_IMPORTS = {
    "ours": "import anomalib_plus, anomalib.models",
    "ours, after anomalib": "import anomalib.models, anomalib_plus",
    "ours, after half of anomalib": "import anomalib.data, anomalib_plus, anomalib.models",
    "our models": "import anomalib_plus.models",
    "our models, after anomalib": "import anomalib.models; import anomalib_plus.models",
    "our data": "import anomalib_plus.data; import anomalib.models",
    "our tiling": "import anomalib_plus.tiling",
    "our name": "from anomalib_plus import Repair",
    "register": "from anomalib_plus import register; register()",
    "plugin": "from anomalib_plus import plugin; plugin.register(); plugin.register()",
}


@pytest.mark.parametrize("first", [*FIRST_IMPORTS, *EXPLICIT_IMPORTS])
def test_registers_whatever_is_imported_first(interpreter, first):
    code = (FIRST_IMPORTS | EXPLICIT_IMPORTS)[first]
    assert runs_silently(interpreter.run("-c", f"{code}\n{REGISTERED}"))


@pytest.mark.parametrize("first", EXPLICIT_IMPORTS)
def test_importing_the_package_registers_in_spite_of_the_opt_out(interpreter, first):
    result = interpreter.run("-c", f"{EXPLICIT_IMPORTS[first]}\n{REGISTERED}", ANOMALIB_PLUS_AUTOLOAD="0")
    assert runs_silently(result)


@pytest.mark.parametrize("first", EXPLICIT_IMPORTS)
def test_importing_the_package_registers_where_start_up_files_are_ignored(interpreter, first):
    path = f"import sys; sys.path.append({str(interpreter.site_packages)!r})"
    assert runs_silently(interpreter.run("-S", "-c", f"{path}\n{EXPLICIT_IMPORTS[first]}\n{REGISTERED}"))


@pytest.mark.parametrize("value", ["0", "false", "off", "No"])
def test_opt_out(interpreter, value):
    assert runs_silently(interpreter.run("-c", UNTOUCHED, ANOMALIB_PLUS_AUTOLOAD=value))


def test_data_alone_loads_no_models(interpreter):
    code = "import sys, anomalib.data; assert anomalib.data.Washers; assert 'anomalib_plus.models' not in sys.modules"
    assert runs_silently(interpreter.run("-c", code))


def test_explicit_import_loads_nothing_of_anomalib(interpreter):
    code = "import sys, anomalib_plus; print(sorted(name for name in sys.modules if 'anomalib' in name))"
    result = interpreter.run("-c", code)
    assert result.stdout.strip() == "['_anomalib_plus_autoload', 'anomalib_plus', 'anomalib_plus.plugin']"


def test_start_up_loads_one_module(interpreter):
    code = "import sys; print(*sorted(sys.modules), sep='\\n')"
    loaded = set(interpreter.run("-c", code).stdout.split())
    write(interpreter, "anomalib_plus_autoload.pth", "# nothing, but a file that Python reads\n")
    (interpreter.site_packages / "anomalib_plus_autoload.start").unlink()
    assert loaded - set(interpreter.run("-c", code).stdout.split()) == {"_anomalib_plus_autoload"}


def test_leaves_anomalib_its_own_loaders(interpreter):
    code = """
        import importlib.machinery, anomalib.models, anomalib.data
        for module in (anomalib.models, anomalib.data):
            assert type(module.__loader__) is importlib.machinery.SourceFileLoader
            assert module.__spec__.loader is module.__loader__
        """
    assert runs_silently(interpreter.run("-c", dedent(code)))


def test_upstream_name_is_left_alone(interpreter):
    write(interpreter, "anomalib/data/__init__.py", "class Folder: ...\nclass Washers: ...\n")
    code = "import anomalib.models, anomalib.data; print(anomalib.data.Washers.__module__, anomalib.models.Repair)"
    result = interpreter.run("-c", code)
    assert result.stdout.split() == ["anomalib.data", "<class", "'anomalib_plus.models.Repair'>"]
    assert result.stderr == ""


BREAKAGES = {
    "anomalib_plus/models/__init__.py": "import no_such_library",
    "anomalib_plus/data/__init__.py": "raise RuntimeError('broken on purpose')",
    "anomalib_plus/plugin.py": "def register(:",
    "anomalib_plus/__init__.py": "raise ValueError('broken on purpose')",
}


@pytest.mark.parametrize("broken", BREAKAGES)
def test_broken_plugin_costs_one_warning(interpreter, broken):
    write(interpreter, broken, BREAKAGES[broken])
    code = "import anomalib.data, anomalib.models; assert anomalib.models.Padim() and anomalib.data.Folder()"
    result = interpreter.run("-W", "always", "-c", code)
    assert result.returncode == 0, result.stderr
    assert len(warnings_in(result)) == 1, result.stderr
    assert "RuntimeWarning: anomalib runs without anomalib-plus (" in result.stderr
    assert "ANOMALIB_PLUS_AUTOLOAD=0" in result.stderr


@pytest.mark.parametrize("broken", ["anomalib_plus/models/__init__.py", "anomalib_plus/data/__init__.py"])
@pytest.mark.parametrize("order", ["anomalib.models, anomalib_plus", "anomalib_plus, anomalib.models"])
def test_broken_plugin_costs_one_warning_with_an_explicit_import_too(interpreter, broken, order):
    write(interpreter, broken, BREAKAGES[broken])
    result = interpreter.run("-W", "always", "-c", f"import {order}; assert anomalib.models.Padim()")
    assert result.returncode == 0, result.stderr
    assert len(warnings_in(result)) == 1, result.stderr


def test_broken_plugin_raises_for_who_asks_for_it(interpreter):
    write(interpreter, "anomalib_plus/models/__init__.py", "import no_such_library")
    for code in ("from anomalib_plus import Repair", "import anomalib_plus; anomalib_plus.register()"):
        result = interpreter.run("-c", code)
        assert result.returncode == 1
        assert result.stderr.strip().endswith("ModuleNotFoundError: No module named 'no_such_library'")


def test_package_removed_but_hook_left(interpreter):
    shutil.rmtree(interpreter.site_packages / "anomalib_plus")
    result = interpreter.run("-W", "always", "-c", UNTOUCHED)
    assert result.returncode == 0, result.stderr
    assert len(warnings_in(result)) == 1
    assert "No module named 'anomalib_plus'" in result.stderr


def test_hook_removed_but_start_up_file_left(interpreter):
    (interpreter.site_packages / "_anomalib_plus_autoload.py").unlink()
    assert runs_silently(interpreter.run("-c", UNTOUCHED))


def test_anomalib_absent(interpreter):
    shutil.rmtree(interpreter.site_packages / "anomalib")
    assert runs_silently(interpreter.run("-c", "import anomalib_plus; anomalib_plus.__version__"))
    result = interpreter.run("-c", "import anomalib.models")
    assert result.stderr.strip().endswith("ModuleNotFoundError: No module named 'anomalib'")


def test_errors_of_anomalib_pass_unchanged_and_can_be_recovered_from(interpreter):
    models = dedent(STUBS["anomalib/models/__init__.py"])
    condition = "import builtins\nif not hasattr(builtins, 'repaired'): raise ImportError('needs X', name='X')\n"
    write(interpreter, "anomalib/models/__init__.py", condition + models)
    code = """
import builtins
try:
    import anomalib.models
except ImportError as error:
    assert type(error) is ImportError and str(error) == "needs X" and error.name == "X"
else:
    raise AssertionError
builtins.repaired = True
"""
    assert runs_silently(interpreter.run("-c", code + REGISTERED))


def test_spawned_child_process(interpreter):
    write(
        interpreter,
        "spawning.py",
        """
        import multiprocessing

        def name_of_model(queue):
            import anomalib.models
            queue.put(anomalib.models.Repair.__name__)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            child = context.Process(target=name_of_model, args=(queue,))
            child.start()
            print(queue.get(timeout=60))
            child.join()
        """,
    )
    result = interpreter.run("-m", "spawning")
    assert (result.stdout, result.stderr) == ("Repair\n", "")


def test_entry_point_of_python_3_15_does_what_the_pth_line_does(interpreter):
    (interpreter.site_packages / "anomalib_plus_autoload.pth").unlink()
    entry = (interpreter.site_packages / "anomalib_plus_autoload.start").read_text().strip()
    start = f"import pkgutil; pkgutil.resolve_name({entry!r})()\n"
    assert runs_silently(interpreter.run("-c", start + REGISTERED))
    assert runs_silently(interpreter.run("-c", start + UNTOUCHED, ANOMALIB_PLUS_AUTOLOAD="0"))


@pytest.mark.skipif(sys.version_info < (3, 15), reason="older Pythons do not know .start files")
def test_start_file_is_read(interpreter):
    (interpreter.site_packages / "anomalib_plus_autoload.pth").unlink()
    assert runs_silently(interpreter.run("-c", REGISTERED))
