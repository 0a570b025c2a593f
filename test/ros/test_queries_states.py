"""Dreams and kept states over real ROS 2 on the toy engine: handles, expiry, budget, cancel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from planner import CONTRACT, STEPS, Planner, candidates, costs, node_parameters, picture
from robot import PERIOD_NS, Child, Robot
from wm_ros_msgs.action import Imagine
from wm_ros_msgs.srv import DropState, ForkState, KeepState, ListStates, ResetMemory

from wm_ros.messages import stamp_to_ns
from wm_ros.planning.query import QueryCode
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

LONG = 512  # steps of a dream that is cut short
BUDGET_STATES = 10
NAN = float('nan')


@pytest.fixture(scope='module')
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Planner, Child, int]]:
    package = write_toy_package(tmp_path_factory.mktemp('packages') / 'toy', CONTRACT)
    state_bytes = package.manifest.state_bytes
    log = tmp_path_factory.mktemp('node') / 'log'
    parameters = node_parameters(
        package=str(package.path),
        query_steps=LONG,
        state_budget_mib=(BUDGET_STATES + 0.5) * state_bytes / 2**20,
    )
    with Robot() as robot, Child('world_model', log, **parameters) as node:
        robot.wait_matched()
        yield Planner(robot), node, state_bytes
        assert node.stop() == 0, log.read_text()
        assert 'failed' not in log.read_text()


@pytest.fixture
def planner(pair: tuple[Planner, Child, int]) -> Planner:
    """A planner that keeps nothing, whose robot has seen three frames since a reset."""
    planner, node, _ = pair
    assert node.process.poll() is None, node.log.read_text()
    robot = planner.robot
    assert robot.call(ResetMemory, '/world_model/reset_memory', note='between tests').success
    for shade in (0, 10, 20):
        robot.step(picture(shade))
    for state in listed(planner).states:
        assert ask(planner, DropState, state=state.id).success
    planner.frames.clear()
    return planner


def ask(planner: Planner, kind: Any, **fields: Any) -> Any:
    name = {
        ForkState: 'fork_state',
        KeepState: 'keep_state',
        ListStates: 'list_states',
        DropState: 'drop_state',
    }[kind]
    return planner.robot.call(kind, f'/world_model/{name}', **fields)


def listed(planner: Planner, owner: str = '') -> Any:
    answer = ask(planner, ListStates, owner=owner)
    assert answer.success
    return answer


def fork(planner: Planner, **fields: Any) -> Any:
    answer = ask(planner, ForkState, **fields)
    assert answer.success, answer.message
    return answer.handle


def test_a_kept_state_gives_the_same_costs_while_the_live_one_moves_on(planner: Planner) -> None:
    live = planner.evaluate(seed=3)
    kept = fork(planner, owner='me')
    for shade in (40, 80):
        planner.robot.step(picture(shade))
    assert costs(planner.evaluate(seed=3)) != costs(live)
    past = planner.evaluate(seed=3, state=kept.id)
    assert costs(past) == costs(live)
    assert past.state_stamp == live.state_stamp and past.state_frames == live.state_frames == 3
    copy = fork(planner, owner='you', state=kept.id)
    assert copy.id != kept.id
    assert costs(planner.evaluate(seed=3, state=copy.id)) == costs(live)


def test_a_handle_says_what_it_is(planner: Planner, pair: tuple[Planner, Child, int]) -> None:
    kept = fork(planner, owner='me', keep_s=30.0)
    assert kept.id > 0 and kept.owner == 'me' and (kept.frames, kept.imagined) == (3, 0)
    assert stamp_to_ns(kept.stamp) == planner.robot.stamp_ns and kept.latched
    assert kept.bytes >= pair[2] and 0 <= kept.age_s < 5 and 25 < kept.expires_in_s <= 30
    longer = ask(planner, KeepState, state=kept.id, keep_s=500.0)
    assert longer.success and 490 < longer.handle.expires_in_s <= 500
    theirs = fork(planner, owner='you')
    assert theirs.expires_in_s == pytest.approx(60, abs=1), 'state_keep_s'
    assert [state.id for state in listed(planner).states] == [kept.id, theirs.id]
    assert [state.id for state in listed(planner, 'you').states] == [theirs.id]
    assert listed(planner).used_bytes == kept.bytes + theirs.bytes
    dropped = ask(planner, DropState, owner='me')
    assert dropped.success and dropped.dropped == 1
    assert [state.id for state in listed(planner).states] == [theirs.id]
    assert ask(planner, DropState, state=theirs.id).dropped == 1
    assert listed(planner).used_bytes == 0


def test_states_that_are_gone_are_told_apart(planner: Planner) -> None:
    dropped, expired = fork(planner), fork(planner, keep_s=0.2)
    assert ask(planner, DropState, state=dropped.id).success
    planner.robot.until(lambda: len(listed(planner).states) == 0, 'it expires')
    for state, code in (
        (dropped.id, QueryCode.UNKNOWN_STATE),
        (expired.id, QueryCode.EXPIRED_STATE),
        (10**15, QueryCode.UNKNOWN_STATE),
    ):
        answers = [
            planner.evaluate(state=state),
            planner.imagine(state=state),
            ask(planner, ForkState, state=state),
            ask(planner, KeepState, state=state),
            ask(planner, DropState, state=state),
        ]
        assert {(answer.success, answer.error_code) for answer in answers} == {(False, code)}
        assert all(str(state) in answer.message for answer in answers)


def test_expired_states_are_freed_without_being_asked_for(planner: Planner) -> None:
    fork(planner, keep_s=0.2)
    planner.robot.diagnosed(lambda v: v['kept_states'] == '1' and int(v['kept_bytes']) > 0)
    planner.robot.diagnosed(lambda v: v['kept_states'] == '0' and v['kept_bytes'] == '0')


def test_the_budget_holds(planner: Planner) -> None:
    for _ in range(BUDGET_STATES):
        fork(planner, owner='me')
    refused = ask(planner, ForkState, owner='me')
    assert refused.error_code == QueryCode.STATE_BUDGET and '10 states' in refused.message
    dreamt = planner.imagine(3, keep_state=True)
    assert dreamt.error_code == QueryCode.STATE_BUDGET and dreamt.state == 0
    status = listed(planner)
    assert len(status.states) == BUDGET_STATES and status.used_bytes <= status.budget_bytes
    assert ask(planner, DropState, state=status.states[0].id).success
    assert fork(planner, owner='me').id > status.states[-1].id, 'ids are not used again'


@pytest.mark.parametrize('keep_s', [-1.0, NAN, 1e9])
def test_a_time_without_meaning_is_refused(planner: Planner, keep_s: float) -> None:
    kept = fork(planner)
    for answer in (
        ask(planner, ForkState, keep_s=keep_s),
        ask(planner, KeepState, state=kept.id, keep_s=keep_s),
        planner.imagine(3, keep_s=keep_s),
    ):
        assert answer.error_code == QueryCode.INVALID_REQUEST and 'keep_s' in answer.message
    assert ask(planner, ForkState, owner='x' * 1000).error_code == QueryCode.INVALID_REQUEST
    assert ask(planner, DropState).error_code == QueryCode.INVALID_REQUEST
    assert len(listed(planner).states) == 1


def test_a_dream_tells_its_progress_and_shows_its_frames(planner: Planner) -> None:
    handle = planner.dream(6, frames=True, query='dream', owner='me')
    _, result = planner.result(handle)
    assert result.success and (result.state, result.horizon) == (0, 6)
    assert stamp_to_ns(result.state_stamp) == planner.robot.stamp_ns and result.latency_ms > 0
    robot = planner.robot
    robot.until(lambda: len(planner.frames) == 6, 'all frames')
    instants = [robot.stamp_ns + (2 + index) * PERIOD_NS for index in range(6)]
    for index, frame in enumerate(planner.frames):
        assert (frame.query, frame.step, frame.candidate) == ('dream', index, 0)
        assert stamp_to_ns(frame.header.stamp) == instants[index]
    # rclpy's client forgets who wants feedback as soon as the result is there.
    steps = [told.step for told in planner.feedback]
    assert steps == list(range(1, len(steps) + 1)) and 0 < len(steps) <= 6
    for told in planner.feedback:
        assert told.steps == 6 and stamp_to_ns(told.stamp) == instants[told.step - 1]
    assert len(listed(planner).states) == 0, 'kept only where asked for'


def test_a_dream_goes_on_where_another_ended(planner: Planner) -> None:
    first = planner.imagine(4, keep_state=True, owner='me', keep_s=20.0)
    assert first.success and first.state > 0
    (kept,) = listed(planner, 'me').states
    assert (kept.id, kept.frames, kept.imagined, kept.latched) == (first.state, 3, 5, False)
    planner.robot.step(picture(90))
    # No command is in force at the end of a dream: the first action acts at once.
    answer = planner.evaluate(candidates(3, 2), state=first.state, frames_wanted=1, query='on')
    assert answer.success and answer.state_frames == 3
    planner.robot.until(lambda: len(planner.frames) == 3, 'frames')
    instants = {stamp_to_ns(frame.header.stamp) for frame in planner.frames}
    assert instants == {stamp_to_ns(kept.stamp) + (5 + 2) * PERIOD_NS}
    second = planner.imagine(2, state=first.state, keep_state=True, owner='me')
    assert second.success
    assert [state.imagined for state in listed(planner, 'me').states] == [5, 7]


def test_a_cancelled_dream_frees_what_it_held(planner: Planner) -> None:
    handle = planner.dream(LONG, keep_state=True, owner='me')
    planner.robot.until(lambda: planner.feedback, 'it is under way')
    future = handle.cancel_goal_async()
    status, result = planner.result(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert result.error_code == Imagine.Result.CANCELLED and not result.success
    assert 0 < planner.feedback[-1].step < LONG
    planner.robot.until(future.done, 'cancel is answered')
    assert result.state == 0 and listed(planner).used_bytes == 0
    steps = len(planner.feedback)
    planner.robot.spin(0.2)
    assert len(planner.feedback) <= steps + 1, 'no further frame is imagined'
    assert planner.imagine(3).success


def test_dreams_that_wait_are_cancelled_too(planner: Planner) -> None:
    first, second = planner.dream(LONG), planner.dream(LONG)
    future = second.cancel_goal_async()
    status, result = planner.result(second)
    assert (status, result.error_code) == (GoalStatus.STATUS_CANCELED, QueryCode.CANCELLED)
    planner.robot.until(future.done, 'cancel is answered')
    first.cancel_goal_async()
    assert planner.result(first)[1].error_code == QueryCode.CANCELLED


def test_evaluations_are_answered_while_a_dream_goes_on(planner: Planner) -> None:
    handle = planner.dream(LONG)
    answers = [planner.evaluate(candidates(2, 2)) for _ in range(3)]
    assert all(answer.success for answer in answers)
    assert not planner.feedback or planner.feedback[-1].step < LONG
    handle.cancel_goal_async()
    planner.result(handle)


@pytest.mark.parametrize(
    ('fields', 'code'),
    [
        ({'steps': 9}, QueryCode.WRONG_DIMS),
        ({'action_width': 3}, QueryCode.WRONG_DIMS),
        ({'steps': LONG + 1}, QueryCode.TOO_MANY_STEPS),
        ({'owner': 'x' * 1000}, QueryCode.INVALID_REQUEST),
    ],
)
def test_a_bad_dream_is_refused_in_its_result(
    planner: Planner, fields: dict[str, Any], code: QueryCode
) -> None:
    status, result = planner.result(planner.dream(5, **fields))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, code), result.message


def test_dreamt_frames_equal_those_of_a_query(planner: Planner) -> None:
    """A dream and a query of one candidate and one draw are the same future."""
    actions_KTA = candidates(1, STEPS)
    kept = fork(planner)
    planner.evaluate(actions_KTA, state=kept.id, draws=1, seed=4, frames_wanted=2, query='query')
    result = planner.result(
        planner.dream(STEPS, state=kept.id, seed=4, frames=True, query='dream')
    )[1]
    assert result.success
    planner.robot.until(lambda: len(planner.frames) == 2 * STEPS, 'all frames')
    shown: dict[str, list[np.ndarray]] = {'query': [], 'dream': []}
    for frame in planner.frames:
        shown[frame.query].append(np.array(frame.image.data))
    difference = np.abs(np.subtract(shown['query'], shown['dream'], dtype=np.int64))
    assert difference.max() <= 1


def test_dreams_that_come_together_all_end(planner: Planner) -> None:
    handles = [planner.dream(20, seed=seed) for seed in range(5)]
    assert all(planner.result(handle)[1].success for handle in handles)
