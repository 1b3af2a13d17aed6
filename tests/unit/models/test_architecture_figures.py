"""The architecture figures show the networks' parts, their sizes and their use as they are at the papers' sizes."""
# ruff: noqa: RUF001

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anomalib_plus.models

DOCS = Path(__file__).parents[3] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "examples" / "architecture_figures.py"))
FIGURES = SCRIPT["FIGURES"]


def run_parts(network: nn.Module, images: Tensor, training: bool) -> dict[str, list[str]]:
    """Return the output sizes of the network's parts that a batch uses."""
    used: dict[str, list[str]] = {}

    def note(module: nn.Module, _: Any, output: Tensor | list[Tensor]) -> None:
        outputs = [output] if isinstance(output, Tensor) else output
        used[names[module]] = [" × ".join(map(str, tensor.shape[1:])) for tensor in outputs]

    names: dict[nn.Module, str] = {}
    for name, part in network.named_children():
        parts = part.children() if isinstance(part, nn.ModuleList | nn.ModuleDict) else [part]
        names |= dict.fromkeys(parts, name)
    hooks = [part.register_forward_hook(note) for part in names]
    network.train(training)(images)
    for hook in hooks:
        hook.remove()
    return used


def test_every_model_has_a_figure() -> None:
    assert set(FIGURES) == set(anomalib_plus.models.__all__)


@pytest.mark.parametrize("name", FIGURES)
def test_the_picture_is_the_scripts_and_the_readme_shows_it(name: str) -> None:
    picture = f"images/{name.lower()}_architecture.svg"
    assert (DOCS / picture).read_text() == SCRIPT["draw"](FIGURES[name], name), (
        "run docs/examples/architecture_figures.py"
    )
    readme = Path(anomalib_plus.models.__file__).parent / name.lower() / "README.md"
    assert f"](../../../../docs/{picture})" in readme.read_text().split("## Train")[0]


@pytest.mark.parametrize("name", FIGURES)
def test_parts_sizes_and_use_are_those_of_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # does not know the device "meta"
    boxes = [box for box in FIGURES[name].boxes if not isinstance(box, str)]
    side = 352 if "352" in boxes[0].content else 256
    weights = {"pre_trained": False} if name in {"AstMFR", "TSDN"} else {}
    with torch.device("meta"):
        network = getattr(anomalib_plus.models, name)(**weights).model
        images = torch.zeros(2, 3, side, side)
        trained = {
            part for part, module in network.named_children() if any(p.requires_grad for p in module.parameters())
        }
        sizes = run_parts(network, images, training=True)
        if hasattr(network, "enter_phase_2"):
            network.enter_phase_2(images[:1])
            sizes = run_parts(network, images, training=True) | sizes
        predicting = run_parts(network, images, training=False)
    parts = dict(network.named_children())
    parts.pop("map_generator")
    shown = {box.part: box for box in boxes if box.kind in {"trained", "frozen"}}
    assert {part for part, module in parts.items() if module.state_dict()} == set(shown)
    for box in boxes:
        if box.kind == "trained":
            assert box.part in trained
            assert (box.part in predicting) != box.dashed, f"{box.part}: dashed parts are for the training only"
        if box.kind == "frozen":
            assert not any(p.requires_grad for p in parts[box.part].parameters())
        if arrows := re.findall(r"→ ([\d× ]+\d)", box.content):
            assert arrows == sizes[box.part][-len(arrows) :]
