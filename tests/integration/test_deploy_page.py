"""The scripts of docs/deploy.md run as they stand there, on a model exported here."""

import csv
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

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
STATION = DOCS / "inspection_station.py"
JUDGE = DOCS / "int8_on_draws.py"


@pytest.fixture(scope="module")
def model(mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RamFAE, Path]:
    """A trained model and its export to OpenVINO."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    pre_processor = RamFAE.configure_pre_processor((32, 32))
    trained = RamFAE(channels=[4, 8], learning_rate=5e-3, pre_processor=pre_processor, visualizer=False)
    engine = Engine(
        max_epochs=10, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
        check_val_every_n_epoch=10,
    )  # fmt: skip
    engine.fit(trained, datamodule=MVTecAD(root=mvtec_layout, category="surface", train_batch_size=2, num_workers=0))
    engine.trainer.save_checkpoint(folder / "model.ckpt")
    return trained.eval(), engine.export(trained, ExportType.OPENVINO, export_root=folder)


def run_station(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[dict[str, str]]:
    monkeypatch.setattr(sys, "argv", [str(STATION), *map(str, arguments), "--once"])
    runpy.run_path(str(STATION), run_name="__main__")
    with (Path(str(arguments[2])) / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_station_judges_good_and_bad_files_once(
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
            verdict = trained(read_image(inbox / name, as_tensor=True)[None])
        score = verdict.pred_score.item()
        assert float(rows[name]["score"]) == pytest.approx(score, abs=1e-3)
        assert abs(score - 0.5) < 1e-3 or rows[name]["decision"] == ("reject" if score > 0.5 else "accept")
        with Image.open(outbox / f"{name}.heatmap.png") as heatmap, Image.open(inbox / name) as image:
            assert heatmap.size == image.size

    shutil.copy(inbox / "good_000.png", inbox / "later.png")
    os.utime(inbox / "good_001.png", (1, 1))  # another image of the same name
    again = run_station(monkeypatch, exported, inbox, outbox, "--threshold", "2")
    assert [row["file"] for row in again[len(rows) :]] == ["good_001.png", "later.png"]
    assert again[-1]["decision"] == "accept"


@pytest.mark.slow
def test_int8_is_judged_on_draws_of_the_demo(
    model: tuple[RamFAE, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    trained, exported = model
    checkpoint = exported.parents[2] / "model.ckpt"
    monkeypatch.setattr(sys, "argv", [str(JUDGE), "RamFAE", str(checkpoint), "--draws", "1", "--folder", str(tmp_path)])
    monkeypatch.chdir(tmp_path)  # for OpenVINO's cache
    runpy.run_path(str(JUDGE), run_name="__main__")
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
    (shown,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", (DOCS / "deploy.md").read_text(), flags=re.DOTALL)
        if "OpenVINOInferencer" in block and "def main" in block
    )
    assert shown == STATION.read_text()
    assert len(shown.splitlines()) < 60
