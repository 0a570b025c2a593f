"""What a ReachGoal asks of the reference planner, as the parts of a search; or why it is refused.

Knows the planner's parameters, and names and limits of commands; hears and sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from wm_ros_msgs.action import ReachGoal

from wm_ros.planning.pursuit import Effort
from wm_ros.planning.solvers import Cem, Mppi, RandomShooting, Solver
from wm_ros.planning.spaces import ActionSpace, Knots
from wm_ros.sim.skills import SPACES

if TYPE_CHECKING:
    from wm_ros_msgs.msg import ModelInfo, ObjectiveTerm

    from wm_ros.config import PlannerConfig

CODES = ReachGoal.Result
SOLVERS = ('cem', 'mppi', 'random')


class PursuitError(Exception):
    """A goal that cannot be pursued further: the code and the reason."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, eq=False)
class Task:
    """A goal that makes sense.

    Attributes:
        objective: sent to the world model as it came.
        space: of the skill.
        solver: searches that space.
        effort: how hard to search.
        most_skills: how many may be carried out, 1 or more.
        seed: of the search.
    """

    objective: list[ObjectiveTerm]
    space: ActionSpace
    solver: Solver
    effort: Effort
    most_skills: int
    seed: int


def read_task(goal: ReachGoal.Goal, config: PlannerConfig, info: ModelInfo) -> Task:
    """Return what a goal asks for.

    Raises:
        PursuitError: INVALID_GOAL.
    """
    space = skill_space(goal.skill, config, info)
    solver = make_solver(goal.solver or config.solver, space.dims, config.candidates)
    if goal.most_skills < 1:
        raise PursuitError(CODES.INVALID_GOAL, 'most_skills is 0: expected 1 or more')
    effort = Effort(
        config.rounds,
        config.finalists,
        config.draws,
        config.final_draws,
        config.margin,
        config.searches,
    )
    return Task(list(goal.objective), space, solver, effort, goal.most_skills, goal.seed)


def skill_space(skill: str, config: PlannerConfig, info: ModelInfo) -> ActionSpace:
    """Return the space of a skill; raises as `read_task`."""
    if skill == 'knots':
        return knots(config, info)
    if skill not in SPACES:
        raise PursuitError(
            CODES.INVALID_GOAL, f'skill {skill!r}: expected knots, {", ".join(SPACES)}'
        )
    return SPACES[skill]


def knots(config: PlannerConfig, info: ModelInfo) -> Knots:
    """Return free motions of the entries that the node is set to; raises as `read_task`."""
    names = list(info.action_names)
    limits_A2 = np.stack([info.action_low, info.action_high], 1).astype(np.float64)
    step_A = config.knot_step * (limits_A2[:, 1] - limits_A2[:, 0])
    try:
        entries = tuple(names.index(name) for name in config.knot_entries)
        return Knots(config.knot_frames, config.knots, entries, limits_A2, step_A)
    except ValueError as error:
        raise PursuitError(CODES.INVALID_GOAL, f'skill knots: {error}') from error


def make_solver(name: str, dims: int, candidates: int) -> Solver:
    """Return a solver for a space of so many parameters; raises as `read_task`."""
    if name == 'cem':
        return Cem(dims, candidates)
    if name == 'mppi':
        return Mppi(dims, candidates)
    if name == 'random':
        return RandomShooting(dims, candidates)
    raise PursuitError(
        CODES.INVALID_GOAL, f'solver {name!r}: expected one of {", ".join(SOLVERS)}'
    )
