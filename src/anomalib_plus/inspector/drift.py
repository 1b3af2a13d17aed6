"""Test of whether the scores of accepted parts still follow those of the calibration images.

The test is a conformal test martingale (Vovk, Nouretdinov and Gammerman, Testing Exchangeability On-Line, ICML 2003).
Each accepted part gets a p-value against the calibration scores and all accepted parts before it. As long as nothing
changes, these are independent and uniform, however few calibration images there are. (p-values against the calibration
scores alone are not: they share the chance errors of those scores, which any test detects in the long run.) The
martingale is the capital of a gambler who bets against uniform p-values. Without a change it reaches 1 / level with a
probability of at most ``level`` (Ville's inequality), over any number of parts of a period.

This assumes that each calibration image shows another part. Several images of one part are not independent: the test
takes them for more parts than they are, and false warnings can be more frequent than ``level``.
"""

import bisect
import math
import random
from collections.abc import Callable, Sequence

import numpy as np

PERIOD = 20_000
"""Number of accepted parts after which the test begins anew with the calibration scores."""
_AT_THRESHOLD = 1e-6
"""Scores this close to the threshold are not compared: calibration scores there have set it, so they are no sample."""
_NOT_ZERO = 1e-12

# Densities on (0, 1): for scores that rise (small p-values), fall (large ones), spread and gather.
_BETS: tuple[Callable[[float], float], ...] = (
    lambda p: 0.25 * p**-0.75,
    lambda p: 0.5 * p**-0.5,
    lambda p: 0.25 * (1 - p) ** -0.75,
    lambda p: 0.5 * (1 - p) ** -0.5,
    lambda p: 1 / (math.pi * math.sqrt(p * (1 - p))),
    lambda p: 30 * (p * (1 - p)) ** 2,
)
_START = [0.5 / len(_BETS)] * len(_BETS)
"""Capital of each bet at the start; the other half comes in over the period, because a change may come late."""


class DriftTest:
    """Running test of the scores of accepted parts.

    Only accepted parts are compared, with the calibration scores that would have been accepted: defective parts are
    no sign of drift. ``level`` is the largest probability of a false warning in a ``period`` of so many accepted parts,
    ``seed`` that of the random numbers that break ties.
    """

    def __init__(
        self,
        calibration_scores: Sequence[float],
        threshold: float,
        level: float = 0.01,
        seed: int = 0,
        period: int = PERIOD,
    ) -> None:
        self.warned = False
        self._end = threshold - _AT_THRESHOLD
        self._calibration = sorted(_single(score) for score in calibration_scores if score < self._end)
        self._limit = 1 / level
        self._period = period
        self._random = random.Random(seed)  # noqa: S311 -- repeatable, not secret
        self._scores, self._capital, self._count = list(self._calibration), list(_START), 0

    def add(self, score: float) -> bool:
        """Add the score of the next accepted part.

        Returns:
            True if the test warns now; it does so once.
        """
        if self.warned or score >= self._end:
            return False
        if self._count == self._period:
            self._scores, self._capital, self._count = list(self._calibration), list(_START), 0
        self._count += 1
        score = _single(score)
        p_value = self._p_value(score)
        bisect.insort(self._scores, score)
        share = 0.5 / (self._period * len(_BETS))
        self._capital = [bet(p_value) * (old + share) for bet, old in zip(_BETS, self._capital, strict=True)]
        self.warned = sum(self._capital) + 0.5 * (1 - self._count / self._period) >= self._limit
        return self.warned

    def _p_value(self, score: float) -> float:
        """Compute the smoothed p-value among all scores of the period, in which ties are broken at random."""
        not_larger = bisect.bisect_right(self._scores, score)
        equal = not_larger - bisect.bisect_left(self._scores, score)
        larger = len(self._scores) - not_larger
        p_value = (larger + self._random.random() * (equal + 1)) / (len(self._scores) + 1)
        return min(max(p_value, _NOT_ZERO), 1 - _NOT_ZERO)


def _single(score: float) -> float:
    """Round to single precision, the model's, so that equal scores stay equal however they were written."""
    return float(np.float32(score))
