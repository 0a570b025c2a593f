"""The two kinds of planner query as jobs of the inference thread: evaluations and dreams.

Everything about the model is in wm_ros/planning; here is only when to go on, when to stop, and who
is told. Knows nothing of ROS.

Axes: T time, A action.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from wm_ros.datatypes import FloatArray
from wm_ros.nodes.query_queue import Ticket
from wm_ros.planning.dream import Dream
from wm_ros.planning.evaluator import Evaluator, Running
from wm_ros.planning.query import (
    Evaluation,
    FramesWanted,
    ImaginedFrame,
    Query,
    QueryCode,
    QueryError,
    Start,
)
from wm_ros.world_model import WorldModel

Show = Callable[[ImaginedFrame, Start], None]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """An evaluation, and the state that it began from."""

    evaluation: Evaluation
    start: Start


@dataclass(frozen=True, eq=False)
class Dreamt:
    """A dream that came to its end: where it began, what it led to, how many steps."""

    start: Start
    state: Start
    handle: int
    steps: int


class EvaluationJob:
    """Costs of candidates.

    Args:
        ticket: where it is answered; frames of the last step or the best candidate come after.
        evaluator: of the node.
        query: checked; its start is replaced when the work begins.
        source: returns the state to begin from.
        show: told about each frame as it is made.
    """

    def __init__(
        self,
        ticket: Ticket,
        evaluator: Evaluator,
        query: Query,
        source: Callable[[], Start],
        show: Show,
    ) -> None:
        self.ticket = ticket
        self._evaluator = evaluator
        self._query = query
        self._source = source
        self._show = show
        self._running: Running | None = None
        self._short_of_ms = 0.0  # what was left to do when it was stopped

    def needed_ms(self, busy_share: float) -> float:
        """See `Job.needed_ms`."""
        running = self._running
        if running is not None:
            return running.needed_ms(busy_share)
        query = self._query
        k, t, _ = query.actions_KTA.shape
        # Frames of the last step or the best candidate are made after the answer.
        every = query.frames is FramesWanted.EVERY
        return self._evaluator.estimate_ms(
            k,
            t,
            query.draws,
            busy_share,
            terms=sum(getattr(term, 'units', 1) for term in query.objectives),
            pictures=sum(getattr(term, 'units', 0) for term in query.objectives),
            frames=k * -(-t // query.every) if every else 0,
        )

    def begin(self) -> None:
        """See `Job.begin`."""
        self._query = replace(self._query, start=self._source())
        self._running = self._evaluator.start(self._query)

    def unit(self, busy_share: float) -> bool:
        """See `Job.unit`."""
        running = self._running
        if running is None:
            raise RuntimeError('the job has not begun')
        if not running.answered:
            self._mind_the_deadline(running, busy_share)
        try:
            more = running.unit()
        except QueryError as error:
            error.needed_ms = max(error.needed_ms, self._short_of_ms)
            raise
        for frame in running.frames():
            self._show(frame, self._query.start)
        if running.answered:
            self.ticket.answer(Evaluated(running.result(), self._query.start))
        return more and running.units_left > 0

    def _mind_the_deadline(self, running: Running, busy_share: float) -> None:
        left_ms = self.ticket.left_ms(time.monotonic_ns())
        if self.ticket.allow_partial:
            unit_ms = self._evaluator.pace.unit_ms('rollout') / (1 - busy_share)
            if left_ms < running.closing_ms(busy_share) + unit_ms:
                self._short_of_ms = running.needed_ms(busy_share)
                running.stop()
        elif left_ms < 0:
            needed_ms = running.needed_ms(busy_share)
            raise QueryError(
                QueryCode.DEADLINE, f'it would need {needed_ms:.0f} ms more', needed_ms
            )

    def end(self) -> None:
        """See `Job.end`."""
        if self._running is not None:
            self._running.close()
        self._running = None


class DreamJob:
    """A long imagination.

    Args:
        ticket: where it is answered.
        model: the loaded world model.
        source: returns the state to begin from.
        actions_TA: float32 [T, A] in [-1, 1].
        seed: of the noise.
        frames: whether to decode.
        show: told about each frame as it is made.
        progress: told after each frame.
        keep: keeps the state at the end and returns its id; None where it is not wanted.
    """

    def __init__(
        self,
        ticket: Ticket,
        model: WorldModel,
        source: Callable[[], Start],
        actions_TA: FloatArray,
        seed: int,
        *,
        frames: bool,
        show: Show,
        progress: Callable[[Dream, Start], None],
        keep: Callable[[Start], int] | None,
    ) -> None:
        self.ticket = ticket
        self._model = model
        self._source = source
        self._actions_TA = actions_TA
        self._seed = seed
        self._frames = frames
        self._show = show
        self._progress = progress
        self._keep = keep
        self._begun: tuple[Dream, Start] | None = None

    def needed_ms(self, busy_share: float) -> float:
        """See `Job.needed_ms`: dreams have no deadline."""
        return 0.0

    def begin(self) -> None:
        """See `Job.begin`."""
        start = self._source()
        dream = Dream(self._model, start, self._actions_TA, self._seed, frames=self._frames)
        self._begun = dream, start

    def unit(self, busy_share: float) -> bool:
        """See `Job.unit`."""
        if self._begun is None:
            raise RuntimeError('the job has not begun')
        dream, start = self._begun
        frame = dream.unit()
        if frame is not None:
            self._show(frame, start)
        self._progress(dream, start)
        if dream.units_left:
            return True
        handle = 0 if self._keep is None else self._keep(dream.state())
        self.ticket.answer(Dreamt(start, dream.state(), handle, dream.steps_done))
        return False

    def end(self) -> None:
        """See `Job.end`."""
        self._begun = None
