"""Faults of time of receipt: messages that come late, and so perhaps in another order.

As `faults.py`, by which these are called too. What is given out is in order of log time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from wm_ros.bag.faults import Chance, Note, Passing, Runs, Stream, own, require_share

LONGEST_NS = 1_000_000_000  # that a message waits for the next of its topic


@dataclass(frozen=True)
class Reorder:
    """Frames and commands that come right behind the next of their topic, `share` of them.

    The next one in the good bag is itself on time; where it is not there any more, and the one
    behind it is late, both come behind the next that is on time. Where none comes within a second
    the message is only late.
    """

    share: float
    name: ClassVar[str] = 'reorder'

    def __post_init__(self) -> None:
        require_share(self.share, self.name)

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`."""
        held: list[Passing] = []
        runs = Runs(chance, self.share, 2)  # one that is late, and the next
        now_ns = 0
        for each in stream:
            now_ns = each.message.log_ns
            yield from _released(held, 'late', now_ns, note, now_ns - LONGEST_NS)
            if each.role and runs.place(each) == 0:
                held.append(each)
                continue
            yield each
            yield from _released(held, 'overtaken', now_ns, note, now_ns + 1, each.message.topic)
        yield from _released(held, 'late', now_ns, note, now_ns + 1)


def _released(
    held: list[Passing], what: str, now_ns: int, note: Note, before_ns: int, topic: str = ''
) -> Iterator[Passing]:
    """Yield what is held no longer: received before a time, of a topic or (empty) of any."""
    for late in list(held):
        if late.message.log_ns < before_ns and topic in ('', late.message.topic):
            held.remove(late)
            note(what, late)
            yield late.at(now_ns)


@dataclass(frozen=True)
class JitterArrival:
    """Every frame and command comes up to `ms` milliseconds late, each by its own time."""

    ms: float
    name: ClassVar[str] = 'jitter_arrival'

    def __post_init__(self) -> None:
        if not self.ms > 0:
            raise ValueError(f'{self.name}: {self.ms} ms, expected above 0')

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`."""
        coming: list[tuple[int, int, Passing]] = []
        for number, each in enumerate(stream):
            now_ns = each.message.log_ns
            if each.role:
                note('delayed', each)
                each = each.at(now_ns + round(own(chance, each).uniform(0, self.ms) * 1e6))
            heapq.heappush(coming, (each.message.log_ns, number, each))
            while coming and coming[0][0] <= now_ns:
                yield heapq.heappop(coming)[2]
        while coming:
            yield heapq.heappop(coming)[2]
