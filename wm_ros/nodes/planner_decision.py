"""The decisions on the way to one goal, each searched from one state of the world model.

The live memory moves on with every frame. So a decision begins with a fork: all its questions are
about the same instant, and their costs can be compared. The fork is given back at the end,
however the decision ends.

Axes: K candidates, T time, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from wm_ros.nodes.planner_client import WorldModelClient
from wm_ros.nodes.planner_goals import CODES, PursuitError, Task
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.pursuit import Attempts, Choice, Priced, decide
from wm_ros.planning.states import LONGEST_KEEP_S

if TYPE_CHECKING:
    from wm_ros.datatypes import FloatArray

DROP_S = 2.0  # to give a fork back: it expires by itself where nobody answers


class Decisions:
    """Makes one decision after the other.

    Args:
        client: of the world model.
        task: what to search for.
        answer_s: how long one answer may take.
        wanted: whether to go on; asked while answers are waited for.

    Attributes:
        state_age_ms: how old the last decision's state was at its last answer.
    """

    def __init__(
        self, client: WorldModelClient, task: Task, answer_s: float, wanted: Callable[[], bool]
    ) -> None:
        self.state_age_ms = 0.0
        self._client = client
        self._task = task
        self._wanted = wanted
        self._rng = np.random.default_rng(task.seed)
        self._attempts = Attempts()
        # Longer than all of its questions: holding still, the rounds, the finalists.
        self._keep_s = min((task.effort.rounds + 3) * answer_s, LONGEST_KEEP_S)

    def decide(self, command_A: FloatArray) -> Choice:
        """Search from what the world model has seen by now.

        Args:
            command_A: the command in force, float32 [A].

        Raises:
            PursuitError: a query is refused, nobody answers, or it is not wanted any more.
        """
        with _told(), self._fork() as state:
            return self._search(command_A, state)

    @contextmanager
    def _fork(self) -> Iterator[int]:
        try:
            yield self._client.fork(keep_s=self._keep_s, wanted=self._wanted).id
        finally:
            self._drop()

    def _drop(self) -> None:
        """Give back all that is kept for this planner, also a fork that was answered too late."""
        with suppress(QueryError, TimeoutError):  # nobody keeps anything, or it expires
            self._client.drop(timeout_s=DROP_S)

    def _search(self, command_A: FloatArray, state: int) -> Choice:
        task = self._task

        def price(actions_KTA: FloatArray, seed: int, draws: int) -> Priced:
            answer = self._client.evaluate(
                actions_KTA,
                task.objective,
                wanted=self._wanted,
                state=state,
                seed=seed,
                draws=draws,
            )
            self.state_age_ms = answer.state_age_ms
            return Priced(answer.costs_K, answer.cost_steps_K, answer.uncertainty_K)

        return decide(
            price, task.space, task.solver, command_A, self._rng, task.effort, self._attempts
        )


@contextmanager
def _told() -> Iterator[None]:
    """Raise what the world model refuses, or leaves unanswered, as PursuitError."""
    try:
        yield
    except QueryError as error:
        if error.code is QueryCode.CANCELLED:
            raise PursuitError(CODES.CANCELLED, 'cancelled: the robot holds still') from error
        text = f'{error.code.name} ({error.code.value}): {error.message}'
        raise PursuitError(CODES.QUERY_REFUSED, text) from error
    except TimeoutError as error:
        raise PursuitError(CODES.NO_WORLD_MODEL, str(error)) from error
