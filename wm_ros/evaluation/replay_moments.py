"""Futures worth looking at, chosen while the bag goes by: the worst, the liveliest, a typical one,
and those in which something comes back that had been out of sight for long.

In: futures and what was found about them. Out: a few strips of pictures, however long the bag.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation.replay_futures import TRUE, Future
from wm_ros.evaluation.replay_horizons import MARKS, Verdict

EACH = 3
APART = 50  # steps between two moments of a kind
SAMPLE = 16  # futures among which the typical one is sought


@dataclass(frozen=True)
class Strip:
    """One future in pictures.

    Attributes:
        number, stamp_ns: of the anchor.
        verdict: how good it is.
        lag: longest lag of what comes back in it, 0 for nothing.
        last_HWC: the anchor's frame, which is also what copy-last shows.
        truths: horizon -> frame, without missing ones.
        shown: contender -> horizon -> picture.
    """

    number: int
    stamp_ns: int
    verdict: Verdict
    lag: int
    last_HWC: ImageArray
    truths: Mapping[int, ImageArray]
    shown: Mapping[str, Mapping[int, ImageArray]]


def strip_of(future: Future, verdict: Verdict, lag: int) -> Strip:
    """Return what is kept of a future, as copies: a view would keep all of its frames alive."""
    truths = {h: image for h in MARKS if (image := future.truths[h - 1]) is not None}
    shown = {
        who: {h: frames_BTHWC[TRUE, h - 1].copy() for h in truths}
        for who, frames_BTHWC in future.imagined_BTHWC.items()
    }
    return Strip(future.number, future.stamp_ns, verdict, lag, future.last_HWC, truths, shown)


class _Best:
    """The highest ranked strips that lie apart from each other."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, Strip]] = []

    def wants(self, rank: float, number: int) -> bool:
        near = [r for r, strip in self.kept if abs(strip.number - number) < APART]
        if near:
            return rank > max(near)
        return len(self.kept) < EACH or rank > self.kept[-1][0]

    def put(self, rank: float, strip: Strip) -> None:
        far = [item for item in self.kept if abs(item[1].number - strip.number) >= APART]
        ranked = sorted([*far, (rank, strip)], key=lambda item: (-item[0], item[1].number))
        self.kept = ranked[:EACH]


class Moments:
    """Chooses, see the module text."""

    def __init__(self) -> None:
        self._worst, self._liveliest, self._back = _Best(), _Best(), _Best()
        self._sample: list[Strip] = []
        self._stride = 1
        self._seen = 0

    def consider(self, future: Future, verdict: Verdict, lag: int) -> None:
        """Look at the next future."""
        ranks = [(self._liveliest, verdict.changed_share)]
        if verdict.psnr_db is not None:
            ranks.append((self._worst, -verdict.psnr_db))
        if lag:
            ranks.append((self._back, float(lag)))
        wanting = [(best, rank) for best, rank in ranks if best.wants(rank, future.number)]
        sampled = self._seen % self._stride == 0 and verdict.psnr_db is not None
        self._seen += 1
        if not wanting and not sampled:
            return
        strip = strip_of(future, verdict, lag)
        for best, rank in wanting:
            best.put(rank, strip)
        if sampled:
            self._sample.append(strip)
            if len(self._sample) > SAMPLE:
                self._sample = self._sample[::2]
                self._stride *= 2

    @property
    def worst(self) -> list[Strip]:
        """The worst, worst first."""
        return [strip for _, strip in self._worst.kept]

    def chosen(self) -> dict[str, Strip]:
        """Return heading -> strip."""
        found: dict[str, Strip] = {}
        for rank, strip in self._back.kept:
            found[f'back after {rank:.0f} frames'] = strip
        if typical := self._typical():
            found['typical'] = typical
        for text, best in (('most in motion', self._liveliest), ('worst', self._worst)):
            for place, (_, strip) in enumerate(best.kept, 1):
                found[f'{text} ({place})'] = strip
        return found

    def _typical(self) -> Strip | None:
        values = [s.verdict.psnr_db for s in self._sample if s.verdict.psnr_db is not None]
        if not values:
            return None
        middle = float(np.median(values))
        order = np.argsort([abs(value - middle) for value in values], kind='stable')
        return self._sample[int(order[0])]
