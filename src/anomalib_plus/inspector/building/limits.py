"""Time, steps and workers of a build."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from anomalib_plus.benchmark.command import usable_cores
from anomalib_plus.benchmark.plan import Budget
from anomalib_plus.counts import counted
from anomalib_plus.inspector.building.findings import Finding

ROUNDS_FRACTION = 0.55
"""Fraction of the time for the rounds; the rest trains, exports and checks the chosen model."""
LAST_ROUND = 4
"""Most candidates of the round after which one is chosen."""
RESERVE_FRACTION = 0.1
"""Fraction of the time for export, check and report."""
FIRST_OVERHEAD = 20.0
"""Seconds of a job beside its training, before one was measured."""
LEAST_SECONDS = 5.0
_SHORT = 30.0
"""Seconds of a training below which its result says little."""
LEAST_END = 60.0
"""Seconds of export, check and report."""
_MOST_WORKERS = 4
"""Most trainings at a time by default: each takes 1.5 GB of memory."""


@dataclass(frozen=True)
class Limits:
    """Limits of a build.

    Args:
        seconds: Wall-clock seconds of the whole build.
        steps: Optimizer steps of a training in the first round, doubled in each later one, instead of time; then the
            result does not depend on the machine's speed.
        workers: Jobs at a time.
    """

    seconds: float
    steps: int | None = None
    workers: int = 1

    @property
    def threads(self) -> int:
        """Threads of each training, the last one too: on a busy machine, threads that wait for cores make few steps."""
        return max(usable_cores() // self.workers, 1)


def in_words(budget: Mapping[str, Any]) -> str:
    """Say what a training may use: "20 seconds", "1 step"."""
    units = {name: name.removeprefix("max_").removesuffix("s") for name in budget}
    return " and ".join(counted(value, units[name]) for name, value in budget.items() if value)


def default_workers() -> int:
    """Trainings at a time: small networks use one core each better than several cores one after the other."""
    return 1 if torch.cuda.is_available() else min(usable_cores(), _MOST_WORKERS)


def rounds_of(candidates: int) -> int:
    """Number of rounds from this number of candidates on."""
    return 1 if candidates <= LAST_ROUND else 1 + rounds_of(math.ceil(candidates / 2))


def time_finding(candidates: int, limits: Limits) -> Finding:
    """Say what the time allows."""
    rounds = rounds_of(candidates)
    if limits.steps is not None:
        seen = f"{counted(limits.steps, 'step')} in the first of {counted(rounds, 'round')}"
        return Finding("Time", seen, "There is no limit of time, and the same build gives the same choice.")
    jobs, competing = 0, candidates
    for _ in range(rounds):
        jobs, competing = jobs + competing, math.ceil(competing / 2)
    least = (jobs * (FIRST_OVERHEAD + LEAST_SECONDS) / limits.workers + LEAST_END) / 60
    share = ROUNDS_FRACTION * limits.seconds / rounds / math.ceil(candidates / limits.workers)
    short = share - FIRST_OVERHEAD
    minutes = counted(limits.seconds / 60, "minute")
    seen = f"{minutes} for {counted(candidates, 'candidate')} in {counted(rounds, 'round')}"
    if 60 * least > limits.seconds:
        decided = (
            f"Too little: expect {least:.0f}, with hardly any training. Give more, or fewer candidates (--models)."
        )
    elif short < _SHORT:
        decided = (
            f"The first trainings have about {short:.0f} seconds each, which is short. Give more --minutes, or fewer "
            "candidates (--models)."
        )
    else:
        decided = (
            f"About {100 * ROUNDS_FRACTION:.0f} % are for the comparison, the rest for the chosen model and its export."
        )
    return Finding("Time", seen, decided)


def remaining_budget(limits: Limits, last: Mapping[str, Any], spent: float, reserve: float) -> Budget:
    """Return what the final training may use: the time left after a reserve for export and report, or steps.

    At least as much as in the last round, whose budget is ``last``: a shorter training would not be the one that was
    compared.
    """
    if limits.steps is not None:
        return Budget(max_steps=2 * last["max_steps"])
    return Budget(max_seconds=round(max(limits.seconds - spent - reserve, last["max_seconds"]), 1))
