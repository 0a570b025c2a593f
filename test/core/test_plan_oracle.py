"""The planner that asks the simulator: true costs, a table that is put back, the better choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wm_ros.backends.resolve import resolve_backend
from wm_ros.config import PlannerConfig
from wm_ros.contract import StreamContract
from wm_ros.evaluation import plan_oracle
from wm_ros.evaluation.plan_kept import Kept
from wm_ros.planning.goals import GoalPictures, Region
from wm_ros.planning.objectives import GoalImage, Outlook
from wm_ros.planning.pursuit import Effort, decide
from wm_ros.planning.solvers import Cem
from wm_ros.sim import skills
from wm_ros.sim.config import SimConfig
from wm_ros.sim.goals import Goal, make_goal
from wm_ros.sim.scene import TableTop
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

CONTRACT = Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml'
EFFORT = Effort(rounds=2, finalists=3)


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    contract = StreamContract.load(CONTRACT)
    package = write_toy_package(tmp_path_factory.mktemp('package'), contract)
    return WorldModel(package, resolve_backend('toy', package))


@pytest.fixture(scope='module')
def table(model: WorldModel) -> Iterator[TableTop]:
    with TableTop(SimConfig(image_size=model.package.model.image_size)) as table:
        yield table


def distance_of(goal: Goal, model: WorldModel) -> GoalImage:
    region = None if goal.region is None else Region(*goal.region)
    return GoalPictures(goal.pictures_GHWC, region=region, over=goal.over).encoded(model)


def stand_at_start(table: TableTop, goal: Goal) -> None:
    table.reset(goal.layout)
    for action_A in goal.past_TA:
        table.step(action_A)


def motions(goal: Goal, count: int = 3) -> np.ndarray:
    """Candidates of the goal's skill."""
    space = skills.SPACES[goal.skill]
    params_KP = np.random.default_rng(1).uniform(-1, 1, (count, space.dims)).astype(np.float32)
    return space.decode(params_KP, goal.past_TA[-1])


@pytest.mark.parametrize('task', ['free', 'push'])
def test_a_candidate_costs_what_the_simulator_shows_after_it(
    task: str, model: WorldModel, table: TableTop
) -> None:
    goal = make_goal(task, 2, table)
    distance, actions_KTA = distance_of(goal, model), motions(goal)
    # The command in force acts first, and is not the one that the past ended with.
    latched_A = goal.past_TA[-1].copy()
    latched_A[0] += 0.04
    stand_at_start(table, goal)
    priced = plan_oracle.true_price(table, model, distance, latched_A)(actions_KTA, 0, 1)
    expected, steps = [], []
    for actions_TA in actions_KTA:
        stand_at_start(table, goal)
        table.step(latched_A)
        pictures = []
        for action_A in actions_TA:
            table.step(action_A)
            pictures.append(table.render())
        latents = np.concatenate([model.encode(picture[None]) for picture in pictures])
        if task == 'push':
            latents = latents[-1:]
        outlook = Outlook(actions_TA[None], latents[None, None], None)
        expected.append(distance.costs(outlook)[0, 0])
        steps.append(int(distance.cost_steps(outlook)[0]) if task == 'free' else len(actions_TA))
    assert priced.costs_K == pytest.approx(np.array(expected), rel=1e-5)
    assert priced.steps_K.tolist() == steps
    assert np.ptp(priced.costs_K) > 1e-4  # they are not all the same
    if task == 'free':
        stand_at_start(table, goal)
        other = plan_oracle.true_price(table, model, distance, goal.past_TA[-1])(actions_KTA, 0, 1)
        assert not np.array_equal(other.costs_K, priced.costs_K)


def test_asking_leaves_the_table_where_it_stood(model: WorldModel, table: TableTop) -> None:
    goal = make_goal('push', 2, table)
    stand_at_start(table, goal)
    state, picture = table.state(), table.render()
    price = plan_oracle.true_price(table, model, distance_of(goal, model), goal.past_TA[-1])
    first = price(motions(goal), 0, 1)
    assert np.array_equal(table.state(), state)
    assert np.array_equal(table.render(), picture)
    assert np.array_equal(price(motions(goal), 1, 4).costs_K, first.costs_K)


def test_a_state_is_drawn_once(
    model: WorldModel, table: TableTop, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = make_goal('free', 2, table)
    stand_at_start(table, goal)
    drawn: list[bytes] = []
    render = table.render
    monkeypatch.setattr(table, 'render', lambda: drawn.append(table.state().tobytes()) or render())
    held_KTA = np.repeat(goal.past_TA[-1][None, None], 14, 1).repeat(2, 0)
    price = plan_oracle.true_price(table, model, distance_of(goal, model), goal.past_TA[-1])
    price(np.concatenate([motions(goal), held_KTA]), 0, 1)
    assert len(drawn) == len(set(drawn)) < 5 * 14


@pytest.mark.parametrize('better', [0, 1])
def test_the_better_of_two_candidates_is_chosen(
    better: int, model: WorldModel, table: TableTop
) -> None:
    goal = make_goal('free', 2, table)
    command_A, space = goal.past_TA[-1], skills.SPACES['reach']
    there_TA = skills.lasting(skills.reach(command_A, *goal.target), space.frames)
    away = (-goal.target[0], 0.115, 0.3)
    away_TA = skills.lasting(skills.reach(command_A, *away), space.frames)
    stand_at_start(table, goal)
    price = plan_oracle.true_price(table, model, distance_of(goal, model), command_A)
    both = [away_TA, there_TA] if better else [there_TA, away_TA]
    settings = np.array([[-1], [1]], np.float32)
    two = skills.SkillSpace(
        'two', 1, space.frames, lambda _, params_P: both[int(params_P[0] > 0)], settings
    )
    choice = decide(price, two, Cem(1, 8), command_A, np.random.default_rng(0), EFFORT)
    assert choice.cost < choice.hold_cost
    assert np.array_equal(choice.actions_TA, there_TA[: len(choice.actions_TA)])
    table.step(command_A)
    for action_A in choice.actions_TA:
        table.step(action_A)
    assert goal.reached(table.world_state)


def test_goals_pursued_are_kept_with_where_they_really_ended(
    model: WorldModel, table: TableTop
) -> None:
    goal = make_goal('memory', 1, table)
    distance = distance_of(goal, model)
    state, (choice,) = plan_oracle.pursue_truly(table, model, goal, distance, EFFORT, 8, 0)
    assert goal.reached(state) and goal.distance(state) == 0
    assert choice.candidate_steps == (3 + 1) * skills.OPEN.frames
    episode = plan_oracle.oracle(table, model, goal, PlannerConfig())
    assert (episode.planner, episode.reached, episode.skills) == ('oracle', True, 1)
    assert (episode.start, episode.end) == (1.0, 0.0)
    assert not np.array_equal(episode.before_HWC, episode.after_HWC)


def test_holding_still_ends_where_it_began(table: TableTop) -> None:
    goal = make_goal('push', 4, table)
    episode = plan_oracle.hold_still(table, goal)
    assert episode.planner == 'hold_still' and not episode.reached
    assert episode.start == episode.end > 0.03 - 1e-9
    assert np.array_equal(episode.before_HWC, episode.after_HWC)
    assert (episode.skills, episode.queries, episode.candidate_steps) == (0, 0, 0)


def test_the_oracle_searches_as_hard_as_the_node_is_set_to() -> None:
    knobs = PlannerConfig(candidates=16, rounds=2, finalists=3, margin=0.2)
    effort = plan_oracle.effort_of(knobs)
    assert (effort.rounds, effort.finalists, effort.margin) == (2, 3, 0.2)


def test_both_planners_of_every_goal_are_kept(
    model: WorldModel, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_oracle, 'resolve_backend', lambda _, loaded: model.backend)
    kept = Kept.open(tmp_path_factory.mktemp('kept') / 'kept', {})
    goals = [('memory', 1), ('memory', 2)]
    plan_oracle.run_beside(str(model.package.path), goals, PlannerConfig(), kept)
    ends = [
        episode.reached
        for goal in goals
        for name in ('hold_still', 'oracle')
        if (episode := kept.find(*goal, name))
    ]
    assert ends == [False, True, False, True]
