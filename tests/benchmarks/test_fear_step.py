"""A training step of FEAR against anomalib's Draem: B = 8, 256x256, widths 32 and 16, paired in one run.

``pytest -s tests/benchmarks/test_fear_step.py``
prints the table. A step is augmentation, forward pass, loss, backward
pass and Adam. Draem's networks are replaced by its own at these widths; both fill defects from one texture folder.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule, Draem
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, ReconstructiveSubNetwork
from rich.console import Console
from rich.table import Table
from torchvision.io import write_png

from anomalib_plus import FEAR
from anomalib_plus.transforms.procedural_textures import procedural_textures

BATCH, SIZE, WIDTHS, ROUNDS = 8, 256, (32, 16), 3
WITHOUT = {"evaluator": False, "visualizer": False, "pre_processor": False, "post_processor": False}


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("textures")
    for index, texture in enumerate(procedural_textures(8, (SIZE, SIZE), torch.Generator().manual_seed(0))):
        write_png(texture, str(folder / f"{index}.png"))
    return folder


def build_draem(textures: Path) -> Draem:
    model = Draem(dtd_dir=textures, **WITHOUT)
    model.model.reconstructive_subnetwork = ReconstructiveSubNetwork(base_width=WIDTHS[0])
    model.model.discriminative_subnetwork = DiscriminativeSubNetwork(6, 2, base_width=WIDTHS[1])
    return model


def build_fear(textures: Path) -> FEAR:
    return FEAR(*WIDTHS, augmenter=FEAR.configure_augmenter(textures=textures), **WITHOUT)


BUILDERS: dict[str, Callable[[Path], AnomalibModule]] = {"Draem": build_draem, "FEAR": build_fear}


class Step:
    """One training step per call, on the same images; no logging."""

    def __init__(self, name: str, textures: Path, half_precision: bool = False) -> None:
        torch.manual_seed(0)
        self.model = BUILDERS[name](textures).train()
        self.model.log = self.model.log_dict = lambda *args, **kwargs: None
        self.model._trainer = SimpleNamespace(max_epochs=700, max_steps=-1, global_step=0, callbacks=[], global_rank=0)
        self.optimizer = torch.optim.Adam(self.model.model.parameters(), lr=1e-4)
        self.batch = ImageBatch(image=torch.rand(BATCH, 3, SIZE, SIZE))
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=half_precision)

    def __call__(self) -> None:
        with self.autocast:
            output = self.model.training_step(self.batch)
        self.optimizer.zero_grad()
        (output["loss"] if isinstance(output, dict) else output).backward()
        self.optimizer.step()


def resident_memory(figure: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (the most so far) of this process in MiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{figure}:\s+(\d+) kB", status).group(1)) / 1024


def print_peak_memory_of_steps(name: str, textures: Path, half_precision: bool) -> None:
    """Print how many MiB two steps take at their peak, on one thread."""
    torch.set_num_threads(1)
    step = Step(name, textures, half_precision)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building: Draem's networks are built twice
    before = resident_memory("VmRSS")
    step()
    step()
    print(resident_memory("VmHWM") - before)


def peak_memory(name: str, textures: Path, half_precision: bool) -> float:
    """Run the two steps in a process of their own, whose memory has seen nothing else."""
    arguments = [name, str(textures), "bfloat16" if half_precision else "float32"]
    finished = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return float(finished.stdout.splitlines()[-1])


def test_training_step_beside_draem(textures: Path, benchmark: Callable) -> None:
    variants = [(name, half_precision) for half_precision in (False, True) for name in BUILDERS]
    steps = {variant: Step(variant[0], textures, variant[1]) for variant in variants}
    wall: dict[tuple[str, bool], list[float]] = {variant: [] for variant in variants}
    for step in steps.values():
        step()  # fills caches and the texture pool
    for _ in range(ROUNDS):  # paired: each round times all, so a busy machine slows all
        for variant, step in steps.items():
            start = time.perf_counter()
            step()
            wall[variant].append(time.perf_counter() - start)
    memory = {variant: peak_memory(variant[0], textures, variant[1]) for variant in variants}

    baseline = variants[0]
    title = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    table = Table("training step", "seconds", "of Draem's in float32", "peak memory MiB", title=title)
    for variant in variants:
        ratio = median(ours / draems for ours, draems in zip(wall[variant], wall[baseline], strict=True))
        label = f"{variant[0]} {'bfloat16' if variant[1] else 'float32'}"
        table.add_row(label, f"{median(wall[variant]):.2f}", f"{ratio:.2f}", f"{memory[variant]:.0f}")
        benchmark.extra_info[f"{label} ratio"] = ratio
    Console().print(table)
    benchmark.pedantic(steps["FEAR", False], rounds=1)


if __name__ == "__main__":
    print_peak_memory_of_steps(sys.argv[1], Path(sys.argv[2]), half_precision=sys.argv[3] == "bfloat16")
