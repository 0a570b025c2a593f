"""One long imagination, a frame at a time, that can be given up or kept at any step.

A unit of work predicts, writes and (where wanted) decodes one frame, as `WorldModel.imagine` does
with a batch of 1. What a dream holds is one memory value: dropping it frees everything.

Axes: T time, A action.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wm_ros.datatypes import FloatArray
from wm_ros.memory import NonFiniteError
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.query import ImaginedFrame, Start
from wm_ros.world_model import WorldModel


class Dream:
    """A rollout of one candidate.

    Args:
        model: the loaded world model; used in the thread that calls `unit`.
        start: where it begins; its memory is not touched.
        actions_TA: float32 [T, A] in [-1, 1].
        seed: of the noise.
        frames: whether to decode.
    """

    def __init__(
        self,
        model: WorldModel,
        start: Start,
        actions_TA: FloatArray,
        seed: int = 0,
        *,
        frames: bool = False,
    ) -> None:
        self._model = model
        self._start = start
        self._memory = start.memory
        self._actions_TA = actions_TA
        self._rng = np.random.default_rng(seed)
        self._frames = frames
        self._next = 0 if start.latched_A is None else -1  # -1: under the latched command

    @property
    def steps(self) -> int:
        """T."""
        return len(self._actions_TA)

    @property
    def steps_done(self) -> int:
        """Actions that were imagined."""
        return max(self._next, 0)

    @property
    def units_left(self) -> int:
        """Calls of `unit` until all is done."""
        return self.steps - self._next

    def unit(self) -> ImaginedFrame | None:
        """Imagine one frame; call it `units_left` times.

        Returns:
            The frame where frames are wanted and an action of the dream led to it: none comes of
            the first transition from a live memory, which the command in force decides.

        Raises:
            QueryError: MODEL_NOT_FINITE.
        """
        step = self._next
        if step >= self.steps:
            return None
        latched_A = self._start.latched_A
        action_A = self._actions_TA[step] if step >= 0 or latched_A is None else latched_A
        decode = self._frames and step >= 0
        try:
            rollout = self._model.imagine(
                self._memory,
                np.ascontiguousarray(action_A[None, None]),
                self._model.noise(self._rng),
                decode=decode,
            )
        except NonFiniteError as error:
            raise QueryError(QueryCode.MODEL_NOT_FINITE, str(error)) from error
        self._memory = rollout.memory
        self._next += 1
        if not decode or rollout.frames_BTHWC is None:
            return None
        return ImaginedFrame(
            0, step, self._start.frames_ahead(self._next), rollout.frames_BTHWC[0, 0]
        )

    def state(self) -> Start:
        """Return where the dream is now, to be kept or to begin the next query from.

        No command is in force there: the next query's first action acts at once.
        """
        imagined = self._next + (self._start.latched_A is not None)
        if imagined == 0:
            return self._start
        return replace(
            self._start,
            memory=self._memory,
            latched_A=None,
            handle=0,
            imagined=self._start.imagined + imagined,
        )
