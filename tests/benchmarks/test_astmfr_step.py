"""Training step and inference of AstMFR against anomalib's Stfpm, and with the teacher's cache: 256x256, paired.

``pytest -s tests/benchmarks/test_astmfr_step.py``
prints the tables; about five minutes. Weights are random. Stfpm has
one backbone for both networks; the comparison counts multiply-adds, three times per trained and once per frozen layer.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule, Stfpm
from anomalib.models.components import TimmFeatureExtractor
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from anomalib_plus import AstMFR

BATCH, SIZE, ROUNDS = 2, 256, 3
WITHOUT = {"evaluator": False, "visualizer": False, "pre_processor": False, "post_processor": False}
WIDE = "wide_resnet50_2"
LAYERS = ("layer1", "layer2", "layer3")


def build_stfpm(backbone: str = WIDE) -> Stfpm:
    """Stfpm with random weights, which its constructor would download."""
    original = TimmFeatureExtractor.__init__

    def random_weights(self: TimmFeatureExtractor, *args: object, **kwargs: object) -> None:
        original(self, *args, **{**kwargs, "pre_trained": False})

    TimmFeatureExtractor.__init__ = random_weights
    try:
        return Stfpm(backbone=backbone, layers=LAYERS, **WITHOUT)
    finally:
        TimmFeatureExtractor.__init__ = original


def build_astmfr(**arguments: object) -> AstMFR:
    return AstMFR(pre_trained=False, **arguments, **WITHOUT).train()


class Step:
    """One training step per call, on the same images; no logging."""

    def __init__(self, model: AnomalibModule) -> None:
        self.model = model
        model.log = model.log_dict = lambda *args, **kwargs: None
        self.optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        paths = [f"{index}.png" for index in range(BATCH)]
        self.batch = ImageBatch(image=torch.rand(BATCH, 3, SIZE, SIZE), image_path=paths)

    def __call__(self) -> None:
        output = self.model.training_step(self.batch)
        self.optimizer.zero_grad()
        (output["loss"] if isinstance(output, dict) else output).backward()
        self.optimizer.step()


class Inference:
    """One evaluation of the same images per call."""

    def __init__(self, model: AnomalibModule) -> None:
        self.model = model
        self.network = model.model.eval()
        self.images = torch.rand(BATCH, 3, SIZE, SIZE)

    def __call__(self) -> None:
        with torch.inference_mode():
            self.network(self.images)


def multiply_adds(call: "Step | Inference") -> float:
    """Billions of multiply-adds of the convolutions per image.

    From the forward pass: PyTorch's counter takes the weight gradients of grouped convolutions for dense ones.
    """
    network = call.model.model
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.train()(torch.rand(1, 3, SIZE, SIZE))
    giga = {name.rpartition(".")[2]: sum(kinds.values()) / 2e9 for name, kinds in counter.get_flop_counts().items()}
    frozen = giga.get("teacher", giga.get("teacher_model"))
    whole = giga["Global"]
    network.train(isinstance(call, Step))
    if isinstance(call, Inference):
        return whole
    computed = 0.0 if getattr(call.model, "teacher_cache", None) and call.model.teacher_cache.capacity else frozen
    return computed + 3 * (whole - frozen)


def seconds_of(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median CPU seconds of each call; the rounds interleave them, so a busy machine slows all."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(time.process_time() - start)
    return {name: median(values) for name, values in spent.items()}


def report(title: str, calls: "dict[str, Step] | dict[str, Inference]") -> dict[str, float]:
    seconds = seconds_of(calls)
    table = Table(title, "CPU s per image", "GMACs per image", "s per 100 GMACs")
    for name, call in calls.items():
        giga = multiply_adds(call)
        per_image = seconds[name] / BATCH
        table.add_row(name, f"{per_image:.3f}", f"{giga:.1f}", f"{100 * per_image / giga:.2f}")
    Console().print(table)
    return seconds


def test_training_step_and_the_cache() -> None:
    steps = {
        "Stfpm, WideResNet50 twice": Step(build_stfpm().train()),
        "AstMFR": Step(build_astmfr()),
        "AstMFR, teacher cached": Step(build_astmfr(teacher_cache_gib=1)),
    }
    seconds = report(f"training step, {torch.get_num_threads()} threads", steps)
    ratio = seconds["AstMFR"] / seconds["AstMFR, teacher cached"]
    Console().print(f"The cache makes a step {ratio:.2f} times as fast; the multiply-adds allow 68.7 / 56.7 = 1.21.")
    assert ratio > 1.1


def test_inference() -> None:
    calls = {
        "Stfpm, WideResNet50 twice": Inference(build_stfpm()),
        "AstMFR": Inference(build_astmfr()),
    }
    report(f"inference, {torch.get_num_threads()} threads", calls)
