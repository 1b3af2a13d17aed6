"""Parameters, operations, latency and memory of a trained model, without reading files or computing metrics."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

BATCH = 8
_MIN_RUNS, _MAX_RUNS, _SECONDS = 3, 20, 3.0

logger = logging.getLogger(__name__)


def inference_costs(network: nn.Module, images: Tensor) -> dict[str, Any]:
    """Measure parameters, multiply-accumulates, latency and throughput of a network in evaluation mode.

    ``images`` (1 or more, C, H, W) are pre-processed and on the network's device; they are repeated to a full batch.
    """
    one = images[:1].contiguous()
    many = images.repeat(-(-BATCH // len(images)), 1, 1, 1)[:BATCH].contiguous()
    single, batch = latency(network, one), latency(network, many)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "trainable_parameters": sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        "gmacs": count_gmacs(network, one),
        "latency_ms_batch1": 1000 * single,
        "latency_ms_batch": 1000 * batch,
        "batch": BATCH,
        "throughput_images_per_second": BATCH / batch,
    }


@torch.inference_mode()
def latency(network: nn.Module, images: Tensor) -> float:
    """Median seconds of a forward pass after two warm-up passes."""

    def run() -> None:
        network(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)

    return median(seconds_in_turns({"network": run})["network"])


def seconds_in_turns(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Time functions in turns, so that other load on the machine slows all of them equally.

    Each function has two warm-up runs, then between 3 and 20 runs, in three seconds on average.

    Returns:
        Seconds of each run, by name; the same number of runs for all, in the same order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-2, _MAX_RUNS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
        if turn + 1 >= _MIN_RUNS and sum(map(sum, seconds.values())) > _SECONDS * len(calls):
            break
    return seconds


@torch.no_grad()
def count_gmacs(network: nn.Module, images: Tensor) -> float | None:
    """Count the multiply-accumulates (10^9) of a forward pass; None if torch's counter fails on the network."""
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            network(images)
    except Exception:  # a missing count must not cost the trained model
        logger.warning("The multiply-accumulates cannot be counted; gmacs is null.", exc_info=True)
        return None
    return counter.get_total_flops() / 2e9


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory so far: allocated by torch on a CUDA device, else resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage, it starts anew with the program
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
