"""How long a query takes: units of work by kind, and what a unit of each kind took lately.

Times are the caller's; nothing here reads a clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

PIECE = 256  # latents that one unit of a cost term looks at
REMEMBERED = 101  # units of each kind that the median is taken over
KINDS = ('prepare', 'rollout', 'cost', 'decode')


@dataclass(frozen=True)
class Units:
    """Units of work by kind: goals encoded, sub-batches of a step, pieces of cost terms,
    sub-batches of frames decoded.
    """

    prepare: int = 0
    rollout: int = 0
    cost: int = 0
    decode: int = 0

    @property
    def total(self) -> int:
        """All units."""
        return self.prepare + self.rollout + self.cost + self.decode


class Pace:
    """Running medians of unit times by kind."""

    def __init__(self) -> None:
        self._times_ms: dict[str, deque[float]] = {
            kind: deque(maxlen=REMEMBERED) for kind in KINDS
        }

    def add(self, kind: str, time_ms: float) -> None:
        """Take the time of a unit."""
        self._times_ms[kind].append(time_ms)

    def forget(self) -> None:
        """Start afresh."""
        for times_ms in self._times_ms.values():
            times_ms.clear()

    def unit_ms(self, kind: str) -> float:
        """Return the median time of a unit of this kind; 0 before the first."""
        times_ms = self._times_ms[kind]
        return median(times_ms) if times_ms else 0.0

    def needed_ms(self, units: Units, busy_share: float = 0.0) -> float:
        """Return how long these units take.

        Args:
            units: what is to be done.
            busy_share: share of the thread's time that other work has, 0 to below 1.
        """
        alone_ms = sum(getattr(units, kind) * self.unit_ms(kind) for kind in KINDS)
        return alone_ms / max(1.0 - busy_share, 0.01)


def candidates_per_piece(steps: int, draws: int) -> int:
    """How many candidates one unit of a cost term looks at."""
    return max(1, PIECE // (steps * draws))


def steps_per_piece(steps: int, draws: int) -> int:
    """How many of their steps: all, unless one candidate alone is more than a piece."""
    return min(steps, max(1, PIECE // draws))


def spread_units(candidates: int, draws: int) -> int:
    """Units that the spread of the draws takes; one draw has none."""
    return 0 if draws < 2 else pieces(candidates, candidates_per_piece(1, draws))


def pieces(count: int, size: int) -> int:
    """How many pieces of at most `size` make up `count`."""
    return -(-count // size)
