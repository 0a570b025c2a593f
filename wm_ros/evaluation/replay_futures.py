"""Re-anchored futures: at every tenth frame, 25 frames imagined with the true actions, with the
command held, and with commands five frames late, all three with the same noise.

In: the steps of a bag as they come. Out: a future, once all of its frames and actions are known.
Only the memories of the two or three anchors that wait are kept. Judges nothing.

Axes: B batch, T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray, MemoryState
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_window import Moment, Window
from wm_ros.memory import NonFiniteError

HORIZON = 25
EVERY = 10  # steps from anchor to anchor
SETTLED = 25  # steps after a reset in which nothing is anchored
SHIFT = 5  # steps by which the shifted commands are late
TRUE, HELD, LATE = 0, 1, 2  # rows of the batch
STREAM = 1  # of the noise, apart from that of other measures


@dataclass(frozen=True)
class Future:
    """What was imagined from one anchor, and what came.

    Attributes:
        number: step of the anchor, the last one observed.
        stamp_ns: its stamp.
        last_HWC: its frame.
        truths: frames of the next 25 steps, None for a missing one.
        imagined_BTHWC: contender -> uint8 [3, 25, H, W, C]: with true, held and late commands.
    """

    number: int
    stamp_ns: int
    last_HWC: ImageArray
    truths: tuple[ImageArray | None, ...]
    imagined_BTHWC: Mapping[str, ImageArray]


class Futures:
    """Anchors, waits, imagines.

    Args:
        contenders: packages under test.
        window: holds the newest steps, the present one included when `take` is called.
        seed: of the noise, drawn anew for every anchor.

    Attributes:
        made: futures imagined.
        broken_off: anchors that were not, because a reset or the end of the bag came too early.
    """

    def __init__(self, contenders: Sequence[Contender], window: Window, seed: int) -> None:
        self.made = 0
        self._contenders = contenders
        self._window = window
        self._seed = seed
        self._waiting: dict[int, Mapping[str, MemoryState]] = {}
        self._reset_in: int = 0

    @property
    def broken_off(self) -> int:
        """Anchors without a future so far, those that still wait included."""
        return self._reset_in + len(self._waiting)

    def take(self, moment: Moment, memories: Mapping[str, MemoryState]) -> Future | None:
        """Anchor at this step if it is its turn; return the future that it completes.

        Args:
            moment: the newest step.
            memories: contender -> memory after it; without those that are not finite.
        """
        if moment.step.reset is not None:
            self._reset_in += len(self._waiting)
            self._waiting.clear()
        index = moment.step.index
        if index >= SETTLED and index % EVERY == 0 and moment.image_HWC is not None:
            self._waiting[moment.number] = memories
        due = moment.number - HORIZON
        held = self._waiting.pop(due, None)
        return None if held is None else self._imagine(due, held)

    def _imagine(self, number: int, memories: Mapping[str, MemoryState]) -> Future | None:
        anchor = self._window.at(number)
        if anchor is None or anchor.image_HWC is None:
            raise LookupError(f'step {number} is not held')
        actions_BTA = self._actions_BTA(number)
        imagined_BTHWC = {}
        for contender in self._contenders:
            if contender.name in memories:
                frames_BTHWC = self._rollout(
                    contender, memories[contender.name], actions_BTA, number
                )
                if frames_BTHWC is not None:
                    imagined_BTHWC[contender.name] = frames_BTHWC
        truths = tuple([self._window.image(number + t) for t in range(1, HORIZON + 1)])
        self.made += 1
        return Future(number, anchor.step.stamp_ns, anchor.image_HWC, truths, imagined_BTHWC)

    def _actions_BTA(self, number: int) -> FloatArray:
        true_TA = self._window.actions_TA(number, HORIZON)
        held_TA = np.repeat(true_TA[:1], HORIZON, 0)
        late_TA = self._window.actions_TA(number - SHIFT, HORIZON)
        return np.stack([true_TA, held_TA, late_TA])

    def _rollout(
        self, contender: Contender, memory: MemoryState, actions_BTA: FloatArray, number: int
    ) -> ImageArray | None:
        rng = np.random.default_rng([self._seed, STREAM, number])
        noise_BTDCHW = contender.model.noise(rng, 1, HORIZON)
        try:
            rollout = contender.model.imagine(
                memory,
                actions_BTA,
                np.repeat(noise_BTDCHW, len(actions_BTA), 0),
                write_last=False,
            )
        except NonFiniteError:
            contender.not_finite += 1
            return None
        return rollout.frames_BTHWC
