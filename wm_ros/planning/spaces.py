"""Where a solver searches: a few numbers in [-1, 1] become a command sequence that a robot can
follow.

Axes: K candidates, P parameters, T time, A action, N knots, E entries that are moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray

DoubleArray = npt.NDArray[np.float64]


class ActionSpace(Protocol):
    """A box of parameters that stands for command sequences.

    Attributes:
        dims: P.
        frames: T.
        settings: float32 [K, P], all that can be chosen; None where a solver searches the box.
    """

    @property
    def dims(self) -> int:
        """Parameters of one candidate."""
        ...

    @property
    def settings(self) -> FloatArray | None:
        """Candidates to compare where there are only so many."""
        ...

    @property
    def frames(self) -> int:
        """Commands of one candidate."""
        ...

    def decode(self, params_KP: FloatArray, command_A: FloatArray) -> FloatArray:
        """Return the commands of every candidate.

        Args:
            params_KP: float32 in [-1, 1].
            command_A: the command in force before the first one, in the contract's units.

        Returns:
            float32 [K, T, A] in the contract's units.
        """
        ...


@dataclass(frozen=True, eq=False)
class Knots:
    """Piecewise linear motions of some entries, from the command in force; the others are held.

    A parameter is the mean speed of one entry between two knots, as a share of its largest step:
    no candidate asks for more than `step_A` from one frame to the next, nor leaves the limits.
    With all parameters 0 the robot holds still.

    Attributes:
        frames: T.
        knots: N; the last one lies on the last frame.
        entries: indices of the action entries that are moved.
        limits_A2: low and high of every action entry, float64 [A, 2] (`contract.limits_A2`).
        step_A: largest change of every entry from frame to frame, in its unit.
    """

    frames: int
    knots: int
    entries: tuple[int, ...]
    limits_A2: DoubleArray
    step_A: npt.NDArray[np.floating]

    def __post_init__(self) -> None:
        width = len(self.limits_A2)
        if not 1 <= self.knots <= self.frames:
            raise ValueError(f'{self.knots} knots in {self.frames} frames: expected 1 to as many')
        if not self.entries or not set(self.entries) <= set(range(width)):
            raise ValueError(f'entries {self.entries}: expected some of 0 to {width - 1}')
        if self.step_A.shape != (width,) or not (self.step_A > 0).all():
            raise ValueError(f'steps {self.step_A}: expected {width} numbers above 0')

    @property
    def dims(self) -> int:
        """See `ActionSpace.dims`: one number per knot and entry, knots outside."""
        return self.knots * len(self.entries)

    @property
    def settings(self) -> None:
        """See `ActionSpace.settings`."""
        return None

    def decode(self, params_KP: FloatArray, command_A: FloatArray) -> FloatArray:
        """See `ActionSpace.decode`."""
        entries = list(self.entries)
        low_E, high_E = self.limits_A2[entries].T
        step_E = self.step_A[entries].astype(np.float64)
        length = self.frames / self.knots
        speeds_KNE = np.clip(params_KP, -1, 1).reshape(len(params_KP), self.knots, len(entries))
        places_KNE = np.empty((len(params_KP), self.knots + 1, len(entries)))
        places_KNE[:, 0] = np.asarray(command_A, np.float64)[entries]
        for n in range(self.knots):  # clipped knot by knot: no wind-up beyond a limit
            moved_KE = places_KNE[:, n] + speeds_KNE[:, n] * step_E * length
            places_KNE[:, n + 1] = np.clip(moved_KE, low_E, high_E)
        # Frame i carries the place at time i + 1: the command in force has time 0.
        at_T = np.arange(1, self.frames + 1) / length
        before_T = np.minimum(np.ceil(at_T).astype(int) - 1, self.knots - 1)
        share_T = (at_T - before_T)[None, :, None]
        between_KTE = places_KNE[:, before_T] * (1 - share_T) + (
            places_KNE[:, before_T + 1] * share_T
        )
        actions_KTA = np.empty((len(params_KP), self.frames, len(self.limits_A2)), np.float32)
        actions_KTA[:] = command_A
        actions_KTA[:, :, entries] = between_KTE
        return actions_KTA

    def shift(self, params_P: FloatArray, frames: int) -> FloatArray:
        """Return the parameters of the same motion `frames` later, still at its end.

        The warm start of a solver whose plan was followed for that many frames.

        Args:
            params_P: float32 in [-1, 1].
            frames: 0 or more.
        """
        speeds_NE = params_P.reshape(self.knots, len(self.entries)).astype(np.float64)
        length = self.frames / self.knots
        times = np.arange(self.knots + 1) * length
        way_NE = np.vstack([np.zeros(len(self.entries)), np.cumsum(speeds_NE * length, 0)])
        later_NE = np.stack(
            [np.interp(times + frames, times, way_N) for way_N in way_NE.T], axis=1
        )
        return (np.diff(later_NE, axis=0) / length).reshape(-1).astype(np.float32)
