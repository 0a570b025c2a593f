"""The reference planner over real ROS 2: a goal picture in, commands out, in lockstep; refusals;
cancel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from robot import Child
from wm_ros_msgs.action import ReachGoal

from wm_ros.nodes.judge import Judge, request
from wm_ros.nodes.stage import PERIOD_NS, StageTimeout, wait_for
from wm_ros.sim.goals import Goal, make_goal

pytestmark = pytest.mark.ros
CODES = ReachGoal.Result


@pytest.fixture(scope='module')
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    logs = tmp_path_factory.mktemp('logs')
    rclpy.init()
    judge = Judge(64)
    given = {'use_sim_time': True}
    with (
        Child('world_model', logs / 'world_model.log', **given),
        Child(
            'planner',
            logs / 'planner.log',
            candidates=16,
            rounds=2,
            finalists=3,
            final_draws=2,
            **given,
        ),
    ):
        judge.ready()
        yield judge
    judge.close()
    rclpy.try_shutdown()


@pytest.fixture(scope='module')
def goal(judge: Judge) -> Goal:
    return make_goal('free', 3, judge.stage.table)


def outcome(judge: Judge, goal: Any) -> tuple[int, ReachGoal.Result]:
    """Send a goal that ends without a command; return its status and result."""
    asked = judge.planner.send_goal_async(goal)
    wait_for(asked.done, judge.spin, 10.0, 'the planner')
    done = asked.result().get_result_async()
    wait_for(done.done, judge.spin, 30.0, 'the result')
    return done.result().status, done.result().result


def test_a_goal_is_pursued_frame_by_frame_and_the_commands_are_the_searched_ones(
    judge: Judge, goal: Goal
) -> None:
    judge.play_past(goal)
    shown, start_ns = judge.stage.frames, judge.stage.stamp_ns
    result = judge.pursue(goal, 'cem', 3)
    assert result.success, result.message
    assert 1 <= result.skills <= goal.most_skills
    # Holding still, two rounds and the finalists: 1, 16 and 4 candidates of 14 steps.
    decisions = result.queries // 4
    assert result.queries == 4 * decisions
    assert decisions in (result.skills, result.skills + 1)
    assert result.candidate_steps == decisions * (1 + 2 * 16 + 4) * 14
    frames = judge.stage.frames - shown
    assert frames >= result.skills  # one command a frame, no frame without one
    assert judge.stage.stamp_ns == start_ns + frames * PERIOD_NS
    # It was somewhere else before, and has moved.
    assert goal.distance(judge.stage.state) != pytest.approx(
        goal.distance(make_start(judge, goal)), abs=0.01
    )


def make_start(judge: Judge, goal: Goal) -> Any:
    """Where the goal begins."""
    judge.stage.table.reset(goal.layout)
    for command_A in goal.past_TA:
        judge.stage.table.step(command_A)
    return judge.stage.state


def test_the_same_goal_with_the_same_seed_ends_in_the_same_place(judge: Judge, goal: Goal) -> None:
    ends = []
    for _ in range(2):
        judge.play_past(goal)
        judge.pursue(goal, 'mppi', 7)
        ends.append(judge.stage.table.state())
    assert (ends[0] == ends[1]).all()


@pytest.mark.parametrize(
    ('change', 'word'),
    [({'skill': 'dance'}, 'dance'), ({'solver': 'luck'}, 'luck'), ({'most_skills': 0}, 'most_')],
)
def test_goals_that_make_no_sense_are_refused(
    judge: Judge, goal: Goal, change: dict[str, Any], word: str
) -> None:
    wrong = request(goal, 'cem', 0)
    for name, value in change.items():
        setattr(wrong, name, value)
    status, result = outcome(judge, wrong)
    assert status == GoalStatus.STATUS_ABORTED
    assert (result.success, result.error_code) == (False, CODES.INVALID_GOAL)
    assert word in result.message


def test_what_the_world_model_refuses_is_told_with_its_reason(judge: Judge, goal: Goal) -> None:
    judge.play_past(goal)
    wrong = request(goal, 'cem', 0)
    wrong.objective[0].kind = 'beauty'
    status, result = outcome(judge, wrong)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code == CODES.QUERY_REFUSED
    assert 'INVALID_OBJECTIVE' in result.message


def test_a_second_goal_is_refused_while_one_is_pursued_and_cancel_ends_it(
    judge: Judge, goal: Goal
) -> None:
    judge.play_past(goal)
    asked = judge.planner.send_goal_async(request(goal, 'cem', 3))
    wait_for(asked.done, judge.spin, 10.0, 'the planner')
    first = asked.result()
    wait_for(judge.stage.take_command, judge.spin, 30.0, 'a command')
    status, result = outcome(judge, request(goal, 'cem', 3))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, CODES.BUSY)
    done = first.get_result_async()
    cancelled = first.cancel_goal_async()
    wait_for(cancelled.done, judge.spin, 10.0, 'the cancel')
    judge.stage.follow()
    judge.wait_seen()
    wait_for(done.done, judge.spin, 10.0, 'the result')
    assert done.result().status == GoalStatus.STATUS_CANCELED
    assert done.result().result.error_code == CODES.CANCELLED
    end_s = time.monotonic() + 0.3
    while time.monotonic() < end_s:
        judge.spin(0.05)
    assert not judge.stage.take_command()  # the robot is left alone


def test_waiting_for_what_does_not_come_ends(judge: Judge) -> None:
    with pytest.raises(StageTimeout, match='the moon'):
        wait_for(lambda: False, judge.spin, 0.2, 'the moon')
