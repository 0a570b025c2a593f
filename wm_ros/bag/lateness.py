"""Faults of time of receipt: messages that come late, and so perhaps in another order.

As `faults.py`, by which these are called too. What is given out is in order of log time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wm_ros.bag.faults import Note, Passing, Stream, require_share

LONGEST_NS = 1_000_000_000  # that a message waits for the next of its topic


@dataclass(frozen=True)
class Reorder:
    """Frames and commands that come right behind the next of their topic, `share` of them.

    One that has just been overtaken does not overtake. Where the next does not come within a
    second, the message is only late.
    """

    share: float
    name: ClassVar[str] = 'reorder'

    def __post_init__(self) -> None:
        require_share(self.share, self.name)

    def apply(self, stream: Stream, rng: np.random.Generator, note: Note) -> Stream:
        """See `Fault`."""
        held: dict[str, Passing] = {}
        now_ns = 0
        for each in stream:
            now_ns = each.message.log_ns
            yield from _given_up(held, now_ns, note)
            late = held.pop(each.message.topic, None)
            if late is not None:
                note('overtaken', late)
                yield each
                yield late.at(now_ns)
            elif each.role and rng.random() < self.share:
                held[each.message.topic] = each
            else:
                yield each
        for each in held.values():
            note('late', each)
            yield each.at(now_ns)


def _given_up(held: dict[str, Passing], now_ns: int, note: Note) -> Iterator[Passing]:
    """Yield what has waited long enough for the next of its topic."""
    for topic, late in list(held.items()):
        if now_ns - late.message.log_ns > LONGEST_NS:
            del held[topic]
            note('late', late)
            yield late.at(now_ns)


@dataclass(frozen=True)
class JitterArrival:
    """Every frame and command comes up to `ms` milliseconds late, each by its own time."""

    ms: float
    name: ClassVar[str] = 'jitter_arrival'

    def __post_init__(self) -> None:
        if not self.ms > 0:
            raise ValueError(f'{self.name}: {self.ms} ms, expected above 0')

    def apply(self, stream: Stream, rng: np.random.Generator, note: Note) -> Stream:
        """See `Fault`."""
        coming: list[tuple[int, int, Passing]] = []
        for number, each in enumerate(stream):
            now_ns = each.message.log_ns
            if each.role:
                note('delayed', each)
                each = each.at(now_ns + round(rng.uniform(0, self.ms) * 1e6))
            heapq.heappush(coming, (each.message.log_ns, number, each))
            while coming and coming[0][0] <= now_ns:
                yield heapq.heappop(coming)[2]
        while coming:
            yield heapq.heappop(coming)[2]
