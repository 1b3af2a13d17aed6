"""The scripts of docs/deploy.md run as they stand there, on a model exported here."""

import csv
import os
import re
import runpy
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import anomalib.deploy
import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.data.utils import read_image
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalib_plus import DemoSurfaces
from anomalib_plus.models import RamFAE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "deploy.md"
STATION = DOCS / "examples" / "inspection_station.py"
INT8_ON_DRAWS = DOCS / "examples" / "int8_on_draws.py"


@pytest.fixture(scope="module")
def model(mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RamFAE, Path]:
    """A trained model and its export to OpenVINO."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    pre_processor = RamFAE.configure_pre_processor((32, 32))
    trained = RamFAE(widths=[4, 8], learning_rate=5e-3, pre_processor=pre_processor, visualizer=False)
    engine = Engine(
        max_epochs=10, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
        check_val_every_n_epoch=10,
    )  # fmt: skip
    engine.fit(trained, datamodule=MVTecAD(root=mvtec_layout, category="surface", train_batch_size=2, num_workers=0))
    engine.trainer.save_checkpoint(folder / "model.ckpt")
    return trained.eval(), engine.export(trained, ExportType.OPENVINO, export_root=folder)


def python_on_the_page() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def run_station(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[dict[str, str]]:
    monkeypatch.setattr(sys, "argv", [str(STATION), *map(str, arguments), "--once"])
    runpy.run_path(str(STATION), run_name="__main__")
    with (Path(str(arguments[2])) / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_station_predicts_good_and_bad_files_once(
    model: tuple[RamFAE, Path], mvtec_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, exported = model
    inbox, outbox = tmp_path / "inbox", tmp_path / "outbox"
    inbox.mkdir()
    for kind in ("good", "defect"):
        for image in (mvtec_layout / "surface" / "test" / kind).glob("*.png"):
            shutil.copy(image, inbox / f"{kind}_{image.name}")
    (inbox / "cut_off.png").write_bytes((inbox / "good_000.png").read_bytes()[:300])
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(inbox / "deep.png")
    Image.fromarray(np.zeros((40, 90), np.uint8)).save(inbox / "grey.png")
    (inbox / "notes.txt").write_text("not an image")

    rows = {row["file"]: row for row in run_station(monkeypatch, exported, inbox, outbox)}
    assert rows.keys() == {path.name for path in inbox.glob("*.png")}
    unreadable = {name: row["problem"] for name, row in rows.items() if row["decision"] == "unreadable"}
    assert unreadable.keys() == {"cut_off.png", "deep.png"}
    assert "cut off" in unreadable["cut_off.png"]
    assert "8 bits" in unreadable["deep.png"]
    for name in rows.keys() - unreadable.keys():
        with torch.inference_mode():
            prediction = trained(read_image(inbox / name, as_tensor=True)[None])
        score = prediction.pred_score.item()
        assert float(rows[name]["score"]) == pytest.approx(score, abs=1e-3)
        assert abs(score - 0.5) < 1e-3 or rows[name]["decision"] == ("reject" if score > 0.5 else "accept")
        with Image.open(outbox / f"{name}.heatmap.png") as heatmap, Image.open(inbox / name) as image:
            assert heatmap.size == image.size

    shutil.copy(inbox / "good_000.png", inbox / "later.png")
    os.utime(inbox / "good_001.png", (1, 1))  # another image of the same name
    again = run_station(monkeypatch, exported, inbox, outbox, "--threshold", "2")
    assert [row["file"] for row in again[len(rows) :]] == ["good_001.png", "later.png"]
    assert again[-1]["decision"] == "accept"


def test_the_station_takes_a_network_of_fixed_shape(
    model: tuple[RamFAE, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, exported = model
    shutil.copytree(exported.parent, tmp_path / "weights" / "openvino")
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in python_on_the_page() if "read_with_fixed_shape" in block)
    exec(compile(block, str(PAGE), "exec"), {})
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name, size in {"fits.png": (480, 640, 3), "other.png": (64, 64, 3)}.items():
        Image.fromarray(np.random.default_rng(0).integers(0, 256, size, np.uint8)).save(inbox / name)
    fits, other = run_station(monkeypatch, "weights/openvino/fixed.xml", inbox, tmp_path / "outbox")
    with torch.inference_mode():
        prediction = trained(read_image(inbox / fits["file"], as_tensor=True)[None])
    assert float(fits["score"]) == pytest.approx(prediction.pred_score.item(), abs=1e-3)
    assert other["decision"] == "unreadable"
    assert "shape" in other["problem"]


@pytest.fixture
def prediction(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a station without a network says about every image."""
    said = SimpleNamespace(pred_score=np.array([0.2]), anomaly_map=np.zeros((1, 1, 8, 8), np.float32))
    fake = SimpleNamespace(predict=lambda _: said)
    monkeypatch.setattr(anomalib.deploy, "OpenVINOInferencer", lambda *_: fake)
    return said


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """With one image in it."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "part.png")
    return folder


@pytest.mark.parametrize(
    ("score", "decision"), [(0.2, "accept"), (0.5, "accept"), (0.51, "reject"), (np.nan, "reject"), (np.inf, "reject")]
)
def test_the_station_accepts_only_what_lies_below_the_threshold(
    prediction: SimpleNamespace,
    inbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    score: float,
    decision: str,
) -> None:
    prediction.pred_score[:] = score
    (row,) = run_station(monkeypatch, "model.xml", inbox, inbox.parent / "outbox")
    assert (row["decision"], row["score"]) == (decision, str(score))
    assert datetime.fromisoformat(row["modified"]).tzinfo is not None
    start, line = capsys.readouterr().out.splitlines()
    assert f"monitoring {inbox}, rejecting scores above 0.5" in start
    assert line.endswith(f" part.png {score} {decision}")


def test_the_station_survives_links_odd_names_and_a_torn_table(
    prediction: SimpleNamespace, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = inbox.parent / "outbox"
    for name in (b"=1+1.png", b"no text \xff.png", b"two\nlines.png"):
        shutil.copy(inbox / "part.png", os.fsdecode(os.fsencode(inbox) + b"/" + name))
    (inbox / "dangling.png").symlink_to("nowhere")
    (inbox / "loop.png").symlink_to("loop.png")
    first = {row["file"]: row for row in run_station(monkeypatch, "model.xml", inbox, outbox)}
    assert {name for name, row in first.items() if row["decision"] == "unreadable"} == {"dangling.png", "loop.png"}
    assert "'=1+1.png" in first
    assert len(first) == 6
    for torn in ('"new', ""):  # a crash, and a restart without new images
        with (outbox / "results.csv").open("a") as file:
            file.write(torn)
        assert len(run_station(monkeypatch, "model.xml", inbox, outbox)) == 6
    shutil.copy(inbox / "part.png", inbox / "new.png")
    assert run_station(monkeypatch, "model.xml", inbox, outbox)[-1]["file"] == "new.png"


def test_the_station_predicts_a_file_that_rests_whatever_its_date(
    prediction: SimpleNamespace, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tomorrow = time.time() + 86_400
    os.utime(inbox / "part.png", (tomorrow, tomorrow))
    lines: list[int] = []

    def instead_of_sleeping(_: float) -> None:
        lines.append(len((inbox.parent / "outbox" / "results.csv").read_text().splitlines()))
        if len(lines) == 1:  # it was still being written
            os.utime(inbox / "part.png", (tomorrow, tomorrow + 1))
        if len(lines) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", instead_of_sleeping)
    monkeypatch.setattr(sys, "argv", [str(STATION), "model.xml", str(inbox), str(inbox.parent / "outbox")])
    with pytest.raises(KeyboardInterrupt):
        runpy.run_path(str(STATION), run_name="__main__")
    assert lines == [1, 1, 2, 2]


@pytest.mark.slow
def test_int8_is_predicted_on_draws_of_the_demo(
    model: tuple[RamFAE, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    trained, exported = model
    checkpoint = exported.parents[2] / "model.ckpt"
    monkeypatch.setattr(
        sys, "argv", [str(INT8_ON_DRAWS), "RamFAE", str(checkpoint), "--draws", "1", "--folder", str(tmp_path)]
    )
    monkeypatch.chdir(tmp_path)  # for OpenVINO's cache
    runpy.run_path(str(INT8_ON_DRAWS), run_name="__main__")
    printed = capfd.readouterr().out
    said = re.search(r"draw 0: FP32 (.*), INT8 (.*)\nRamFAE, washer: INT8 (.*) points in the mean", printed)
    assert said
    before, change, mean = map(float, said.groups())
    data = DemoSurfaces(tmp_path / "draw0", num_workers=0)
    data.setup()
    with torch.inference_mode():
        scores = torch.cat([trained(batch.image).pred_score for batch in data.test_dataloader()])
    assert before == pytest.approx(100 * roc_auc_score(data.test_data.samples.label_index, scores), abs=0.2)
    assert mean == change
    assert (tmp_path / "RamFAE" / "INT8" / "weights" / "openvino" / "model.xml").is_file()


def test_the_page_shows_the_station_as_it_is() -> None:
    (shown,) = (block for block in python_on_the_page() if "def main" in block)
    assert shown == STATION.read_text()
    assert len(shown.splitlines()) < 60
