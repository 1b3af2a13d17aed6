"""Comparison of candidates: image AUROC and AUPRO on the same images, and the spread over draws of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomalib_plus.benchmark.quality import qualities

DRAWS = 1000
_INTERVAL = (2.5, 97.5)
_CHANCE = 0.5
MOST_LOSS = 0.02
"""Difference of quality from which a candidate is never level: few images make any interval wide."""


@dataclass(frozen=True)
class Score:
    """Result of a candidate in a round.

    Args:
        label: Its name.
        auroc: Image AUROC.
        low: Lower end of its 95 percent bootstrap interval.
        high: Upper end.
        aupro: AUPRO, None without masks.
        quality: See :func:`~anomalib_plus.benchmark.quality.qualities`.
        latency_ms: Milliseconds of the network on one image, not exported.
        effort: Measure of speed that orders candidates: milliseconds, or operations where a build must be repeatable.
        is_level: True if it is level with the best; see :func:`compare`.
    """

    label: str
    auroc: float
    low: float
    high: float
    aupro: float | None
    quality: float
    latency_ms: float
    effort: float
    is_level: bool

    @property
    def rank_key(self) -> tuple[float, float, float]:
        """Order of candidates, best first: quality, then image AUROC, then speed."""
        return (-self.quality, -self.auroc, self.effort)


def auroc(scores: NDArray[np.floating], labels: NDArray[np.bool_], weights: NDArray[np.floating]) -> NDArray:
    """Compute weighted image AUROCs: the share of pairs in which the defective image has the higher score.

    Args:
        scores: (N,).
        labels: (N,), True for defective.
        weights: (D, N), for each draw how often it contains each image.

    Returns:
        (D,); NaN where a draw lacks one kind.
    """
    good, defective = scores[~labels], scores[labels]
    wins = (defective[:, None] > good).astype(float) + 0.5 * (defective[:, None] == good)
    of_good, of_defective = weights[:, ~labels], weights[:, labels]
    pairs = of_good.sum(axis=1) * of_defective.sum(axis=1)
    total = ((of_defective @ wins) * of_good).sum(axis=1)
    return np.divide(total, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def draw_weights(sources: Sequence[str], seed: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """Draw sources with replacement; return (draws, N): how often each image is drawn, with all of its source."""
    names = sorted(set(sources))
    place = {name: index for index, name in enumerate(names)}
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return counts[:, [place[source] for source in sources]].astype(float)


def compare(
    scores: Mapping[str, NDArray[np.floating]],
    labels: NDArray[np.bool_],
    sources: Sequence[str],
    aupros: Mapping[str, float | None],
    latencies: Mapping[str, float],
    efforts: Mapping[str, float],
    seed: int,
) -> list[Score]:
    """Rank candidates, best first.

    The best has the highest quality. A candidate is level with it if the 95 percent interval of the difference of their
    image AUROCs, over draws of the same images for both, contains zero, and its quality is less than 2 points lower.

    Args:
        scores: Image scores (N,) by candidate.
        labels: (N,), True for defective.
        sources: Name of the part that each image shows.
        aupros: By candidate.
        latencies: See :class:`Score`; by candidate.
        efforts: See :class:`Score`; by candidate.
        seed: Seed of the draws.
    """
    weights = draw_weights(sources, seed)
    once = np.ones((1, len(labels)))
    drawn = {label: auroc(values, labels, weights) for label, values in scores.items()}
    found = {label: float(auroc(values, labels, once)[0]) for label, values in scores.items()}
    quality = qualities(found, aupros)
    best = min(scores, key=lambda label: (-quality[label], -found[label], efforts[label]))
    ranked = []
    for label in scores:
        low, high = np.nanpercentile(drawn[label], _INTERVAL)
        behind = float(np.nanpercentile(drawn[best] - drawn[label], _INTERVAL[0]))
        is_level = behind <= 0 and quality[best] - quality[label] < MOST_LOSS
        of_images = (found[label], float(low), float(high))
        speed = (latencies[label], efforts[label])
        ranked.append(Score(label, *of_images, aupros[label], quality[label], *speed, is_level))
    return sorted(ranked, key=lambda score: score.rank_key)


def choose(ranked: Sequence[Score], max_latency_ms: float | None) -> tuple[list[Score], str]:
    """Order candidates for the final training and say why the first one is chosen.

    Of those level with the best, the fastest is first. Candidates whose estimated latency exceeds the limit come last.
    ``ranked`` is the result of :func:`compare`.
    """
    limit = np.inf if max_latency_ms is None else max_latency_ms
    fits = [score for score in ranked if score.latency_ms <= limit]
    pool = fits or list(ranked)
    level = sorted((score for score in pool if score.is_level), key=lambda score: score.effort)
    order = [*level, *(score for score in pool if score not in level)]
    order += [score for score in ranked if score not in order]
    first, best = order[0], ranked[0]
    reason = _reason(first, best, [score for score in level if score is not first])
    if len(fits) < len(ranked):
        slow = ", ".join(score.label for score in ranked if score.latency_ms > limit)
        reason += f" The limit of {limit:g} ms is exceeded, before export, by {slow}."
    return order, reason


def _reason(first: Score, best: Score, level: Sequence[Score]) -> str:
    own = (
        f"{first.label} has an image AUROC of {100 * first.auroc:.1f} % (95 % interval {100 * first.low:.1f} to "
        f"{100 * first.high:.1f}{', which may be chance' if first.low <= _CHANCE else ''})"
    )
    if first.aupro is not None:
        own += f" and an AUPRO of {100 * first.aupro:.1f} %: a mean of {100 * first.quality:.1f} %"
    if level:
        names = " and ".join(score.label for score in level)
        verb = "is" if len(level) == 1 else "are"
        why = "is the fastest" if first.effort == first.latency_ms else "needs the fewest operations"
        return f"{own}. {names} {verb} level within the spread; {first.label} {why} of them."
    if first is best:
        return f"{own}. No other candidate is level with it within the spread."
    return f"{own}; {best.label} has {100 * best.auroc:.1f} % but is too slow."
