"""Tests of whether accepted parts still look like the calibration images: by their scores and their brightness.

The test of the scores is a conformal test martingale (Vovk, Nouretdinov and Gammerman, Testing Exchangeability On-Line,
ICML 2003). Each accepted part gets a p-value against the calibration scores and all accepted parts before it. As long
as nothing changes, these are independent and uniform, however few calibration images there are. (p-values against the
calibration scores alone are not: they share the chance errors of those scores, which any test detects in the long run.)
The martingale is the capital of a gambler who bets against uniform p-values. Without a change it reaches 1 / level with
a probability of at most ``level`` (Ville's inequality), over any number of parts of a period.

This assumes that each calibration image shows another part. Several images of one part are not independent: the test
takes them for more parts than they are, and false warnings can be more frequent than ``level``.

Brightness changes from hour to hour on most lines, within the range that the calibration images have too. A martingale
would detect that as well. So its test is a simpler one: whether a series of parts is unusually dark or bright.
"""

import bisect
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from anomalib_plus.inspector.bundle import BundleInfo
from anomalib_plus.inspector.table import as_number

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
_SERIES = 20
"""Number of parts whose median brightness is compared."""
_USUAL = (0.01, 0.5, 0.99)
"""Quantiles of the brightness of the calibration images: the ends of the usual range, and the median between them."""
_LEAST_CHANGE = 1.0
"""Grey levels beyond the usual range that are no change yet."""
_SCORES = (
    "the scores of accepted parts differ from those of the calibration images: the camera, the light or the parts have "
    "changed, or many defects are not found; check them, and build a new bundle if the change is to stay"
)
_START = [0.5 / len(_BETS)] * len(_BETS)
"""Capital of each bet at the start; the other half comes in over the period, because a change may come late."""


class Drift:
    """Tests of the rows of results of a bundle, in their order; rows of other bundles do not count.

    Only accepted parts are compared: a series of defects is no drift.
    """

    def __init__(self, info: BundleInfo) -> None:
        self.warnings: list[str] = []
        self._identity = info.identity
        self._scores = DriftTest(info.calibration_scores, info.threshold, seed=info.seed)
        self._brightness = BrightnessTest(info.calibration_brightness or (), info.number_of_parts)

    def add(self, row: Mapping[str, object]) -> str:
        """Add a row; return the warning that it causes, "" for nearly all."""
        if row["bundle"] != self._identity or row["decision"] != "accept":
            return ""
        score, brightness = as_number(str(row["score"])), as_number(str(row["brightness"]))
        found = [_SCORES] if score is not None and self._scores.add(score) else []
        if brightness is not None and (warning := self._brightness.add(brightness)):
            found.append(warning)
        self.warnings += found
        return "; ".join(found)


class BrightnessTest:
    """Test of whether images have become darker or brighter than the calibration images.

    It warns once, if the median of the last 20 images is outside of the range of 98 % of the calibration images by
    more than one grey level. The range of few parts is too narrow, and is extended at both ends by 2 / ``parts`` of it.
    """

    def __init__(self, calibration_brightness: Sequence[float], parts: int) -> None:
        self._last: deque[float] = deque(maxlen=_SERIES)
        self._warned = len(calibration_brightness) == 0
        if not self._warned:
            low, self._usual, high = np.quantile(calibration_brightness, _USUAL).tolist()
            margin = max(_LEAST_CHANGE, (high - low) * 2 / parts)
            self._low, self._high = low - margin, high + margin

    def add(self, brightness: float) -> str:
        """Add the brightness of the next image; return the warning, or "" if there is none."""
        self._last.append(brightness)
        if self._warned or len(self._last) < _SERIES:
            return ""
        median = statistics.median(self._last)
        self._warned = not self._low <= median <= self._high
        if not self._warned:
            return ""
        return (
            f"the images have become {'darker' if median < self._low else 'brighter'}: of the last {_SERIES} accepted "
            f"parts the median brightness is {median:.1f} of 255, of the calibration images {self._usual:.1f}, and "
            f"{self._low:.1f} to {self._high:.1f} is usual; check the light and the camera, and build a new bundle if "
            "the change is to stay"
        )


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
