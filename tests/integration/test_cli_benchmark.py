"""A sweep of real trainings through the command, killed and resumed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from anomalib_plus.benchmark.plan import ID_LENGTH
from anomalib_plus.benchmark.store import ResultStore

RUN = "import sys; from anomalib_plus.cli import main; sys.exit(main(sys.argv[1:]))"
RAMFAE = {
    "class_path": "anomalib_plus.models.RamFAE",
    "init_args": {"widths": [4, 8], "smoothing_kernel": 5, "learning_rate": 2e-3},
}
PADIM = {
    "label": "PaDiM",
    "class_path": "anomalib.models.Padim",
    "init_args": {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "pre_trained": False, "n_features": 4},
}


@pytest.fixture
def sweep(mvtec_layout):
    def write(models: list[dict], seeds: list[int]) -> Path:
        data = {"root": str(mvtec_layout), "train_batch_size": 2, "eval_batch_size": 4, "num_workers": 0}
        content = {
            "models": models,
            "data": [{"class_path": "anomalib_plus.data.MVTec", "init_args": data}],
            "seeds": seeds,
            "budget": {"max_epochs": 2},
            "protocol": {"image_size": [64, 64]},
            "trainer": {"accelerator": "cpu"},
            "gallery": 1,
        }
        Path("sweep.yaml").write_text(yaml.safe_dump(content))
        return Path("sweep.yaml")

    return write


def start(config: Path, output: str, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, "benchmark", "--config", str(config), "--output", output, "--threads", "1"]
    return subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def results(output: str) -> list[dict]:
    file = Path(output) / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def kill_when(process: subprocess.Popen, happened) -> None:
    deadline = time.monotonic() + 120
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def is_alive(job_id: str) -> bool:
    """Whether a process has the job's name in its command line."""
    lines = (file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists())
    return any(job_id.encode() in line for line in lines)


def test_a_killed_training_starts_again_and_finishes(sweep):
    config = sweep([RAMFAE], [0])
    killed = start(config, "out")
    kill_when(killed, lambda: list(Path("out/jobs").glob("?" * ID_LENGTH + ".lock")))
    assert results("out") == []
    (description,) = Path("out/jobs").glob("*.json")
    deadline = time.monotonic() + 30
    while is_alive(description.stem) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(description.stem), "the training outlives its sweep"
    assert start(config, "out").wait() == 0
    (record,) = results("out")
    assert record["status"] == "ok"
    assert record["data"]["label"] == "MVTec"
    published = json.loads(Path("out/published.json").read_text())
    assert {entry["model"] for entry in published} == {RAMFAE["class_path"]}
    assert record["metrics"]["pixel_auroc"] is not None
    assert all((Path("out") / file).is_file() for file in record["gallery"][0]["files"].values())


@pytest.mark.slow
def test_five_kills_change_nothing(sweep):
    config = sweep([RAMFAE, PADIM], [0, 1])
    begin = time.time()
    assert start(config, "whole").wait() == 0
    moments = [begin, *(datetime.fromisoformat(record["finished"]).timestamp() for record in results("whole"))]
    rng = random.Random(0)
    for _ in range(5):
        finished = len(ResultStore(Path("killed")).states())
        left = moments[-1] - moments[finished]
        end = time.monotonic() + rng.uniform(0.1, 0.6) * left
        process = start(config, "killed")
        kill_when(process, lambda end=end: time.monotonic() > end)
        assert process.returncode == -signal.SIGKILL, "the sweep was over before it could be killed"
        print(f"killed with {finished} of 4 jobs finished and at most {left:.0f} s to go")
    assert start(config, "killed").wait() == 0
    whole, killed = ({record["job_id"]: record for record in results(name)} for name in ("whole", "killed"))
    assert len(results("killed")) == len(killed) == len(whole) == 4
    for job_id, record in whole.items():
        assert record["status"] == "ok"
        for part in ("metrics", "scores", "curves", "training", "gallery", "protocol", "model"):
            assert killed[job_id][part] == record[part], part


@pytest.mark.slow
def test_ray_gives_what_a_local_run_gives(sweep):
    pytest.importorskip("ray")
    config = sweep([RAMFAE, PADIM], [0])
    environment = dict(os.environ)
    assert start(config, "local").wait() == 0
    assert start(config, "ray", "--runner", "ray").wait() == 0
    assert os.environ == environment
    local, on_ray = ({record["job_id"]: record for record in results(name)} for name in ("local", "ray"))
    assert set(local) == set(on_ray)
    for job_id, record in local.items():
        assert on_ray[job_id]["status"] == "ok", on_ray[job_id]["error"]
        assert on_ray[job_id]["metrics"] == record["metrics"]
        for entry in on_ray[job_id]["gallery"]:
            assert (Path("ray") / entry["files"]["map"]).is_file()
