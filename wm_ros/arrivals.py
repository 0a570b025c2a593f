"""FrameArrivals: which frames came, taken or not: the camera's rate, and how long it was silent.

A frame that a busy consumer never took still came: it speaks against a silence of the camera, and
counts for its rate. Stamps only: no ROS, no clock, no threads.
"""

from __future__ import annotations

import statistics
from collections import deque

MOST_DROPPED = 4096  # stamps remembered: over two minutes of a camera of which nothing is taken
PERIODS = 50  # the median runs over this many frame periods
FEWEST_PERIODS = 5  # fewer say nothing of a rate
RATE_SLACK = 0.1  # share by which a camera may be off the contract's rate
JUDGE_EVERY_NS = 1_000_000_000


class FrameArrivals:
    """Remembers the stamps of arrived frames as far as they are needed.

    Args:
        rate_hz: the contract's rate.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._dropped: deque[int] = deque(maxlen=MOST_DROPPED)
        self._periods: deque[int] = deque(maxlen=PERIODS)
        self._newest_ns: int | None = None
        self._judged_ns = 0

    @property
    def rate_hz(self) -> float | None:
        """The camera's rate by the median of its last frame periods; None before the fifth."""
        if len(self._periods) < FEWEST_PERIODS:
            return None
        return 1e9 / statistics.median(self._periods)

    def add(self, stamp_ns: int) -> bool:
        """Take the stamp of a frame that came; from an older one on it counts afresh.

        Returns:
            Whether the rate was judged now (once per second of stamps) and found to be off.
        """
        if self._newest_ns is None or stamp_ns < self._newest_ns:
            self._newest_ns = self._judged_ns = stamp_ns
            return False
        if stamp_ns == self._newest_ns:
            return False
        self._periods.append(stamp_ns - self._newest_ns)
        self._newest_ns = stamp_ns
        if stamp_ns - self._judged_ns < JUDGE_EVERY_NS:
            return False
        self._judged_ns = stamp_ns
        rate_hz = self.rate_hz
        return rate_hz is not None and abs(rate_hz / self._rate_hz - 1) > RATE_SLACK

    def add_dropped(self, stamp_ns: int) -> bool:
        """Take the stamp of a frame that came and was never taken; returns as `add`."""
        self._dropped.append(stamp_ns)
        return self.add(stamp_ns)

    def jump(self) -> None:
        """Follow a clock that jumped backwards: forget everything."""
        self._dropped.clear()
        self._periods.clear()
        self._newest_ns = None

    def dropped_between(self, last_ns: int | None, stamp_ns: int) -> list[int]:
        """Return the dropped stamps between two frames, in order; forget those before `stamp_ns`.

        Args:
            last_ns: the frame before, or None where there is none.
            stamp_ns: the frame.
        """
        passed = sorted(dropped for dropped in self._dropped if dropped < stamp_ns)
        self._dropped = deque(
            (dropped for dropped in self._dropped if dropped > stamp_ns), maxlen=MOST_DROPPED
        )
        return [dropped for dropped in passed if last_ns is not None and dropped > last_ns]
