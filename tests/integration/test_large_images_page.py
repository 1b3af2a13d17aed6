"""The code of docs/large_images.md runs as it stands there, on smaller images; the file builds the same model."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from anomalib.data import MVTecAD, get_datamodule
from anomalib.models import AnomalibModule

import anomalib_plus
from anomalib_plus import ConformalPostProcessor, DecisionEvaluator, RegionVisualizer, Tiled
from page_code import blocks, page, replaced, run

PAGE = "large_images.md"
SMALLER = {
    "max_epochs=40, check_val_every_n_epoch=20": "max_epochs=1, logger=False, accelerator='cpu'",
    "(256, 256)": "(32, 32)",
}


def build(text: str, folder: Path) -> Tiled:
    """Build the model of a file."""
    config = folder / "tiled.yaml"
    config.write_text(text.split("data:")[0])
    return AnomalibModule.from_config(config)


def test_the_code_and_the_file_on_the_page(mvtec_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def surfaces(category: str, **arguments: Any) -> MVTecAD:
        assert category == "sheet"
        return partial(MVTecAD, root=mvtec_layout, category="surface", num_workers=0)(**arguments)

    monkeypatch.setattr(anomalib_plus, "DemoSurfaces", surfaces, raising=False)
    (code,) = blocks(PAGE, "python")
    model = run(replaced(code, SMALLER), PAGE)["model"]
    assert model.post_processor.image_threshold.isfinite()

    built = build(blocks(PAGE, "yaml")[0], tmp_path)
    assert type(built) is Tiled
    assert built.model.tile == (256, 256)
    assert dict(built.inner.hparams).keys() == dict(model.inner.hparams).keys()
    assert [*map(len, (built.state_dict(), model.state_dict()))] == [len(model.state_dict())] * 2
    assert set(re.findall(r"^\| `(\w+)` \|", page(PAGE), flags=re.M)) >= {"model", "tile", "overlap", "scale"}


def test_the_file_of_tiles_region_and_threshold(left_mask: Path, tmp_path: Path) -> None:
    file = blocks(PAGE, "yaml")[1]
    built = build(file.replace("mask.png", str(left_mask)), tmp_path)
    assert built.model.tile == (256, 256)
    assert isinstance(built.post_processor, ConformalPostProcessor)
    assert built.post_processor.false_positive_rate == 0.05
    assert built.post_processor.roi.path == str(left_mask)
    assert isinstance(built.evaluator, DecisionEvaluator)
    assert isinstance(built.visualizer, RegionVisualizer)
    data = yaml.safe_load(file)["data"]
    assert get_datamodule(data).val_split_mode == "from_train"
