"""What a player sends when, with which stamps, and what /clock shows. No rclpy, no clock in here.

A lap is the bag once, from where playing begins. Log times say when a message is due; `elapsed_s`
is real time since the first lap began.

With restamp the stamps in headers are shifted to now, spaced as messages are sent. Where /clock is
published too they stay spaced as recorded and /clock grows with them, over the seam of a loop too.
Without restamp stamps are as recorded and /clock shows log times: both jump back where a lap ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wm_ros.bag.raw import RawMessage, raw_messages
from wm_ros.bag.read import BagInfo
from wm_ros.bag.stamps import read_stamp_ns, with_stamp

LONE_PERIOD_NS = 100_000_000  # between laps, where the camera sent one frame


@dataclass(frozen=True)
class Timeline:
    """From the times of a bag to those of its playing.

    Attributes:
        first_ns: log time at which a lap begins.
        lap_ns: from the beginning of a lap to that of the next.
        rate: seconds of the bag per second.
        restamp: shift the stamps in headers to now.
        simulated: /clock is published, so a second of stamps is one of the bag.
        start_ns: what stamps begin with where they are shifted: now, when playing begins.
    """

    first_ns: int
    lap_ns: int
    rate: float
    restamp: bool
    simulated: bool
    start_ns: int

    def due_s(self, log_ns: int, lap: int) -> float:
        """Return when a message is to be sent, s after the beginning of the first lap."""
        return (log_ns - self.first_ns + lap * self.lap_ns) / 1e9 / self.rate

    def stamp_ns(self, stamp_ns: int, lap: int) -> int:
        """Return the stamp to send for a recorded one; 0, which means none, stays."""
        if not self.restamp or stamp_ns == 0:
            return stamp_ns
        since_ns = stamp_ns - self.first_ns + lap * self.lap_ns
        if not self.simulated:
            since_ns = round(since_ns / self.rate)
        return max(1, self.start_ns + since_ns)

    def clock_ns(self, log_ns: int, lap: int) -> int:
        """Return what /clock shows at the log time of a message."""
        if not self.restamp:
            return log_ns
        return self.start_ns + log_ns - self.first_ns + lap * self.lap_ns

    def clock_after_ns(self, elapsed_s: float) -> int:
        """Return what /clock shows after some time of playing."""
        lap, since_ns = divmod(round(elapsed_s * self.rate * 1e9), self.lap_ns)
        return self.clock_ns(self.first_ns + since_ns, lap)


def lap_length_ns(info: BagInfo, camera: str, first_ns: int) -> int:
    """Return the length of a lap: to the bag's last message, and one period of the camera."""
    rate_hz = next(topic.rate_hz for topic in info.topics if topic.name == camera)
    period_ns = round(1e9 / rate_hz) if rate_hz else LONE_PERIOD_NS
    return info.start_ns + round(info.duration_s * 1e9) - first_ns + period_ns


def laps(
    bag: Path, topics: Iterable[str], camera: str, from_ns: int, loop: bool
) -> Iterator[tuple[int, RawMessage]]:
    """Yield (lap, message) by log time; at equal times the camera comes last.

    A lap in which there is nothing to play is the end, looped or not.

    Args:
        bag: path of any bag.
        topics: to play.
        camera: its topic.
        from_ns: log time at which every lap begins.
        loop: go on with the next lap, for ever.

    Raises:
        BagError: as `raw_messages`.
    """
    chosen = tuple(topics)
    for lap in itertools.count() if loop else (0,):
        stream = raw_messages(bag, chosen, from_ns)
        played = False
        for _, group in itertools.groupby(stream, key=lambda each: each.log_ns):
            for message in sorted(group, key=lambda each: each.topic == camera):
                yield lap, message
                played = True
        if not played:
            return


def stamped(message: RawMessage, timeline: Timeline, lap: int) -> tuple[bytes, int]:
    """Return the bytes to send and their stamp; for a type without a header its log time."""
    if not message.stamped:
        return message.data, message.log_ns
    stamp_ns = timeline.stamp_ns(read_stamp_ns(message.data), lap)
    return (with_stamp(message.data, stamp_ns) if timeline.restamp else message.data), stamp_ns
