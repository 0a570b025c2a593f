"""One decision of a planner: search a space of commands for the cheapest, then ask once more.

Whoever prices candidates, a world model behind a service or a simulator, the search is the same.
A search finds what is cheap, and also what only looks cheap; so the finalists are priced again
under noise that they were not chosen by, beside holding still, and the winner must be cheaper than
that by a margin.

Axes: K candidates, P parameters, T time, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray
from wm_ros.planning.solvers import Solver
from wm_ros.planning.spaces import ActionSpace


@dataclass(frozen=True, eq=False)
class Priced:
    """What candidates cost.

    Attributes:
        costs_K: lower is better.
        steps_K: int64, after how many commands the cost is reached; T, or less where a term takes
            the best frame.
        uncertainty_K: how far each cost can be trusted; NaN where nobody knows.
    """

    costs_K: FloatArray
    steps_K: npt.NDArray[np.int64]
    uncertainty_K: FloatArray


AVOID = 0.2  # RMS distance of parameters within which a motion counts as the one that failed

Price = Callable[[FloatArray, int, int], Priced]
"""Commands float32 [K, T, A] in the contract's units, a seed, noise draws -> what they cost."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The outcome of one decision.

    Attributes:
        actions_TA: commands to carry out, in the contract's units; empty where holding still is as
            good.
        cost, hold_cost: of the winner and of holding still, priced together.
        uncertainty: of the winner.
        queries: how often candidates were priced.
        candidate_steps: commands priced in all, noise draws not counted.
        params_P: of the winner, where a space was searched.
    """

    actions_TA: FloatArray
    cost: float
    hold_cost: float
    uncertainty: float
    queries: int
    candidate_steps: int
    params_P: FloatArray | None = None


class Attempts:
    """What was tried on the way to one goal. What left the cost of holding still as it was has
    failed, and is not tried again until something changes: a model that believes in a motion once
    believes in it again.

    Attributes:
        last_P: parameters carried out last, None before the first.
        highest: cost of holding still where it was highest so far, without its sign. What is saved
            is held against that: near the goal costs are small, and no better known than before.
    """

    def __init__(self) -> None:
        self.last_P: FloatArray | None = None
        self.highest = 0.0
        self._failed: list[FloatArray] = []
        self._hold_cost = np.inf

    def look(self, hold_cost: float, margin: float) -> None:
        """Take the cost of holding still now; tells whether the last motion has failed."""
        self.highest = max(self.highest, abs(hold_cost))
        if self.last_P is not None and self._hold_cost - hold_cost <= margin * self.highest:
            self._failed.append(self.last_P)
        else:
            self._failed.clear()
        self._hold_cost = hold_cost

    def least(self, margin: float) -> float:
        """Return what the next motion must save: the margin's share of the highest cost, and as
        much again for every failure in a row. Where the model was wrong, its word counts less.
        """
        return margin * self.highest * (1 + len(self._failed))

    @property
    def warm_P(self) -> FloatArray | None:
        """Where a search may begin: at the last motion, unless it failed."""
        return None if self._failed else self.last_P

    def penalty(self, params_KP: FloatArray) -> FloatArray:
        """Return what is added to the costs, float32 [K]: the cost of holding still where a failed
        motion was, nothing far from all of them.
        """
        penalty_K = np.zeros(len(params_KP), np.float32)
        for failed_P in self._failed:
            far_K = np.square(params_KP - failed_P).mean(1) / AVOID**2
            np.maximum(penalty_K, abs(self._hold_cost) * np.exp(-far_K / 2), out=penalty_K)
        return penalty_K


@dataclass(frozen=True)
class Effort:
    """How hard to search.

    Attributes:
        rounds: questions of the solver.
        finalists: candidates that are priced again, 1 or more.
        draws: noise draws in the search, and for the finalists.
        margin: share of the highest cost of holding still so far that the winner must save; see
            `Attempts.least`.
        searches: how many must find nothing before the robot holds still; a search is a throw of
            dice, and one that finds nothing says little.
    """

    rounds: int = 4
    finalists: int = 7
    search_draws: int = 1
    final_draws: int = 4
    margin: float = 0.05
    searches: int = 2


def decide(
    price: Price,
    space: ActionSpace,
    solver: Solver,
    command_A: FloatArray,
    rng: np.random.Generator,
    effort: Effort,
    attempts: Attempts | None = None,
) -> Choice:
    """Search a space and return what to do. Where there are only so many settings, they are
    compared, and holding still is no choice.

    Args:
        price: prices commands.
        space: what can be done; its candidates begin with the command in force.
        solver: is restarted and asked `effort.rounds` times in every search.
        command_A: the command in force, float32 [A] in the contract's units.
        rng: of the solver and of the seeds.
        effort: how hard to search.
        attempts: what was decided before on the way to the same goal; is told of this decision.
    """
    if space.settings is not None:
        actions_KTA = space.decode(space.settings, command_A)
        none_K = np.zeros(len(actions_KTA), np.float32)
        return _settle(price, actions_KTA, command_A, rng, effort, none_K, least=-np.inf)[0]
    attempts = attempts or Attempts()
    attempts.look(_hold_cost(price, space, command_A, rng, effort), effort.margin)
    warm_P, queries, candidate_steps = attempts.warm_P, 1, space.frames
    for _ in range(effort.searches):
        solver.restart(warm_P)
        choice = _search(price, space, solver, command_A, rng, effort, attempts)
        queries += choice.queries
        candidate_steps += choice.candidate_steps
        if len(choice.actions_TA):
            break
        warm_P = None
    attempts.last_P = choice.params_P
    return replace(choice, queries=queries, candidate_steps=candidate_steps)


def _search(
    price: Price,
    space: ActionSpace,
    solver: Solver,
    command_A: FloatArray,
    rng: np.random.Generator,
    effort: Effort,
    attempts: Attempts,
) -> Choice:
    """Ask a fresh solver and settle between its finalists; see `decide`."""
    asked: list[FloatArray] = []
    costs: list[FloatArray] = []
    seed = int(rng.integers(2**31))
    for _ in range(effort.rounds):
        params_KP = solver.ask(rng)
        # One seed for all rounds: what is asked again costs the same again.
        priced = price(space.decode(params_KP, command_A), seed, effort.search_draws)
        costs.append(priced.costs_K + attempts.penalty(params_KP))
        solver.tell(costs[-1])
        asked.append(params_KP)
    finalists_KP = _distinct(np.concatenate(asked), np.concatenate(costs), effort.finalists)
    candidate_steps = sum(map(len, asked)) * space.frames
    actions_KTA, penalty_K = space.decode(finalists_KP, command_A), attempts.penalty(finalists_KP)
    least = attempts.least(effort.margin)
    choice, best = _settle(price, actions_KTA, command_A, rng, effort, penalty_K, least)
    return replace(
        choice,
        queries=choice.queries + len(asked),
        candidate_steps=choice.candidate_steps + candidate_steps,
        params_P=finalists_KP[best],
    )


def _hold_cost(
    price: Price,
    space: ActionSpace,
    command_A: FloatArray,
    rng: np.random.Generator,
    effort: Effort,
) -> float:
    held_1TA = np.broadcast_to(command_A, (1, space.frames, len(command_A))).astype(np.float32)
    return float(price(held_1TA, int(rng.integers(2**31)), effort.final_draws).costs_K[0])


def _settle(
    price: Price,
    actions_KTA: FloatArray,
    command_A: FloatArray,
    rng: np.random.Generator,
    effort: Effort,
    penalty_K: FloatArray,
    least: float,
) -> tuple[Choice, int]:
    """Price the finalists and holding still under fresh noise; return the cheapest, carried out
    where it saves more than the least, and which finalist it was.
    """
    count, frames = actions_KTA.shape[:2]
    held_1TA = np.broadcast_to(command_A, (1, frames, len(command_A))).astype(np.float32)
    everything = np.concatenate([actions_KTA, held_1TA])
    priced = price(everything, int(rng.integers(2**31)), effort.final_draws)
    best = int(np.argmin(priced.costs_K[:count] + penalty_K))
    cost, hold_cost = float(priced.costs_K[best]), float(priced.costs_K[count])
    acts = hold_cost - cost > least
    choice = Choice(
        actions_KTA[best, : int(priced.steps_K[best])] if acts else actions_KTA[best, :0],
        cost,
        hold_cost,
        float(priced.uncertainty_K[best]),
        queries=1,
        candidate_steps=(count + 1) * frames,
    )
    return choice, best


def _distinct(params_KP: FloatArray, costs_K: FloatArray, count: int) -> FloatArray:
    """Return the cheapest parameter vectors, each once."""
    order = np.argsort(costs_K, kind='stable')
    _, first = np.unique(params_KP[order], axis=0, return_index=True)
    return params_KP[order[np.sort(first)[:count]]]
