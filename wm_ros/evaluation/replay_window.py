"""The newest steps of a replay, a fixed number of them: what a future is compared with.

In: steps and what was predicted for them. Out: frames and actions by step number. Never grows.

Axes: T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray, Step

SPAN = 80  # 25 frames ahead, 5 frames back, and as long as an anchor may wait for others


@dataclass(frozen=True)
class Moment:
    """One step of the bag.

    Attributes:
        number: steps of the bag before it, resets or not.
        step: the step.
        predicted: contender -> frame that it predicted for this step from the one before.
    """

    number: int
    step: Step
    predicted: Mapping[str, ImageArray] = field(default_factory=dict)

    @property
    def image_HWC(self) -> ImageArray | None:
        """The camera's frame; None where it is missing."""
        return None if self.step.frame is None else self.step.frame.image_HWC


class Window:
    """The newest `SPAN` steps, by number."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=SPAN)

    def push(self, moment: Moment) -> None:
        """Take the next step; the oldest goes."""
        self._moments.append(moment)

    def at(self, number: int) -> Moment | None:
        """Return a step; None where it is not held (any more)."""
        if not self._moments:
            return None
        place = number - self._moments[0].number
        return self._moments[place] if 0 <= place < len(self._moments) else None

    def image(self, number: int) -> ImageArray | None:
        """Return a step's frame; None where it is missing or not held."""
        moment = self.at(number)
        return None if moment is None else moment.image_HWC

    def actions_TA(self, first: int, count: int) -> FloatArray:
        """Return a_first, a_first+1, ..., float32 [count, A].

        Raises:
            LookupError: a step that is not held.
        """
        moments = [self.at(number) for number in range(first, first + count)]
        known = [moment.step.action_A for moment in moments if moment is not None]
        if len(known) != count:
            raise LookupError(f'steps {first} to {first + count - 1} are not all held')
        return np.stack(known)
