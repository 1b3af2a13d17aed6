"""RbAE's reference attention against the form that holds the matrix of all pairs of patches, at the paper's widths.

``pytest -s tests/benchmarks/test_rbae_attention.py``
prints the table: layer 3 (256 channels) and layer 4 (512) of a
256x256 and of a 512x512 image, patches of 2x2 and 4x4, batch of two.
"""

import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from anomalib_plus.models.rbae.repair import attend_to_reference, from_patches, to_patches

BATCH, ROUNDS, TEMPERATURE = 2, 2, 0.1
LAYERS = {
    (size, layer): (channels, size // stride)
    for size in (256, 512)
    for layer, channels, stride in ((3, 256, 4), (4, 512, 8))
}


def naive(features: Tensor, reference: Tensor, patch_size: int, temperature: float) -> Tensor:
    patches, clean = to_patches(features, patch_size), to_patches(reference, patch_size)
    similarity = F.normalize(patches, dim=-1) @ F.normalize(clean, dim=-1).transpose(1, 2)
    mixed = torch.softmax(similarity / temperature, dim=-1) @ clean
    return from_patches(mixed, patch_size, features.shape[-2:])


FORMS: dict[str, Callable[[Tensor, Tensor, int, float], Tensor]] = {"naive": naive, "ours": attend_to_reference}


def inputs(channels: int, side: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = (torch.rand(count, channels, side, side, generator=generator) for count in (BATCH, 1))
    return next(draw), next(draw)


def high_water_mark() -> float:
    """Largest resident memory of this process so far in MiB (Linux)."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024


def memory_of_a_call(form: str, channels: int, side: int, patch_size: int, queue: multiprocessing.Queue) -> None:
    """Report by how many MiB a call raises the peak memory of a process that holds the inputs."""
    features, reference = inputs(channels, side)
    before = high_water_mark()
    with torch.no_grad():
        FORMS[form](features, reference, patch_size, TEMPERATURE)
    queue.put(high_water_mark() - before)


def peak_memory(*arguments: object) -> float:
    context = multiprocessing.get_context("fork")  # one thread, and a fork's high-water mark starts anew
    queue = context.Queue()
    process = context.Process(target=memory_of_a_call, args=(*arguments, queue))
    process.start()
    mebibytes = queue.get(timeout=300)
    process.join()
    return mebibytes


def test_attention_against_the_naive_form(benchmark: Callable) -> None:
    torch.set_num_threads(1)
    table = Table("image", "layer", "patch", "naive s", "ours s", "naive MiB", "ours MiB", title="one thread")
    ratios = []
    for (size, layer), (channels, side) in LAYERS.items():
        for patch_size in (2, 4):
            features, reference = inputs(channels, side)
            seconds: dict[str, list[float]] = {form: [] for form in FORMS}
            with torch.no_grad():
                results = [function(features, reference, patch_size, TEMPERATURE) for function in FORMS.values()]
                torch.testing.assert_close(*results, atol=1e-5, rtol=0)
                for _ in range(ROUNDS):  # paired: each round times both, so a busy machine slows both
                    for form, function in FORMS.items():
                        start = time.process_time()
                        function(features, reference, patch_size, TEMPERATURE)
                        seconds[form].append(time.process_time() - start)
            memory = {form: peak_memory(form, channels, side, patch_size) for form in FORMS}
            numbers = [f"{min(values):.3f}" for values in seconds.values()] + [f"{m:.0f}" for m in memory.values()]
            table.add_row(f"{size}x{size}", str(layer), f"{patch_size}x{patch_size}", *numbers)
            ratios.append(median(ours / other for other, ours in zip(*seconds.values(), strict=True)))
            if (size, layer, patch_size) == (512, 3, 2):
                largest = memory
    Console(width=100).print(table)
    features, reference = inputs(256, 64)
    benchmark.pedantic(attend_to_reference, (features, reference, 2, TEMPERATURE), rounds=1)
    assert median(ratios) <= 1.15
    assert largest["ours"] <= 0.75 * largest["naive"]
