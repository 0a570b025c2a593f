"""Drivers: what commands the simulated robot when it runs live, one action a frame.

A driver follows a plan, so a live run, its recording and its ground truth are the same episode.
"""

from __future__ import annotations

from collections.abc import Iterator

from wm_ros.datatypes import FloatArray
from wm_ros.sim.episodes import EpisodePlan, plan_episode
from wm_ros.sim.world import Layout


class Driver:
    """Iterates over the actions of one episode: float32 [A] in physical units, one a frame.

    Attributes:
        plan: the episode that it drives.
    """

    def __init__(self, plan: EpisodePlan) -> None:
        self.plan = plan
        self._next = 0

    @property
    def layout(self) -> Layout:
        """What the table must be reset to before the first action."""
        return self.plan.layout

    @property
    def index(self) -> int:
        """The frame whose action comes next."""
        return self._next

    def restart(self) -> None:
        """Begin again; the table must be reset too."""
        self._next = 0

    def __iter__(self) -> Iterator[FloatArray]:
        return self

    def __next__(self) -> FloatArray:
        if self._next >= self.plan.frames:
            raise StopIteration
        self._next += 1
        return self.plan.actions_TA[self._next - 1]


def driver(kind: str, seed: int, frames: int | None = None) -> Driver:
    """Return the driver of `plan_episode(kind, seed, frames)`."""
    return Driver(plan_episode(kind, seed, frames))
