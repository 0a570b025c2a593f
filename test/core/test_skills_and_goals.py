"""Skills of the arm, and goals for planners: inside the limits, seen, not reached yet."""

import numpy as np
import pytest

from wm_ros.sim import skills, world
from wm_ros.sim.episodes import plan_episode
from wm_ros.sim.goals import (
    HIDDEN_FRAMES,
    MOST_OFF_CENTRE,
    REACHED_M,
    TASKS,
    Goal,
    make_goal,
    off_centre,
)
from wm_ros.sim.scene import TableTop
from wm_ros.sim.script import Script


@pytest.fixture(scope='module')
def table():
    with TableTop() as table:
        yield table


def run(layout: world.Layout, actions_TA: np.ndarray) -> world.WorldState:
    """Carry out commands from the start."""
    state = world.start_state(layout)
    for action_A in actions_TA:
        state = world.advance(state, action_A)
    return state


def after_past(goal: Goal) -> world.WorldState:
    """Where a goal's past ends."""
    return run(goal.layout, goal.past_TA)


@pytest.mark.parametrize('space', skills.SPACES.values(), ids=list(skills.SPACES))
def test_every_candidate_is_a_motion_that_the_arm_can_follow(space):
    params_KP = np.random.default_rng(0).uniform(-1, 1, (40, space.dims)).astype(np.float32)
    actions_KTA = space.decode(params_KP, skills.rest_command())
    low_A, high_A = np.asarray(world.ACTION_LIMITS).T
    assert actions_KTA.shape == (40, space.frames, len(world.ACTION_NAMES))
    assert actions_KTA.dtype == np.float32
    assert (actions_KTA >= low_A - 1e-6).all() and (actions_KTA <= high_A + 1e-6).all()
    begun_KTA = np.concatenate(
        [np.broadcast_to(skills.rest_command(), (40, 1, 11)), actions_KTA], 1
    )
    steps_m = np.linalg.norm(np.diff(begun_KTA[..., :3], axis=1), axis=-1)
    assert steps_m.max() <= world.ARM_STEP_M + 1e-6


def test_a_stroke_through_the_block_moves_it_and_ends_at_rest():
    layout = world.Layout((0,) * 7, 0.0, -0.16)
    rest_A = skills.rest_command()
    stroke_TA = skills.stroke(rest_A, 0.06, -0.16, np.pi, 0.06)
    state = run(layout, np.concatenate([np.repeat(rest_A[None], 3, 0), stroke_TA]))
    assert state.block_x_m == pytest.approx(-0.03, abs=0.015)
    assert (state.x_m, state.y_m, state.z_m) == pytest.approx(skills.REST_M, abs=1e-6)


def test_open_cup_opens_one_cup_only():
    state = run(world.Layout((0,) * 7), skills.open_cup(skills.rest_command(), 1, 6))
    assert state.lids == (0.0, 1.0, 0.0)


def test_skill_practice_pushes_the_block_and_opens_cups():
    plan = plan_episode('skills', 3, 1200)
    state, places = world.start_state(plan.layout), []
    for action_A in plan.actions_TA:
        state = world.advance(state, action_A)
        places.append((state.block_x_m, state.block_y_m))
    assert np.ptp(places, axis=0).min() > 0.04
    assert {reveal.fact for reveal in plan.reveals} <= {'cup_0', 'cup_1', 'cup_2'}
    assert len(plan.reveals) >= 4
    assert np.array_equal(plan.actions_TA, plan_episode('skills', 3, 1200).actions_TA)


def test_following_commands_leaves_the_errand_where_it_was():
    script = Script(world.Layout((0,) * 7), np.random.default_rng(0))
    script.wait(5)
    rows_TA = np.repeat(script.command_A[None], 4, 0)
    rows_TA[:, 0] += 0.01
    script.follow(rows_TA)
    assert np.array_equal(script.actions()[5:9], rows_TA)
    script.wait(3)
    assert script.frame == 12


@pytest.mark.parametrize('task', TASKS)
def test_a_goal_is_repeatable_and_not_reached_by_holding_still(task, table):
    goal, again = make_goal(task, 5, table), make_goal(task, 5, table)
    assert np.array_equal(goal.pictures_GHWC, again.pictures_GHWC)
    assert goal.target == again.target
    assert not goal.reached(after_past(goal))
    other = make_goal(task, 6, table)
    assert not np.array_equal(goal.pictures_GHWC, other.pictures_GHWC)


def test_a_hand_to_be_reached_is_in_the_picture(table):
    for number in range(6):
        goal = make_goal('free', number, table)
        assert off_centre(goal.target) <= MOST_OFF_CENTRE
        there = skills.reach(goal.past_TA[-1], *goal.target)
        state = run(goal.layout, np.concatenate([goal.past_TA, there]))
        assert goal.distance(state) < 1e-6 and goal.reached(state)
        table.restore(state.vector())
        table.recolour(goal.layout)
        assert np.array_equal(table.render(), goal.pictures_GHWC[0])


def test_the_wanted_colour_was_hidden_for_a_minute_and_every_cup_was_shown_once(table):
    goal = make_goal('memory', 1, table)
    state, shown_TF = world.start_state(goal.layout), []
    for action_A in goal.past_TA:
        state = world.advance(state, action_A)
        shown_TF.append([lid > 0 for lid in state.lids])
    shown_TF = np.array(shown_TF)
    assert (np.diff(shown_TF.astype(int), axis=0, prepend=0) == 1).sum(0).tolist() == [1, 1, 1]
    assert len(shown_TF) - np.flatnonzero(shown_TF.any(1))[-1] > HIDDEN_FRAMES
    assert len({goal.layout.colours[cup] for cup in range(3)}) == 3
    right = int(goal.target[0])
    for cup in range(3):
        opened = run(
            goal.layout,
            np.concatenate([goal.past_TA, skills.open_cup(goal.past_TA[-1], cup, 6)]),
        )
        assert goal.reached(opened) == (cup == right)


def test_an_unknown_task_is_refused(table):
    with pytest.raises(ValueError, match='task'):
        make_goal('dance', 0, table)


def test_limits_of_success_are_those_that_the_docs_state():
    assert REACHED_M == {'free': 0.05, 'push': 0.015}
