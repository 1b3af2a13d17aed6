"""A training step of FEAR against anomalib's Draem: B = 8, 256x256, widths 32 and 16, paired in one run.

``pytest tests/benchmarks/test_fear_step.py -s`` prints the table. A step is augmentation, forward pass, loss, backward
pass and Adam. Draem's networks are replaced by its own at these widths; both fill defects from one texture folder.
"""

import multiprocessing
import re
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

BATCH, SIZE, WIDTHS, ROUNDS = 8, 256, (32, 16), 5
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
    return FEAR(*WIDTHS, texture_dir=textures, **WITHOUT)


BUILDERS: dict[str, Callable[[Path], AnomalibModule]] = {"Draem": build_draem, "FEAR": build_fear}


class Step:
    """One training step per call, on the same images; no logging."""

    def __init__(self, name: str, textures: Path) -> None:
        torch.manual_seed(0)
        self.model = BUILDERS[name](textures).train()
        self.model.log = self.model.log_dict = lambda *args, **kwargs: None
        self.model._trainer = SimpleNamespace(max_epochs=700, max_steps=-1, global_step=0, callbacks=[], global_rank=0)
        self.optimizer = torch.optim.Adam(self.model.model.parameters(), lr=1e-4)
        self.batch = ImageBatch(image=torch.rand(BATCH, 3, SIZE, SIZE))

    def __call__(self) -> None:
        output = self.model.training_step(self.batch)
        self.optimizer.zero_grad()
        (output["loss"] if isinstance(output, dict) else output).backward()
        self.optimizer.step()


def high_water_mark() -> float:
    """Largest resident memory of this process so far in MiB (Linux; ``ru_maxrss`` would include the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def memory_of_steps(name: str, textures: Path, queue: multiprocessing.Queue) -> None:
    """Report by how many MiB two steps raise the peak memory of a fresh process that has built the model."""
    torch.set_num_threads(1)
    step = Step(name, textures)
    before = high_water_mark()
    step()
    step()
    queue.put(high_water_mark() - before)


def peak_memory(name: str, textures: Path) -> float:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=memory_of_steps, args=(name, textures, queue))
    process.start()
    mebibytes = queue.get(timeout=600)
    process.join()
    return mebibytes


def test_a_step_is_no_slower_than_draems(textures: Path, benchmark: Callable) -> None:
    steps = {name: Step(name, textures) for name in BUILDERS}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    busy: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # fills caches and the texture pool
    for _ in range(ROUNDS):  # paired: each round times both, so a busy machine slows both
        for name, step in steps.items():
            start, start_busy = time.perf_counter(), time.process_time()
            step()
            wall[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - start_busy)
    ratios = {
        "wall": median(fear / draem for draem, fear in zip(wall["Draem"], wall["FEAR"], strict=True)),
        "CPU": median(fear / draem for draem, fear in zip(busy["Draem"], busy["FEAR"], strict=True)),
    }
    memory = {name: peak_memory(name, textures) for name in steps}

    table = Table("training step", "wall s", "CPU s", "peak memory MiB", title=f"{torch.get_num_threads()} threads")
    for name in steps:
        table.add_row(name, f"{median(wall[name]):.2f}", f"{median(busy[name]):.2f}", f"{memory[name]:.0f}")
    table.add_row(
        "FEAR / Draem", *(f"{ratio:.2f}" for ratio in ratios.values()), f"{memory['FEAR'] / memory['Draem']:.2f}"
    )
    Console().print(table)
    benchmark.extra_info.update({f"{name} ratio": ratio for name, ratio in ratios.items()})
    benchmark.pedantic(steps["FEAR"], rounds=1)

    assert ratios["CPU"] <= 1.1
    assert memory["FEAR"] <= 1.25 * memory["Draem"]
