"""Skills of the arm, and goals for planners: inside the limits, seen, not reached yet."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from wm_ros.sim import skills, world
from wm_ros.sim.episodes import plan_episode
from wm_ros.sim.goals import (
    MOST_OFF_CENTRE,
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


def corners_and_more(space: skills.SkillSpace) -> np.ndarray:
    """Every corner of a skill's box, and 40 places inside."""
    corners = list(itertools.product((-1.0, 1.0), repeat=space.dims))
    inside = np.random.default_rng(0).uniform(-1, 1, (40, space.dims))
    return np.concatenate([corners, inside]).astype(np.float32)


@pytest.mark.parametrize('space', skills.SPACES.values(), ids=list(skills.SPACES))
def test_every_candidate_is_a_motion_that_the_arm_can_follow(space):
    params_KP = corners_and_more(space)
    actions_KTA = space.decode(params_KP, skills.rest_command())
    low_A, high_A = np.asarray(world.ACTION_LIMITS).T
    assert actions_KTA.shape == (len(params_KP), space.frames, len(world.ACTION_NAMES))
    assert actions_KTA.dtype == np.float32
    assert (actions_KTA >= low_A - 1e-6).all() and (actions_KTA <= high_A + 1e-6).all()
    # Followed exactly: where the command says, one frame later, the hand is.
    for actions_TA in actions_KTA:
        state = world.start_state(world.Layout((0,) * 7))
        state = replace(state, x_m=skills.REST_M[0], y_m=skills.REST_M[1], z_m=skills.REST_M[2])
        for action_A in actions_TA:
            state = world.advance(state, action_A)
            assert (state.x_m, state.y_m, state.z_m) == pytest.approx(action_A[:3], abs=1e-6)


def test_a_stroke_pushes_slowly_and_no_push_is_cut_off():
    rest_A, space = skills.rest_command(), skills.STROKE
    for params_P in corners_and_more(space):
        whole_TA = space.skill(rest_A, params_P)
        low = whole_TA[:, 2] <= 2 * world.BLOCK_HALF_M  # where it can touch the block
        steps_m = np.linalg.norm(np.diff(whole_TA[low, :3], axis=0), axis=-1)
        assert len(steps_m) and steps_m.max() <= 0.02 + 1e-6
        # What is longer than a candidate is cut off: on the way back to rest only.
        assert np.flatnonzero(low)[-1] < space.frames - 1
        assert (whole_TA[space.frames - 1 :, 2] >= skills.OVER_Z_M - 1e-6).all()
        assert whole_TA[-1, :3] == pytest.approx(skills.REST_M, abs=1e-6)


def test_a_reach_arrives_from_anywhere_within_a_candidate():
    space = skills.REACH
    corners_KP = corners_and_more(space)[: 2**space.dims]
    for begin_P, end_P in itertools.product(corners_KP, repeat=2):
        begin_A = space.skill(skills.rest_command(), begin_P)[-1]
        whole_TA = space.skill(begin_A, end_P)
        assert len(whole_TA) <= space.frames
        expected = [
            low + (p + 1) / 2 * (high - low) for p, (low, high) in zip(end_P, skills.REACH_M)
        ]
        assert whole_TA[-1, :3] == pytest.approx(expected, abs=1e-6)


def test_a_stroke_through_the_block_moves_it_and_ends_at_rest():
    layout = world.Layout((0,) * 7, 0.0, -0.16)
    rest_A = skills.rest_command()
    stroke_TA = skills.stroke(rest_A, 0.06, -0.16, np.pi, 0.05)
    state = run(layout, np.concatenate([np.repeat(rest_A[None], 3, 0), stroke_TA]))
    # The tip ends at x = 1 cm; the block lies beside it, straight.
    beside_m = 0.01 - world.TIP_RADIUS_M - world.BLOCK_HALF_M
    block = (state.block_x_m, state.block_y_m, state.block_yaw_rad)
    assert block == pytest.approx((beside_m, -0.16, 0.0), abs=1e-6)
    assert (state.x_m, state.y_m, state.z_m) == pytest.approx(skills.REST_M, abs=1e-6)


def test_a_stroke_beside_the_block_leaves_it_where_it_is():
    layout = world.Layout((0,) * 7, 0.0, -0.16)
    rest_A = skills.rest_command()
    side_m = world.BLOCK_HALF_M + world.TIP_RADIUS_M + 0.001
    stroke_TA = skills.stroke(rest_A, 0.06, -0.16 + side_m, np.pi, 0.10)
    state = run(layout, np.concatenate([np.repeat(rest_A[None], 3, 0), stroke_TA]))
    assert (state.block_x_m, state.block_y_m) == (0.0, -0.16)


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
    assert (goal.layout, goal.target, goal.region) == (again.layout, again.target, again.region)
    assert np.array_equal(goal.past_TA, again.past_TA)
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
    hidden_frames = len(shown_TF) - 1 - np.flatnonzero(shown_TF.any(1))[-1]
    assert hidden_frames / world.RATE_HZ > 60.0
    assert len({goal.layout.colours[cup] for cup in range(3)}) == 3
    right = int(goal.target[0])
    for cup in range(3):
        opened = run(
            goal.layout,
            np.concatenate([goal.past_TA, skills.open_cup(goal.past_TA[-1], cup, 6)]),
        )
        assert goal.reached(opened) == (cup == right)


def test_who_always_opens_the_same_cup_finds_a_third_of_them(table):
    assert sorted(int(make_goal('memory', n, table).target[0]) for n in range(7, 13)) == [
        0, 0, 1, 1, 2, 2,
    ]  # fmt: skip


def test_an_unknown_task_is_refused(table):
    with pytest.raises(ValueError, match='task'):
        make_goal('dance', 0, table)


def placed(goal: Goal, off_m: float) -> world.WorldState:
    """The goal's start with hand and block that far from the target, to the right."""
    state, x, y = after_past(goal), goal.target[0] + off_m, goal.target[1]
    if goal.task == 'push':
        return replace(state, block_x_m=x, block_y_m=y)
    return replace(state, x_m=x, y_m=y, z_m=goal.target[2])


@pytest.mark.parametrize(('task', 'limit_m'), [('free', 0.05), ('push', 0.015)])
def test_success_ends_where_the_docs_say(task, limit_m, table):
    goal = make_goal(task, 2, table)
    for inside, off_m in ((True, 0.0), (True, limit_m - 1e-4), (False, limit_m + 1e-4)):
        state = placed(goal, off_m)
        assert goal.distance(state) == pytest.approx(off_m, abs=1e-9)
        assert goal.reached(state) == inside


@pytest.mark.parametrize(
    ('task', 'least_m', 'least_share'), [('free', 0.10, 0.05), ('push', 0.03, 0.02)]
)
def test_every_goal_is_a_way_off_and_looks_different(task, least_m, least_share, table):
    for number in range(100, 115):
        goal = make_goal(task, number, table)
        start = after_past(goal)
        assert goal.distance(start) >= least_m
        table.reset(goal.layout)
        table.restore(start.vector())
        assert (table.render() != goal.pictures_GHWC[0]).any(-1).mean() >= least_share


def test_no_other_cup_may_be_open(table):
    goal = make_goal('memory', 1, table)
    right, start = int(goal.target[0]), after_past(goal)
    for lids in itertools.product((0.0, 1.0), repeat=3):
        only = [float(cup == right) for cup in range(3)]
        assert goal.reached(replace(start, lids=lids)) == (list(lids) == only)
    barely = [0.25 * (cup == right) for cup in range(3)]
    assert goal.reached(replace(start, lids=tuple(barely)))


def test_pictures_of_a_memory_goal_show_the_wanted_colour_in_each_cup(table):
    goal = make_goal('memory', 1, table)
    right = int(goal.target[0])
    wanted = goal.layout.colours[right]
    assert len(goal.pictures_GHWC) == 3
    for cup, picture_HWC in enumerate(goal.pictures_GHWC):
        colours = list(goal.layout.colours)
        colours[cup] = wanted
        table.recolour(replace(goal.layout, colours=tuple(colours)))
        lids = tuple(float(other == cup) for other in range(3))
        table.restore(replace(after_past(goal), lids=lids).vector())
        assert np.array_equal(table.render(), picture_HWC)
