"""``score`` and ``watch``, killed at random moments and started again."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_bundle import write_tiny_bundle

RUN = "import sys; from anomalib_plus.cli import main; sys.exit(main())"
COMMANDS = {
    "score": "score bundle inbox --output outbox/results.csv --overlays outbox/overlays --resume",
    "watch": "watch bundle inbox outbox --interval 0.01",
}
PARTS = 300


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "bundle")
    folder = tmp_path / "inbox"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    pixels[..., 0] //= 3
    Image.fromarray(pixels).save(folder / "000.png")
    for number in range(1, PARTS):
        shutil.copy(folder / "000.png", folder / f"{number:03}.png")
    return folder


def start(command: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", RUN, *COMMANDS[command].split()], stdout=subprocess.PIPE, text=True)


def rows() -> int:
    table = Path("outbox/results.csv")
    return max(0, table.read_bytes().count(b"\n") - 1) if table.exists() else 0


def wait_for_rows(process: subprocess.Popen, count: int) -> None:
    end = time.monotonic() + 120
    while rows() < count:
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < end, f"{rows()} rows of {count}"
        time.sleep(0.001)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_nothing_is_lost_or_counted_twice(inbox: Path, command: str, kills: int) -> None:
    rng = random.Random(f"{command} {kills}")
    for number in range(1, kills + 1):
        process = start(command)
        wait_for_rows(process, PARTS * number // (kills + 2))
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate()
    assert rows() < PARTS, "a kill came in the middle"
    process = start(command)
    if command == "watch":
        wait_for_rows(process, PARTS)
        process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert ("300 accept, 0 reject, 0 unreadable" if command == "score" else " stopped\n") in printed

    with Path("outbox/results.csv").open(newline="") as file:
        found = [Path(row["file"]).name for row in csv.DictReader(file)]
    expected = sorted(path.name for path in inbox.iterdir())
    assert sorted(found) == expected
    if command == "watch":
        lines = Path("outbox/results.jsonl").read_text().splitlines()
        assert [json.loads(line)["file"] for line in lines] == found
    overlays = [path for path in Path("outbox/overlays").rglob("*") if path.is_file()]
    assert sorted(path.name for path in overlays) == [f"{name}.png" for name in expected], "no half ones"
    for path in overlays[:: PARTS // 10]:
        with Image.open(path) as overlay:
            overlay.load()


def test_a_station_stops_cleanly_in_the_middle(inbox: Path) -> None:
    process = start("watch")
    wait_for_rows(process, 3)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert printed.endswith(" stopped\n")
    content = Path("outbox/results.csv").read_bytes()
    assert content.endswith(b"\r\n")
    assert content.count(b"\n") - 1 == len(Path("outbox/results.jsonl").read_text().splitlines())
