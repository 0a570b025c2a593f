"""The reference planner over real ROS 2: a goal picture in, commands out, in lockstep; refusals;
cancel; an end while a goal is pursued.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile
from robot import Child
from wm_ros_msgs.action import ReachGoal
from wm_ros_msgs.msg import Action, ModelInfo, StateHandle

from wm_ros.config import COMMAND_TOPIC, PlannerConfig
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes.judge import SETTLE_FRAMES, Judge, request
from wm_ros.nodes.planner_client import WorldModelClient
from wm_ros.nodes.planner_goals import PursuitError, knots
from wm_ros.nodes.planner_robot import JUMP_NS, CommandInForce
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
            searches=1,
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


def rest(judge: Judge, seconds: float) -> None:
    """Handle events for a while."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        judge.spin(0.05)


def outcome(judge: Judge, goal: Any, planner: Any = None) -> tuple[int, ReachGoal.Result]:
    """Send a goal that ends without a command; return its status and result."""
    asked = (planner or judge.planner).send_goal_async(goal)
    wait_for(asked.done, judge.spin, 10.0, 'the planner')
    done = asked.result().get_result_async()
    wait_for(done.done, judge.spin, 30.0, 'the result')
    return done.result().status, done.result().result


def test_a_goal_is_pursued_frame_by_frame_and_the_commands_are_the_searched_ones(
    judge: Judge, goal: Goal
) -> None:
    judge.play_past(goal)
    shown, start_ns = judge.stage.frames, judge.stage.stamp_ns
    heard: list[Action] = []
    searched: list[np.ndarray] = []
    node, deep = judge.stage, QoSProfile(depth=1000)
    ears = [
        node.create_subscription(Action, COMMAND_TOPIC, heard.append, deep),
        node.create_subscription(
            ReachGoal.Impl.FeedbackMessage,
            '/planner/reach_goal/_action/feedback',
            lambda message: searched.append(np.array(message.feedback.actions)),
            deep,
        ),
    ]
    wait_for(lambda: node.count_subscribers(COMMAND_TOPIC) >= 4, judge.spin, 10.0, 'own ears')
    rest(judge, 0.3)
    result = judge.pursue(goal, 'cem', 3)
    for ear in ears:
        node.destroy_subscription(ear)
    assert result.success, result.message
    assert 1 <= result.skills <= goal.most_skills
    # Holding still, two rounds and the finalists: 1, 16 and 4 candidates of 14 steps.
    decisions = result.queries // 4
    assert result.queries == 4 * decisions == 4 * len(searched)
    assert decisions in (result.skills, result.skills + 1)
    assert result.candidate_steps == decisions * (1 + 2 * 16 + 4) * 14
    # One command a frame, in the middle between two; the stage's own end the run.
    given, settling = heard[:-SETTLE_FRAMES], heard[-SETTLE_FRAMES:]
    since_ns = np.array([stamp_to_ns(command.header.stamp) for command in given]) - start_ns
    np.testing.assert_array_equal(since_ns, PERIOD_NS * (np.arange(len(given)) + 0.5))
    values_TA = np.array([command.values for command in given])
    np.testing.assert_array_equal(values_TA.reshape(-1), np.concatenate(searched))
    assert all((np.array(command.values) == values_TA[-1]).all() for command in settling)
    assert judge.stage.frames - shown == len(given) + SETTLE_FRAMES
    assert judge.stage.stamp_ns == start_ns + (len(given) + SETTLE_FRAMES) * PERIOD_NS
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


def test_knots_are_a_skill_of_any_robot(
    judge: Judge, goal: Goal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_knots(*asked: Any) -> ReachGoal.Goal:
        wanted = request(*asked)
        wanted.skill, wanted.most_skills = 'knots', 1
        return wanted

    monkeypatch.setattr('wm_ros.nodes.judge.request', with_knots)
    judge.play_past(goal)
    before, rest_A = judge.stage.frames, judge.stage.command_A
    result = judge.pursue(goal, 'cem', 1)
    assert (result.success, result.skills) == (True, 1)
    config = PlannerConfig()
    assert 1 <= judge.stage.frames - before - SETTLE_FRAMES <= config.knot_frames
    moved_A = judge.stage.command_A != rest_A
    assert moved_A[:3].any() and not moved_A[3:].any()


@pytest.mark.parametrize(
    ('given', 'word'),
    [
        ({'knots': 13}, '13 knots'),
        ({'knot_entries': ()}, 'entries'),
        ({'knot_entries': ('x', 'elbow')}, 'elbow'),
    ],
)
def test_knots_that_make_no_sense_are_refused_with_the_reason(
    given: dict[str, Any], word: str
) -> None:
    info = ModelInfo(action_names=['x', 'y'], action_low=[-1.0, -1.0], action_high=[1.0, 1.0])
    with pytest.raises(PursuitError, match=word) as refused:
        knots(PlannerConfig(**{'knot_entries': ('x', 'y')} | given), info)
    assert refused.value.code == CODES.INVALID_GOAL


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
    rest(judge, 0.3)
    assert not judge.stage.take_command()  # the robot is left alone


def test_waiting_for_what_does_not_come_ends(judge: Judge) -> None:
    with pytest.raises(StageTimeout, match='the moon'):
        wait_for(lambda: False, judge.spin, 0.2, 'the moon')


def refuses(judge: Judge, nonsense: Any, planner: Any) -> bool:
    """Whether it answers that a goal makes no sense. A first answer can be lost: the two ends of
    an action find each other one topic after the other.
    """
    try:
        return outcome(judge, nonsense, planner)[1].error_code == CODES.INVALID_GOAL
    except StageTimeout:
        return False


class Second:
    """A planner beside the first one, with a goal that it pursues in the judge's world.

    Attributes:
        process: of the node.
        handle: of the goal.
        states: kept by the world model for this planner.
    """

    def __init__(self, judge: Judge, process: Child, handle: Any, client: Any) -> None:
        self.judge, self.process, self.handle, self.client = judge, process, handle, client

    @property
    def states(self) -> list[StateHandle]:
        return [state for state in self.client.states() if state.owner == '/second']

    def searches(self) -> None:
        """Wait until it is in the midst of a search."""
        wait_for(lambda: self.states, self.judge.spin, 30.0, 'a decision that begins')
        rest(self.judge, 1.5)
        assert self.states, 'it still searches'


@contextmanager
def second_planner(judge: Judge, goal: Goal, log: Path, **parameters: Any) -> Iterator[Second]:
    """Start it and give it the goal."""
    stage = judge.stage
    client = WorldModelClient(stage)
    remaps = (('__node', 'second'),)
    action = ActionClient(stage, ReachGoal, '/second/reach_goal')
    with Child('planner', log, remaps, use_sim_time=True, **parameters) as process:
        wait_for(action.server_is_ready, judge.spin, 30.0, 'the second planner')
        wait_for(
            lambda: stage.commands.get_subscription_count() >= 4, judge.spin, 10.0, 'its ears'
        )
        judge.play_past(goal)  # it hears of the model and of the robot
        nonsense = request(goal, 'luck', 0)
        wait_for(lambda: refuses(judge, nonsense, action), judge.spin, 60.0, 'it has heard')
        judge.play_past(goal)
        asked = action.send_goal_async(request(goal, 'cem', 3))
        wait_for(asked.done, judge.spin, 10.0, 'the second planner')
        yield Second(judge, process, asked.result(), client)
    client.close()
    action.destroy()
    wait_for(lambda: stage.commands.get_subscription_count() < 4, judge.spin, 30.0, 'its end')


LONG_QUERIES = {'candidates': 256, 'rounds': 100}  # each takes seconds, a search takes minutes


def test_a_cancel_while_it_searches_is_answered_at_once(
    judge: Judge, goal: Goal, tmp_path: Path
) -> None:
    log = tmp_path / 'log'
    with second_planner(judge, goal, log, **LONG_QUERIES) as second:
        second.searches()
        done = second.handle.get_result_async()
        begun_s = time.monotonic()
        second.handle.cancel_goal_async()
        wait_for(done.done, judge.spin, 10.0, 'the result')
        assert time.monotonic() - begun_s < 1.5, 'no query is waited for'
        assert done.result().status == GoalStatus.STATUS_CANCELED
        assert done.result().result.error_code == CODES.CANCELLED
        assert (done.result().result.skills, done.result().result.queries) == (0, 0)
        assert not second.states, 'the fork is given back'
        rest(judge, 0.3)
        assert not judge.stage.take_command(), 'the robot holds'
        assert second.process.stop() == 0 and 'Traceback' not in log.read_text()


def test_one_search_asks_about_one_state_while_the_live_one_moves_on(
    judge: Judge, goal: Goal, tmp_path: Path
) -> None:
    log, moved_on = tmp_path / 'log', 3
    with second_planner(judge, goal, log, candidates=64, rounds=3) as second:
        wait_for(lambda: second.states, judge.spin, 30.0, 'a decision that begins')
        (state,) = second.states
        assert stamp_to_ns(state.stamp) == judge.stage.stamp_ns
        for _ in range(moved_on):
            judge.stage.advance()
            judge.stage.show(judge.stage.command_A)
            judge.wait_seen()
        assert [kept.id for kept in second.states] == [state.id], 'the search goes on from there'
        wait_for(lambda: not second.states, judge.spin, 60.0, 'the end of the decision')
        wait_for(lambda: 'ms old' in log.read_text(), judge.spin, 5.0, 'what it says of it')
        age_ms = moved_on * PERIOD_NS // 1_000_000
        assert f'from a state {age_ms} ms old' in log.read_text()  # the last answer's
        assert second.process.stop() == 0


@pytest.mark.parametrize('moment', ['searching', 'acting'])
def test_sigint_while_a_goal_is_pursued_ends_both(
    judge: Judge, goal: Goal, tmp_path: Path, moment: str
) -> None:
    log = tmp_path / 'log'
    given = LONG_QUERIES if moment == 'searching' else {'candidates': 8, 'rounds': 1}
    with second_planner(judge, goal, log, **given) as second:
        if moment == 'searching':
            second.searches()
        else:  # it waits for the frame that shows its first command in force
            wait_for(judge.stage.take_command, judge.spin, 30.0, 'a command')
        done = second.handle.get_result_async()
        rest(judge, 0.2)
        assert second.process.stop(timeout_s=6.0) == 0
        wait_for(done.done, judge.spin, 5.0, 'the result')
        assert done.result().status == GoalStatus.STATUS_ABORTED
        assert done.result().result.error_code == CODES.CANCELLED
        assert not second.states, 'the fork is given back'
        assert 'Traceback' not in log.read_text() and 'goal given up' in log.read_text()


def test_a_late_command_does_not_come_into_force_again() -> None:
    command, own, others = CommandInForce(), np.zeros(2), np.ones(2)
    stamp_ns = 5 * JUMP_NS
    command.put(own, stamp_ns)
    command.put(own + 1, stamp_ns + PERIOD_NS)
    command.put(own, stamp_ns)  # the echo of the first
    assert command.values_A is not None and (command.values_A == own + 1).all()
    command.put(others + 2, stamp_ns + PERIOD_NS)  # somebody else's: of equal stamps the later
    assert (command.values_A == others + 2).all()
    command.put(others, stamp_ns - 2 * JUMP_NS)  # a clock that began anew
    assert (command.values_A == others).all()
    command.put(own, stamp_ns - 2 * JUMP_NS + 1)
    assert (command.values_A == own).all()
