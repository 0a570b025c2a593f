"""A planner that asks the simulator instead of a model: how good the search and the goals are.

The same spaces, solvers and goal distance as with the world model; only the future is the true
one, rendered and encoded. What it misses is the search's fault or the goal's, not the model's.

Axes: K candidates, T time, A action, C channels, H W latent cells.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from wm_ros.backends.resolve import resolve_backend
from wm_ros.config import PlannerConfig
from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.evaluation.plan_kept import Kept
from wm_ros.evaluation.plan_results import Episode
from wm_ros.evaluation.subject import encode_all
from wm_ros.model_package import ModelPackage
from wm_ros.planning.goals import GoalPictures, Region
from wm_ros.planning.objectives import BEST, GoalImage, Outlook
from wm_ros.planning.pursuit import Attempts, Choice, Effort, Price, Priced, decide
from wm_ros.planning.solvers import Cem
from wm_ros.sim.config import SimConfig
from wm_ros.sim.goals import Goal, make_goal
from wm_ros.sim.scene import TableTop
from wm_ros.sim.skills import SPACES
from wm_ros.sim.world import WorldState
from wm_ros.world_model import WorldModel

HOLD, ORACLE = 'hold_still', 'oracle'


def true_price(
    table: TableTop, model: WorldModel, goal: GoalImage, command_A: FloatArray
) -> Price:
    """Return a function that prices commands by what the simulator shows after them.

    Args:
        table: stands where the candidates begin, and stands there again afterwards.
        model: encodes the pictures; predicts nothing.
        goal: the distance.
        command_A: the command in force, which acts first.
    """

    def price(actions_KTA: FloatArray, seed: int, draws: int) -> Priced:
        state = table.state()
        every = goal.over == BEST
        # Arms that have arrived stand still: one picture for every state that is met.
        pictures, places = list[ImageArray](), dict[bytes, int]()
        order = list[int]()
        for actions_TA in actions_KTA:
            table.restore(state)
            table.step(command_A)
            for t, action_A in enumerate(actions_TA):
                table.step(action_A)
                if every or t == len(actions_TA) - 1:
                    met = table.state().tobytes()
                    if met not in places:
                        places[met] = len(pictures)
                        pictures.append(table.render())
                    order.append(places[met])
        table.restore(state)
        latents = encode_all(model, np.stack(pictures))[order]
        count, steps = actions_KTA.shape[:2]
        latents_KMTCHW = latents.reshape(count, 1, -1, *latents.shape[1:])
        outlook = Outlook(actions_KTA, latents_KMTCHW, None)
        steps_K = goal.cost_steps(outlook) if every else np.full(count, steps)
        return Priced(goal.costs(outlook)[:, 0], steps_K, np.zeros(count, np.float32))

    return price


def pursue_truly(
    table: TableTop,
    model: WorldModel,
    goal: Goal,
    distance: GoalImage,
    effort: Effort,
    candidates: int,
    seed: int,
) -> tuple[WorldState, list[Choice]]:
    """Pursue a goal from its start with the simulator as the model.

    Args:
        table: is moved.
        model: encodes pictures.
        goal: start and number of skills.
        distance: the goal's pictures, encoded.
        effort: how hard to search.
        candidates: of one question.
        seed: of the search.

    Returns:
        Where it ends, and every decision.
    """
    table.reset(goal.layout)
    for action_A in goal.past_TA:
        table.step(action_A)
    rng, space = np.random.default_rng(seed), SPACES[goal.skill]
    solver, attempts = Cem(space.dims, candidates), Attempts()
    command_A, choices = goal.past_TA[-1], list[Choice]()
    for _ in range(goal.most_skills):
        price = true_price(table, model, distance, command_A)
        choice = decide(price, space, solver, command_A, rng, effort, attempts)
        choices.append(choice)
        if not len(choice.actions_TA):
            break
        table.step(command_A)
        for action_A in choice.actions_TA:
            table.step(action_A)
        command_A = choice.actions_TA[-1]
    return table.world_state, choices


def effort_of(knobs: PlannerConfig) -> Effort:
    """Return how hard the planner node searches; noise draws mean nothing to a simulator."""
    return Effort(knobs.rounds, knobs.finalists, 1, 1, knobs.margin, knobs.searches)


def run_beside(
    package: str, goals: Sequence[tuple[str, int]], knobs: PlannerConfig, kept: Kept
) -> None:
    """Pursue goals by holding still, and by searching with the simulator.

    Args:
        package: directory; its tokenizer makes the goal's latents.
        goals: task and number of each.
        knobs: of the planner node, which searches as hard.
        kept: takes every episode as soon as it has ended.
    """
    loaded, console = ModelPackage.load(package), Console()
    model = WorldModel(loaded, resolve_backend('auto', loaded))
    with TableTop(SimConfig(image_size=loaded.model.image_size)) as table:
        for task, number in goals:
            goal = make_goal(task, number, table)
            kept.add(hold_still(table, goal))
            episode = oracle(table, model, goal, knobs)
            kept.add(episode)
            console.print(episode.line(), highlight=False, soft_wrap=True)


def hold_still(table: TableTop, goal: Goal) -> Episode:
    """Return how a goal ends where nobody moves. The table stands at the goal's start then."""
    table.reset(goal.layout)
    for action_A in goal.past_TA:
        table.step(action_A)
    now_HWC, far = table.render(), goal.distance(table.world_state)
    reached = goal.reached(table.world_state)
    ends = (reached, far, far, 0, 0, 0, 0.0, now_HWC, now_HWC, goal.pictures_GHWC)
    return Episode(goal.task, goal.number, HOLD, *ends)


def oracle(table: TableTop, model: WorldModel, goal: Goal, knobs: PlannerConfig) -> Episode:
    """Return how a goal ends where the search asks the simulator."""
    before = hold_still(table, goal)
    region = None if goal.region is None else Region(*goal.region)
    pictures = GoalPictures(goal.pictures_GHWC, region=region, over=goal.over)
    started_s = time.monotonic()
    state, choices = pursue_truly(
        table,
        model,
        goal,
        pictures.encoded(model),
        effort_of(knobs),
        knobs.candidates,
        goal.number,
    )
    return Episode(
        goal.task,
        goal.number,
        ORACLE,
        goal.reached(state),
        before.start,
        goal.distance(state),
        sum(len(choice.actions_TA) > 0 for choice in choices),
        sum(choice.queries for choice in choices),
        sum(choice.candidate_steps for choice in choices),
        time.monotonic() - started_s,
        before.before_HWC,
        table.render(),
        goal.pictures_GHWC,
    )
