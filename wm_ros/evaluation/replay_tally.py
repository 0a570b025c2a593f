"""Sums of a replay that stay as small however long the bag: means by key, percentiles of times.

In: one number at a time. Out: means and tables ready for JSON, None where nothing was measured.
Knows neither pictures nor models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

MODEL, SECOND = 'model', 'second'
COPY_LAST, HOLD_LAST, SHIFTED = 'copy_last', 'hold_last', 'shifted'
BASELINE = 'baseline'  # the model of an earlier run

DIGITS = 4
FASTEST_MS, GROWTH = 1e-3, 1.01  # times are told apart by 1 %, from a microsecond on
TIME_BINS = 1800  # up to about a minute

Table = dict[str, dict[str, float | None]]


def rounded(value: float | None, digits: int = DIGITS) -> float | None:
    """Return the value for JSON: None where there is none or where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


class Tally:
    """Weighted means by metric, contender and key.

    A ratio of sums is numerators over the weights that are their denominators: it does not explode
    where one frame stands still.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str], tuple[float, float, int]] = {}

    def add(
        self, metric: str, who: str, key: object, value: float | None, weight: float = 1.0
    ) -> None:
        """Add one number.

        Args:
            metric: what is measured.
            who: of which contender.
            key: horizon, lag, part of the bag; becomes text.
            value: the number, or the numerator; None is not counted.
            weight: the denominator.
        """
        if value is None:
            return
        at = (metric, who, str(key))
        total, weights, count = self._sums.get(at, (0.0, 0.0, 0))
        self._sums[at] = (total + value, weights + weight, count + 1)

    def mean(self, metric: str, who: str, key: object = '') -> float | None:
        """Return a mean; None where nothing was added or all weights are zero."""
        total, weights, _ = self._sums.get((metric, who, str(key)), (0.0, 0.0, 0))
        return total / weights if weights > 0 else None

    def count(self, metric: str, who: str, key: object = '') -> int:
        """Return how many numbers a mean is made of."""
        return self._sums.get((metric, who, str(key)), (0.0, 0.0, 0))[2]

    def contenders(self, metric: str) -> list[str]:
        """Return the contenders that a metric was added for, in order of appearance."""
        return list(dict.fromkeys(who for name, who, _ in self._sums if name == metric))

    def table(self, metric: str, keys: Iterable[object]) -> Table:
        """Return contender -> key -> rounded mean."""
        names = [str(key) for key in keys]
        return {
            who: {key: rounded(self.mean(metric, who, key)) for key in names}
            for who in self.contenders(metric)
        }

    def series(self, metric: str, keys: Iterable[object]) -> dict[str, list[float | None]]:
        """Return contender -> list of rounded means, one per key."""
        return {who: list(row.values()) for who, row in self.table(metric, keys).items()}


class Timeline:
    """The parts of a bag over which curves are averaged.

    Args:
        frames: expected steps of the bag; more go to the last part.
        parts: at most.
    """

    def __init__(self, frames: int, parts: int = 200) -> None:
        self._frames = max(1, frames)
        self.parts = min(parts, self._frames)

    def part_of(self, number: int) -> int:
        """Return the part that a step belongs to."""
        return min(number * self.parts // self._frames, self.parts - 1)

    def middles(self) -> list[int]:
        """Return the step in the middle of each part."""
        return [(2 * part + 1) * self._frames // (2 * self.parts) for part in range(self.parts)]


class Times:
    """Percentiles of any number of times, to 1 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(TIME_BINS, np.int64)

    def add(self, time_ms: float) -> None:
        """Count one time."""
        at = math.log(max(time_ms, FASTEST_MS) / FASTEST_MS) / math.log(GROWTH)
        self._counts[min(int(at), TIME_BINS - 1)] += 1

    def percentile(self, percent: float) -> float | None:
        """Return a percentile in ms; None where nothing was counted."""
        total = int(self._counts.sum())
        if not total:
            return None
        at = int(np.searchsorted(np.cumsum(self._counts), percent / 100 * total))
        return FASTEST_MS * GROWTH ** (min(at, TIME_BINS - 1) + 0.5)
