"""The code of docs/large_images.md runs as it stands there, on smaller images; the file builds the same model."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anomalib.data import MVTecAD
from anomalib.models import AnomalibModule

import anomalib_plus
from anomalib_plus import Tiled

PAGE = Path(__file__).parents[2] / "docs" / "large_images.md"
SMALLER = {"max_epochs=40": "max_epochs=1, logger=False, accelerator='cpu'", "(256, 256)": "(32, 32)"}


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return found


def test_the_code_and_the_file_on_the_page(mvtec_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def surfaces(category: str, **arguments: Any) -> MVTecAD:
        assert category == "sheet"
        return partial(MVTecAD, root=mvtec_layout, category="surface", num_workers=0)(**arguments)

    monkeypatch.setattr(anomalib_plus, "DemoSurfaces", surfaces, raising=False)
    code = block("python")
    for text, replacement in SMALLER.items():
        assert text in code
        code = code.replace(text, replacement)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    model = names["model"]
    assert model.post_processor.image_threshold.isfinite()

    config = tmp_path / "tiled.yaml"
    config.write_text(block("yaml").split("data:")[0])
    built = AnomalibModule.from_config(config)
    assert type(built) is Tiled
    assert built.model.tile == (256, 256)
    assert dict(built.inner.hparams).keys() == dict(model.inner.hparams).keys()
    assert [*map(len, (built.state_dict(), model.state_dict()))] == [len(model.state_dict())] * 2
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), flags=re.M)) >= {"model", "tile", "overlap", "scale"}
