"""Faults that a recording can have, each as a small value that knows how to make itself.

A fault takes the messages of a bag in order and gives them back with itself done to some of them,
noting which. Chance is passed in, and drawn for a message by its number in the good bag: whether
one is befallen hangs neither on the faults done before nor on what is left of the others. Times
are log times in ns, stamps are those in message headers. Nothing here opens a file.

Topics of a contract have a role; a message without one passes every fault untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from wm_ros.bag.raw import RawMessage
from wm_ros.bag.stamps import read_stamp_ns, with_stamp

FRAME, ACTION = 'frame', 'action'
FUTURE_NS = 86_400_000_000_000  # one day
BACKWARD_NS = 500_000_000  # less than what contracts call a clock jump
WRONG = ('zero', 'future', 'backward')


@dataclass(frozen=True)
class Passing:
    """A message on its way through the faults.

    Attributes:
        message: as it is by now.
        index: its number on its topic in the good bag, from 0.
        role: `frame`, `action`, or empty for a topic that the contract does not name.
        since_ns: when it was received in the good bag, from the bag's first message on.
    """

    message: RawMessage
    index: int
    role: str
    since_ns: int

    def at(self, log_ns: int) -> Passing:
        """Return the same, received at another time."""
        return replace(self, message=replace(self.message, log_ns=log_ns))

    def stamped(self, stamp_ns: int) -> Passing:
        """Return the same with another header stamp, of 0 or later."""
        data = with_stamp(self.message.data, max(stamp_ns, 0))
        return replace(self, message=replace(self.message, data=data))


Note = Callable[[str, Passing], None]
Chance = Callable[[str, int], np.random.Generator]  # of a message, by topic and index
Stream = Iterator[Passing]


class Fault(Protocol):
    """What can go wrong."""

    @property
    def name(self) -> str:
        """A word for people and for `faults.json`, and what chance is drawn by."""
        ...

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """Yield the messages with the fault done.

        Args:
            stream: in order of log time.
            chance: gives a message its own generator, the same whenever it is asked for.
            note: told what was done, as one word, and to which message.
        """
        ...


def require_share(share: float, name: str) -> None:
    if not 0 < share <= 1:
        raise ValueError(f'{name}: share {share}, expected above 0, at most 1')


def own(chance: Chance, passing: Passing) -> np.random.Generator:
    """Return the generator of a message."""
    return chance(passing.message.topic, passing.index)


class Runs:
    """Messages of the good bag in runs of one length that do not overlap, topic by topic.

    Args:
        chance: see `Fault`.
        share: chance of every message outside a run to begin one.
        length: messages of a run.
    """

    def __init__(self, chance: Chance, share: float, length: int) -> None:
        self._chance, self._share, self._length = chance, share, length
        self._places: dict[str, list[int]] = {}

    def place(self, passing: Passing) -> int:
        """Return a message's place in its run, from 0; -1 where it is in none. Messages before it
        that never came are in runs as if they had.
        """
        topic, places = passing.message.topic, self._places.setdefault(passing.message.topic, [-1])
        for index in range(len(places) - 1, passing.index + 1):
            if 0 <= places[-1] < self._length - 1:
                places.append(places[-1] + 1)
            else:
                begins = self._chance(topic, index).random() < self._share
                places.append(0 if begins else -1)
        return places[passing.index + 1]


@dataclass(frozen=True)
class Drop:
    """Messages of a role that never came, each with a chance of `share`."""

    role: str
    share: float

    def __post_init__(self) -> None:
        require_share(self.share, self.name)

    @property
    def name(self) -> str:
        """See `Fault`."""
        return f'drop_{self.role}s'

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`."""
        for each in stream:
            if each.role == self.role and own(chance, each).random() < self.share:
                note('dropped', each)
            else:
                yield each


@dataclass(frozen=True)
class Burst:
    """Frames lost in a row: at each frame a burst of `length` begins with a chance of `share`."""

    share: float
    length: int
    name: ClassVar[str] = 'burst'

    def __post_init__(self) -> None:
        require_share(self.share, self.name)
        if self.length < 1:
            raise ValueError(f'{self.name}: length {self.length}, expected 1 or more frames')

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`. Bursts do not overlap; each camera has its own. They are of frames of the
        good bag, whether or not these are still there.
        """
        runs = Runs(chance, self.share, self.length)
        for each in stream:
            if each.role == FRAME and runs.place(each) >= 0:
                note('dropped', each)
            else:
                yield each


@dataclass(frozen=True)
class Silence:
    """No command from `from_s` until before `to_s` of the bag."""

    from_s: float
    to_s: float
    name: ClassVar[str] = 'silence'

    def __post_init__(self) -> None:
        if not 0 <= self.from_s < self.to_s:
            raise ValueError(
                f'{self.name}: {self.from_s} to {self.to_s} s, expected 0 <= from < to'
            )

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`. Nothing is drawn."""
        for each in stream:
            if each.role == ACTION and self.from_s <= each.since_ns / 1e9 < self.to_s:
                note('dropped', each)
            else:
                yield each


@dataclass(frozen=True)
class Duplicate:
    """Frames and commands that come twice, the second time right behind the first."""

    share: float
    name: ClassVar[str] = 'duplicate'

    def __post_init__(self) -> None:
        require_share(self.share, self.name)

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`."""
        for each in stream:
            yield each
            if each.role and own(chance, each).random() < self.share:
                note('doubled', each)
                yield each


@dataclass(frozen=True)
class WrongStamps:
    """Headers of frames and commands that say nonsense: zero, a day ahead, half a second back."""

    share: float
    name: ClassVar[str] = 'wrong_stamps'

    def __post_init__(self) -> None:
        require_share(self.share, self.name)

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`. Types without a header are left alone."""
        for each in stream:
            rng = own(chance, each)
            if not (each.role and each.message.stamped and rng.random() < self.share):
                yield each
                continue
            kind = WRONG[rng.integers(len(WRONG))]
            stamp_ns = read_stamp_ns(each.message.data)
            wrong = {'zero': 0, 'future': stamp_ns + FUTURE_NS, 'backward': stamp_ns - BACKWARD_NS}
            note(kind, each)
            yield each.stamped(wrong[kind])


@dataclass(frozen=True)
class JitterStamps:
    """Every header stamp of frames and commands off by up to `ms` milliseconds, either way."""

    ms: float
    name: ClassVar[str] = 'jitter_stamps'

    def __post_init__(self) -> None:
        if not self.ms > 0:
            raise ValueError(f'{self.name}: {self.ms} ms, expected above 0')

    def apply(self, stream: Stream, chance: Chance, note: Note) -> Stream:
        """See `Fault`. Types without a header, and stamps of zero, are left alone."""
        for each in stream:
            if each.role and each.message.stamped and read_stamp_ns(each.message.data):
                note('moved', each)
                off_ns = round(own(chance, each).uniform(-self.ms, self.ms) * 1e6)
                each = each.stamped(max(read_stamp_ns(each.message.data) + off_ns, 1))
            yield each
