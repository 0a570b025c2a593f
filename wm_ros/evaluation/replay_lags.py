"""By lag since last seen: how well a future shows what had been out of sight, cell by cell.

In: frames, and futures that cover them. Out: PSNR on the cells that show again what they last
showed `lag` frames ago, by buckets of the lag. One frame ahead is no test (a lid's first sliver
gives it away), so each cell is judged in the future in which it lies 5 to 14 frames ahead: anchors
are 10 frames apart, so that is one future per cell.

Three kinds of cells: `all`; `hidden`, without those whose usual look comes back, such as
background behind a passing arm; `distinct`, of the hidden ones those that nothing nearby gives
away one frame earlier: what the memory alone can know.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.reappearance import Reappearance
from wm_ros.evaluation.replay_futures import EVERY, TRUE, Future
from wm_ros.evaluation.replay_hooks import ReappearanceFinder
from wm_ros.evaluation.replay_tally import COPY_LAST, Tally, rounded
from wm_ros.evaluation.replay_window import SPAN, Moment

EDGES = (25, 50, 125, 250, 500, 1000, 1500)
NAMES = (*(f'{low}-{high}' for low, high in pairwise(EDGES)), '>1500')
NEAREST = 5  # frames ahead
ALL, HIDDEN, DISTINCT = 'all', 'hidden', 'distinct'
KINDS = (DISTINCT, HIDDEN, ALL)


def bucket_of(lag: int) -> str | None:
    """Return the bucket of a lag in frames, upper ends included; None below the first."""
    if lag < EDGES[0]:
        return None
    for name, high in zip(NAMES, EDGES[1:], strict=False):
        if lag <= high:
            return name
    return NAMES[-1]


def kinds_of(cell: Reappearance) -> tuple[str, ...]:
    """Return the kinds that a cell is counted under."""
    if cell.common:
        return (ALL,)
    return (ALL, HIDDEN, DISTINCT) if cell.distinct else (ALL, HIDDEN)


class Lags:
    """Finds cells that reappear and scores the futures on them.

    Args:
        finder: the bookkeeping; None measures nothing.
        cell_px: side of a cell.
    """

    def __init__(self, finder: ReappearanceFinder | None, cell_px: int) -> None:
        self.tally = Tally()
        self._finder = finder
        self._cell_px = cell_px
        self._found: dict[int, Sequence[Reappearance]] = {}

    def look(self, moment: Moment) -> None:
        """Take the next step's frame."""
        if self._finder is None:
            return
        if moment.step.reset is not None:
            self._finder.reset()
        if moment.image_HWC is not None:
            self._found[moment.number] = self._finder.look(moment.number, moment.image_HWC)
        self._found.pop(moment.number - SPAN, None)

    def score(self, future: Future) -> int:
        """Score the cells that reappear 5 to 14 frames after the anchor.

        Returns:
            The longest lag among the distinct ones, 0 for none: futures worth looking at.
        """
        longest = 0
        for horizon in range(NEAREST, NEAREST + EVERY):
            for cell in self._found.get(future.number + horizon, ()):
                self._score_cell(future, horizon, cell)
                if DISTINCT in kinds_of(cell):
                    longest = max(longest, cell.lag)
        return longest

    def results(self) -> dict[str, Any] | None:
        """Return kind -> bucket -> cells and PSNR by contender; None without a finder."""
        if self._finder is None:
            return None
        return {kind: {name: self._bucket(kind, name) for name in NAMES} for kind in KINDS}

    def _bucket(self, kind: str, name: str) -> dict[str, Any]:
        means = {
            who: rounded(pixels.decibel(self.tally.mean(kind, who, name)))
            for who in self.tally.contenders(kind)
        }
        return {'cells': self.tally.count(kind, COPY_LAST, name), **means}

    def _score_cell(self, future: Future, horizon: int, cell: Reappearance) -> None:
        name, truth_HWC = bucket_of(cell.lag), future.truths[horizon - 1]
        if name is None or truth_HWC is None:
            return
        top, left = cell.row * self._cell_px, cell.column * self._cell_px
        place = (slice(top, top + self._cell_px), slice(left, left + self._cell_px))
        shown = {who: frames[TRUE, horizon - 1] for who, frames in future.imagined_BTHWC.items()}
        shown[COPY_LAST] = future.last_HWC
        for who, image_HWC in shown.items():
            error = pixels.squared_error(image_HWC[place], truth_HWC[place])
            for kind in kinds_of(cell):
                self.tally.add(kind, who, name, error)
