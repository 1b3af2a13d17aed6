"""docs/examples/constant_image.py prints the metrics of RamFAE's map against a constant image."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_plus.layers.blur import GaussianBlur
from anomalib_plus.layers.similarity import msgms_distance_map

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "constant_image.py"


def test_metrics_are_those_of_the_map_against_a_constant_image(
    mvtec_layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(mvtec_layout), "--category", "surface", "--size", "64"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())

    data = MVTecAD(root=mvtec_layout, category="surface", num_workers=0)
    data.setup()
    batches = list(data.test_dataloader())
    images, masks = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("image", "gt_mask"))
    labels = torch.cat([batch.gt_label for batch in batches])
    maps = GaussianBlur(3.5, 21)(msgms_distance_map(images, torch.full_like(images, 0.5)).mean(1, keepdim=True))[:, 0]
    expected = {
        "image_auroc": roc_auc_score(labels, maps.amax(dim=(1, 2))),
        "pixel_auroc": roc_auc_score(masks.ravel(), maps.ravel()),
        "pixel_ap": average_precision_score(masks.ravel(), maps.ravel()),
    }
    assert {name: float(printed[name]) for name in expected} == pytest.approx(expected, abs=1e-3)
    assert 0 < float(printed["aupro"]) <= 1
