"""Where the time of a TSDN training step goes, with the superpixels of its images cached.

``pytest -s tests/benchmarks/test_tsdn_step.py``
prints the tables, in CPU seconds of one thread: a batch of two at the
paper's size, and a batch of eight of a network for small machines. It prints too what leaving the decoder of the mask
out of inference saves.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch
from rich.console import Console
from rich.table import Table
from skimage import data
from torch.nn.functional import interpolate

from anomalib_plus import TSDN
from anomalib_plus.models.tsdn import loss as loss_module

WITHOUT = {"evaluator": False, "visualizer": False, "pre_processor": False, "post_processor": False}
SMALL = {"backbone": "tf_efficientnet_lite0", "ssim_size": 32, "fne_size": 4}
ROUNDS = 3
INSIDE = ("forward pass", "loss", "backward pass", "Adam")


class Clock:
    """Adds up the CPU seconds of parts of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[part] += time.process_time() - start

    def wrap(self, part: str, function: Callable) -> Callable:
        def timed(*args: Any) -> Any:
            with self.time(part):
                return function(*args)

        return timed


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photos(count: int, size: int) -> torch.Tensor:
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None] / 255
    image = interpolate(image, (size + 32, size + 32), mode="bilinear", antialias=True)
    return torch.cat([image[..., i : i + size, 2 * i : 2 * i + size] for i in range(count)])


def seconds_per_part(model: TSDN, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Median over some steps; the first one, uncounted, fills the cache."""
    model.log = model.log_dict = lambda *args, **kwargs: None
    model._images_repeat = True
    model.train()
    batch = ImageBatch(image=images, image_path=[f"photo {index}" for index in range(len(images))])
    optimizer = torch.optim.Adam(model.model.parameters(), lr=1e-5)
    forwards = (model.model.forward, model.loss.forward, loss_module.normality_target)
    rounds = []
    for _ in range(ROUNDS + 1):
        clock = Clock()
        model.model.forward = clock.wrap("forward pass", forwards[0])
        model.loss.forward = clock.wrap("loss", forwards[1])
        monkeypatch.setattr(loss_module, "normality_target", clock.wrap("target of the estimator", forwards[2]))
        with clock.time("step"):
            loss = model.training_step(batch)
            with clock.time("backward pass"):
                loss.backward()
            with clock.time("Adam"):
                optimizer.step()
                optimizer.zero_grad()
        rounds.append({**clock.seconds, "elsewhere": clock.seconds["step"] - sum(clock.seconds[p] for p in INSIDE)})
    return {part: median(seconds[part] for seconds in rounds[1:]) for part in rounds[-1]}


@pytest.mark.parametrize(
    ("arguments", "count", "size"), [({}, 2, 352), (SMALL, 8, 128)], ids=["the paper's size", "small machine"]
)
def test_nearly_all_of_a_step_is_spent_in_the_network(
    arguments: dict[str, Any], count: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = TSDN(**arguments, pre_trained=False, **WITHOUT)
    monkeypatch.setattr(TSDN, "anomaly_generator", torch.Generator().manual_seed(0))
    seconds = seconds_per_part(model, photos(count, size), monkeypatch)
    outside, target = seconds["elsewhere"], seconds["target of the estimator"]

    table = Table("", "CPU s", "share", title=f"{model.hparams['backbone']}, B = {count}, {size}x{size}, one thread")
    for name, value in {
        **{part: seconds[part] for part in INSIDE},
        "of the loss: target of the estimator": target,
        "everything else (superpixels)": outside,
        "step": seconds["step"],
    }.items():
        table.add_row(name, f"{value:.4f}", f"{value / seconds['step']:.1%}")
    Console().print(table)
    assert outside <= 0.1 * seconds["step"]
    assert outside + target <= 0.1 * seconds["step"]


@pytest.mark.parametrize(
    ("arguments", "count", "size"), [({}, 1, 352), (SMALL, 8, 128)], ids=["the paper's size", "small machine"]
)
def test_inference_without_the_decoder_of_the_mask(arguments: dict[str, Any], count: int, size: int) -> None:
    torch.manual_seed(0)
    network = TSDN(**arguments, pre_trained=False, **WITHOUT).model.eval()
    images = photos(count, size)
    seconds: dict[str, list[float]] = {"whole": [], "mask": []}
    with torch.inference_mode():
        features, skips = network.encode(images)
        contenders = {"whole": lambda: network(images), "mask": lambda: network.predict_mask(features, skips)}
        for _ in range(ROUNDS + 1):  # paired: a busy machine slows both
            for name, contender in contenders.items():
                start = time.process_time()
                contender()
                seconds[name].append(time.process_time() - start)
    without = median(seconds["whole"][1:])
    with_mask = without + median(seconds["mask"][1:])
    table = Table("inference", "CPU s", title=f"B = {count}, {size}x{size}, one thread")
    table.add_row("without the decoder of the mask", f"{without:.3f}")
    table.add_row("with it", f"{with_mask:.3f}")
    Console().print(table)
    assert without <= 0.95 * with_mask
