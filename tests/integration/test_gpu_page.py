"""The script of docs/gpu.md starts what there is, and goes on if something fails."""

import os
import subprocess
from pathlib import Path

import pytest

from anomalib_plus.benchmark import reproduce

ROOT = Path(__file__).parents[2]
SCRIPT = "docs/examples/gpu_session.sh"
STUB = """#!/bin/bash
printf '%s\\x1f' "$@" >>"$CALLS"
echo >>"$CALLS"
exit 1
"""


@pytest.mark.parametrize("lite", ["", "1"])
def test_the_script(
    lite: str, mvtec_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(STUB)
    (tmp_path / "bin" / "python3").chmod(0o755)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "screw").symlink_to(mvtec_layout / "surface", target_is_directory=True)
    calls, output = tmp_path / "calls", tmp_path / "output"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls), "LITE": lite}
    command = ["bash", SCRIPT, str(output), str(tmp_path / "data"), "9"]
    subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=60)
    started = [line.split("\x1f")[:-1] for line in calls.read_text().splitlines()]
    assert ["-m", "pytest", "tests/gpu"] in [call[:3] for call in started]
    assert (output / "costs.yaml").read_text().startswith((ROOT / "configs/benchmark/gpu.yaml").read_text())
    tables = [call[call.index("reproduce") + 1 :] for call in started if "reproduce" in call]
    assert len(tables) == 5
    for arguments in tables:
        assert reproduce.main([*arguments, "--dry-run"]) == 0
        assert arguments[arguments.index("--max-seconds") :][:2] == ["--max-seconds", "9"]
    assert capsys.readouterr().out.count("screw") >= 7
