"""The states of all global generators, as they go into a checkpoint."""

import random

import numpy as np
import torch

from anomalib_plus.training.random_states import random_states, set_random_states


def draws() -> list[float]:
    return [torch.rand(()).item(), torch.randn(()).item(), np.random.rand(), np.random.randn(), random.gauss(0, 1)]  # noqa: NPY002


def test_draws_repeat_after_a_round_through_a_file() -> None:
    draws()  # leaves a second Gaussian number behind in NumPy and Python, which is part of their states
    torch.save(random_states(), "states.pt")
    first = draws()
    assert draws() != first
    set_random_states(torch.load("states.pt", weights_only=True))
    assert draws() == first


def test_states_of_more_gpus_than_there_are_do_not_matter() -> None:
    states = random_states()
    first = draws()
    set_random_states(states | {"cuda": [torch.zeros(16, dtype=torch.uint8)] * 9})
    assert draws() == first
