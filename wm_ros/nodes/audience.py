"""Audience: who listens, and whether they have all arrived, so that nobody misses the opening.

Discovery matches one topic after the other: a recorder may already hear the camera and not yet the
commands.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.publisher import Publisher


class Audience:
    """The subscribers of a camera and of the topics published beside it."""

    def __init__(
        self, camera: Publisher, beside: Sequence[Publisher], wanted: int, settle_s: float
    ) -> None:
        """Args:
        wanted: subscribers that the camera must have.
        settle_s: how long nobody may come or go, on any topic, before it begins.
        """
        self._publishers, self._wanted, self._settle_s = (camera, *beside), wanted, settle_s
        self._counts: tuple[int, ...] = ()
        self._since_s = 0.0

    def settled(self, now_s: float) -> bool:
        """Whether the camera is heard as asked and no subscriber came or went for a while."""
        counts = tuple(publisher.get_subscription_count() for publisher in self._publishers)
        if counts != self._counts:
            self._counts, self._since_s = counts, now_s
        return counts[0] >= self._wanted and now_s - self._since_s >= self._settle_s
