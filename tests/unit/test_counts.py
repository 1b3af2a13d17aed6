"""Counts in messages."""

import pytest

from anomalib_plus.counts import counted


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, "step"), "0 steps"),
        ((1, "step"), "1 step"),
        ((2, "step"), "2 steps"),
        ((1.0, "minute"), "1 minute"),
        ((2.50, "minute"), "2.5 minutes"),
        ((1, "batch", "batches"), "1 batch"),
        ((2, "batch", "batches"), "2 batches"),
    ],
)
def test_one_is_singular(arguments: tuple, text: str) -> None:
    assert counted(*arguments) == text
