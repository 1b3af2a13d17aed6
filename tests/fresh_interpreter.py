"""A Python of its own for tests of what happens at start-up: only there are ``.pth`` files read as in real life."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "src"
START_UP_FILES = ("_anomalib_plus_autoload.py", "anomalib_plus_autoload.pth", "anomalib_plus_autoload.start")
_INHERITED = ("ANOMALIB_PLUS_AUTOLOAD", "PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONSTARTUP")


class FreshInterpreter:
    """A virtual environment without pip; what else it holds, the test puts into ``site_packages``."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=os.name != "nt")
        layout = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
        self.site_packages = Path(layout["purelib"])
        self.python = Path(layout["scripts"]) / "python"

    def add_start_up_files(self) -> None:
        for name in START_UP_FILES:
            shutil.copy(SOURCES / name, self.site_packages)

    def add_installed_packages(self) -> None:
        """Make what the running interpreter has importable, after what lies in ``site_packages``.

        Start-up files in the added folders are not read, so an installed anomalib-plus has no say.
        """
        folders = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
        (self.site_packages / "zz_installed.pth").write_text("\n".join(folders))

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _INHERITED}
        return subprocess.run(
            [self.python, *arguments],
            cwd=cwd,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
