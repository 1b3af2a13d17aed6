"""Every transform at B = 16, 256x256, beside anomalib's generator and a plain copy of the batch, paired in one run.

``pytest -s tests/benchmarks/test_transforms.py`` prints the tables: medians, because every call draws other work. One
thread is timed by the processor time it takes, which other programs hardly change; two threads by the clock, which is
worth something on an idle machine only: OpenMP threads that wait for a busy core multiply the time of small operations.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest
import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator, generate_perlin_noise
from rich.console import Console
from rich.table import Table
from skimage import data
from torch import Tensor
from torch.nn.functional import interpolate

from anomalib_plus import RbAE
from anomalib_plus.transforms import (
    Augmenter,
    Cutout,
    CutPaste,
    DeletePaste,
    Mix,
    Nuisance,
    PerlinAnomaly,
    TextureSource,
)
from anomalib_plus.transforms.foreground import otsu_foreground
from anomalib_plus.transforms.gradient_noise import draw_gradient_noise
from anomalib_plus.transforms.mix import ALL_DEFECTS
from anomalib_plus.transforms.texture_operations import apply_operations, draw_operations

BATCH, SIZE = 16, (256, 256)
ROUNDS = 25


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Sixteen different crops of a photograph, 3 x 256 x 256."""
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None] / 255
    image = interpolate(image, (300, 300), mode="bilinear", antialias=True)
    return torch.cat([image[..., i : i + SIZE[0], 2 * i : 2 * i + SIZE[1]] for i in range(BATCH)])


@pytest.fixture(scope="module")
def textures() -> TextureSource:
    source = TextureSource()
    with pytest.warns(UserWarning, match="No texture folder"):
        source.load(SIZE)
    return source


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def median_times(contenders: dict[str, Callable[[], object]], threads: int) -> dict[str, float]:
    """Seconds of each contender's median call; every round calls each of them once."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            start = clock()
            contender()
            seconds[name].append(clock() - start)
    return {name: median(times) for name, times in seconds.items()}


def show(seconds: dict[str, float], reference: str, floor: str, threads: int) -> None:
    table = Table(
        f"B = {BATCH}, 3x{SIZE[0]}x{SIZE[1]}", "ms", "images / s", "times faster", "copies", title=f"threads: {threads}"
    )
    for name, value in seconds.items():
        ratios = f"{seconds[reference] / value:.1f}", f"{value / seconds[floor]:.1f}"
        table.add_row(name, f"{value * 1e3:.2f}", f"{BATCH / value:.0f}", *ratios)
    Console(width=120).print(table)


def test_transforms_side_by_side(
    photos: Tensor, textures: TextureSource, threads: int, benchmark: Callable[..., object]
) -> None:
    fear, rbae = PerlinAnomaly(textures, probability=1.0), RbAE.configure_augmenter(textures=textures)
    upstream = PerlinAnomalyGenerator(probability=1.0)
    rectangles = {"DeletePaste": DeletePaste(), "CutPaste": CutPaste(), "Cutout": Cutout()}
    contenders: dict[str, Callable[[], object]] = {
        "anomalib's PerlinAnomalyGenerator": lambda: upstream(photos),
        "PerlinAnomaly, all of FEAR": lambda: fear.corrupt(photos),
        "PerlinAnomaly, images not rotated": lambda: fear(photos),  # as anomalib's generator does
        "RbAE's PerlinAnomaly": lambda: rbae(photos),
        **{name: lambda transform=transform: transform(photos) for name, transform in rectangles.items()},
        "copy of the batch": photos.clone,
    }
    seconds = median_times(contenders, threads)
    show(seconds, "anomalib's PerlinAnomalyGenerator", "copy of the batch", threads)
    benchmark.extra_info.update({f"{name} [ms]": value * 1e3 for name, value in seconds.items()})
    benchmark.pedantic(contenders["PerlinAnomaly, all of FEAR"], rounds=ROUNDS)
    assert seconds["anomalib's PerlinAnomalyGenerator"] >= 5 * seconds["PerlinAnomaly, all of FEAR"]
    assert seconds["anomalib's PerlinAnomalyGenerator"] >= 2 * seconds["RbAE's PerlinAnomaly"]
    if threads == 1:  # what takes few milliseconds is all waiting for the other thread if its core is busy
        assert seconds["DeletePaste"] <= 5 * seconds["copy of the batch"]


def test_placed_defects_side_by_side(photos: Tensor, threads: int, benchmark: Callable[..., object]) -> None:
    upstream = PerlinAnomalyGenerator(probability=1.0)
    kinds: dict[str, Augmenter] = {kind.__name__: kind() for kind in (*ALL_DEFECTS, Nuisance, Mix)}
    kinds["Mix, foreground"] = Mix(roi="foreground")
    contenders: dict[str, Callable[[], object]] = {
        "anomalib's PerlinAnomalyGenerator": lambda: upstream(photos),
        **{name: lambda transform=transform: transform.corrupt(photos) for name, transform in kinds.items()},
        "copy of the batch": photos.clone,
    }
    seconds = median_times(contenders, threads)
    show(seconds, "anomalib's PerlinAnomalyGenerator", "copy of the batch", threads)
    benchmark.extra_info.update({f"{name} [ms]": value * 1e3 for name, value in seconds.items()})
    benchmark.pedantic(contenders["Mix"], rounds=ROUNDS)
    if threads == 1:  # see above
        slow = [name for name in kinds if seconds["anomalib's PerlinAnomalyGenerator"] < 4 * seconds[name]]
        assert slow == []


def test_noise_and_the_other_parts(
    photos: Tensor, textures: TextureSource, threads: int, benchmark: Callable[..., object]
) -> None:
    places = torch.arange(0, BATCH * SIZE[0] * SIZE[1], 50)  # one pixel in fifty, as many as anomalies have
    rows, positions = places // (SIZE[0] * SIZE[1]), places % (SIZE[0] * SIZE[1])

    def augment() -> object:
        augmented = apply_operations(textures.sample(BATCH, SIZE), draw_operations("draem", BATCH, 3))
        return augmented.at(rows, positions)

    contenders: dict[str, Callable[[], object]] = {
        "anomalib's generate_perlin_noise": lambda: [
            generate_perlin_noise(*SIZE, device=torch.device("cpu")) for _ in range(BATCH)
        ],
        "gradient noise": lambda: draw_gradient_noise(BATCH, SIZE, (0, 5)),
        "foreground": lambda: otsu_foreground(photos),
        "textures, 3 of 6 operations": augment,
        "copy of the batch": photos.clone,
    }
    seconds = median_times(contenders, threads)
    show(seconds, "anomalib's generate_perlin_noise", "copy of the batch", threads)
    benchmark.extra_info.update({f"{name} [ms]": value * 1e3 for name, value in seconds.items()})
    benchmark.pedantic(contenders["gradient noise"], rounds=ROUNDS)
    assert seconds["anomalib's generate_perlin_noise"] >= 8 * seconds["gradient noise"]
