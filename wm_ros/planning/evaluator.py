"""Answers queries in small units of work, so that a frame never waits for more than one of them.

    running = evaluator.start(query)
    while running.unit():
        ...  # whatever is more urgent
    evaluation = running.result()

In: a `Query`. Out: an `Evaluation`, and frames where they are wanted. One thread, one query at a
time. Costs depend on the query alone: not on the time it took, nor on what was done in between.

Axes: K candidates, M noise draws, T time, A action, C channels, H W latent cells.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from wm_ros.planning.effort import (
    Pace,
    Units,
    candidates_per_piece,
    pieces,
    spread_units,
    steps_per_piece,
)
from wm_ros.planning.objectives import GoalImage
from wm_ros.planning.picture_book import PictureBook
from wm_ros.planning.query import FramesWanted, Limits, Query, Start
from wm_ros.planning.query_checks import check_query
from wm_ros.planning.rollouts import Rollouts
from wm_ros.planning.running import Running
from wm_ros.world_model import WorldModel

__all__ = ['Evaluator', 'Running']

WARM_UP_STEPS = 4


class Evaluator:
    """Buffers and unit times of one loaded model. Belongs to the thread that runs the model.

    Args:
        model: the loaded world model.
        limits: what one query may ask for; buffers are allocated for it.
        clock_ns: monotonic, for the times of units only.
    """

    def __init__(
        self,
        model: WorldModel,
        limits: Limits | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.model = model
        self.limits = limits or Limits()
        self.batch = model.package.manifest.planning.batch
        self._rollouts = Rollouts(model, self.batch, self.limits.rows, self.limits.latents)
        self._pictures = PictureBook(model, self.batch)
        self._clock_ns = clock_ns
        self.pace = Pace()
        self._running: Running | None = None

    def start(self, query: Query) -> Running:
        """Take up a query; one that was not finished is given up.

        Raises:
            QueryError: it cannot be answered; nothing was done.
        """
        check_query(query, self.model.package, self.limits)
        if self._running is not None:
            self._running.close()
        self._running = Running(
            query, self.model, self._rollouts, self._pictures, self.pace, self._clock_ns
        )
        return self._running

    def warm_up(self) -> None:
        """Run every kind of unit twice on an empty memory: the first time is slow, the second
        tells how long units take.
        """
        package = self.model.package
        size, shape = package.model.image_size, package.model.coded_shape
        width = package.model.action_width
        image_HWC = np.zeros((size, size, 3), np.uint8)
        candidates = min(self.batch, self.limits.candidates)
        query = Query(
            Start(self.model.reset(), np.zeros(width, np.float32)),
            np.zeros((candidates, min(WARM_UP_STEPS, self.limits.steps), width), np.float32),
            (GoalImage(np.zeros((1, *shape), np.float32)),),
            frames=FramesWanted.LAST,
        )
        for _ in range(2):
            self.pace.forget()
            started_ns = self._clock_ns()
            self.model.decode(self.model.encode(image_HWC[None]))
            self.pace.add('prepare', (self._clock_ns() - started_ns) / 1e6)
            running = self.start(query)
            while running.unit():
                pass
            running.close()

    def estimate_ms(
        self,
        candidates: int,
        steps: int,
        draws: int = 1,
        busy_share: float = 0.0,
        *,
        terms: int = 1,
        pictures: int = 0,
        frames: int = 0,
    ) -> float:
        """Return how long a query would take until its answer, from the times of units so far.

        Args:
            candidates: K.
            steps: T.
            draws: M.
            busy_share: share of the thread's time that the stream takes, 0 to below 1.
            terms: objective terms, a goal counted once for each picture.
            pictures: goal pictures to encode.
            frames: frames decoded on the way.
        """
        rows = candidates * draws
        units = Units(
            prepare=pictures,
            rollout=pieces(draws, self.batch) + steps * pieces(rows, self.batch),
            cost=terms
            * pieces(candidates, candidates_per_piece(steps, draws))
            * pieces(steps, steps_per_piece(steps, draws))
            + spread_units(candidates, draws)
            + 1,
            decode=pieces(frames, self.batch),
        )
        return self.pace.needed_ms(units, busy_share)
