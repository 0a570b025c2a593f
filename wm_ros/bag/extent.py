"""How long a topic of a bag goes on, found from its two ends: the middle is not read.

In: a bag and a topic. Out: how many messages, and the log times of the first and the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rosbags.highlevel import AnyReader

from wm_ros.bag.opening import open_bag
from wm_ros.bag.read import iter_raw
from wm_ros.bag.types import BagError

TAIL_NS = 2_000_000_000  # looked at first; twice as much where the topic ended before


@dataclass(frozen=True)
class Extent:
    """Messages of a topic, and the log times of the first and the last of them, ns."""

    messages: int
    first_ns: int
    last_ns: int

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return (self.last_ns - self.first_ns) / 1e9


def topic_extent(path: str | Path, topic: str) -> Extent | None:
    """Return how long a topic goes on; None where the bag has no message of it.

    Where the bag is damaged at an end, its own first or last log time stands in.

    Raises:
        BagError: as `open_bag`.
    """
    with open_bag(path) as reader:
        found = reader.topics.get(topic)
        if found is None or not found.msgcount:
            return None
        first_ns = next(_times(reader, path, topic), reader.start_time)
        return Extent(found.msgcount, first_ns, max(first_ns, _last_ns(reader, path, topic)))


def _last_ns(reader: AnyReader, path: str | Path, topic: str) -> int:
    end_ns, tail_ns = reader.end_time, TAIL_NS
    while True:
        start_ns = max(reader.start_time, end_ns - tail_ns)
        last_ns = max(_times(reader, path, topic, start_ns), default=None)
        if last_ns is not None:
            return last_ns
        if start_ns == reader.start_time:
            return end_ns
        tail_ns *= 2


def _times(
    reader: AnyReader, path: str | Path, topic: str, start_ns: int | None = None
) -> Iterator[int]:
    """Yield the log times of a topic's messages, as far as they can be read."""
    connections = [one for one in reader.connections if one.topic == topic]
    try:
        for _, log_ns, _ in iter_raw(reader, connections, path, start_ns):
            yield log_ns
    except BagError:
        return
