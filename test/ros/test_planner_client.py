"""WorldModelClient over real ROS 2 on the toy engine: from a script, a callback, a coroutine."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from planner import (
    CANDIDATES,
    CONTRACT,
    HIGH_A,
    LOW_A,
    STEPS,
    A,
    candidates,
    node_parameters,
    picture,
)
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.task import Future
from robot import Child, Robot
from wm_ros_msgs.srv import EvaluateCandidates

from wm_ros.nodes.planner_answers import evaluation_request, limit
from wm_ros.nodes.planner_async import PlannerQuestions
from wm_ros.nodes.planner_client import (
    Answer,
    QueryCode,
    QueryError,
    WorldModelClient,
    action_limits,
    goal_image,
    goal_region,
    reward,
    smoothness,
)
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

GOAL = [goal_image(picture())]
WANTED = EvaluateCandidates.Request


@pytest.fixture(scope='module')
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, WorldModelClient]]:
    package = write_toy_package(
        tmp_path_factory.mktemp('packages') / 'toy', CONTRACT, with_reward=True
    )
    log = tmp_path_factory.mktemp('node') / 'log'
    parameters = node_parameters(package=str(package.path))
    with Robot() as robot, Child('world_model', log, **parameters) as node:
        robot.wait_matched()
        for shade in (0, 10, 20):
            robot.step(picture(shade))
        client = WorldModelClient(robot.node)
        yield robot, client
        client.close()
        assert node.stop() == 0, log.read_text()
        assert 'failed' not in log.read_text()


@pytest.fixture
def robot(pair: tuple[Robot, WorldModelClient]) -> Robot:
    return pair[0]


@pytest.fixture
def client(pair: tuple[Robot, WorldModelClient]) -> WorldModelClient:
    return pair[1]


def test_three_lines(robot: Robot) -> None:
    actions_KTA = LOW_A + np.linspace(0.1, 0.9, 9)[:, None, None] * (HIGH_A - LOW_A)
    actions_KTA = np.broadcast_to(actions_KTA, (9, 8, A))
    client = WorldModelClient(robot.node)
    answer = client.evaluate(actions_KTA, [goal_image(picture(70)), smoothness(0.01)])
    assert answer.best > 4, 'the toy gets brighter with the commands'
    client.close()


def test_an_answer_holds_everything(robot: Robot, client: WorldModelClient) -> None:
    objective = [
        goal_image([picture(), picture(40)], over='best'),
        goal_region(picture(), (8, 8, 16, 16), weight=2.0),
        action_limits(LOW_A / 2, HIGH_A / 2),
        reward(0.5),
    ]
    answer = client.evaluate(candidates(7, 3), objective, seed=3, draws=3)
    assert answer.costs_K.shape == answer.uncertainty_K.shape == answer.cost_steps_K.shape == (7,)
    assert list(answer.terms) == ['goal_image', 'goal_region', 'action_limits', 'reward']
    total_K = np.array([1, 2, 1, 0.5]) @ np.array(list(answer.terms.values()))
    np.testing.assert_allclose(answer.costs_K, total_K, rtol=1e-5)
    assert answer.best == answer.costs_K.argmin() and np.isfinite(answer.uncertainty_K).all()
    assert (answer.horizon, answer.partial, answer.calibrated) == (3, False, False)
    assert answer.state_stamp_ns == robot.stamp_ns and answer.state_frames == 3
    assert answer.latency_ms > 0 and answer.frames == {}
    again = client.evaluate(candidates(7, 3), objective, seed=3, draws=3)
    np.testing.assert_array_equal(answer.costs_K, again.costs_K)


@pytest.mark.parametrize(
    ('wanted', 'every', 'places'),
    [
        (WANTED.FRAMES_LAST, 0, {(k, 4) for k in range(9)}),
        (WANTED.FRAMES_EVERY, 2, {(k, t) for k in range(9) for t in (0, 2, 4)}),
        (WANTED.FRAMES_BEST, 3, {(-1, 1), (-1, 4)}),
    ],
)
def test_frames_come_with_the_answer(
    client: WorldModelClient, wanted: int, every: int, places: set[tuple[int, int]]
) -> None:
    answer = client.evaluate(candidates(9, 5), GOAL, frames_wanted=wanted, frames_every=every)
    expected = {(answer.best if k < 0 else k, t) for k, t in places}
    assert set(answer.frames) == expected
    for image_HWC in answer.frames.values():
        assert image_HWC.shape == (64, 64, 3) and image_HWC.dtype == np.uint8


class _LossyFrames(dict[Any, Any]):
    """Frames of candidate 1 never arrive."""

    def __setitem__(self, place: tuple[int, int], image_HWC: Any) -> None:
        if place[0] != 1:
            super().__setitem__(place, image_HWC)


def test_costs_are_not_lost_with_a_frame(
    client: WorldModelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, '_frames', _LossyFrames())
    answer = client.evaluate(candidates(3, 2), GOAL, frames_wanted=WANTED.FRAMES_LAST)
    assert len(answer.costs_K) == 3
    assert set(answer.frames) == {(0, 1), (2, 1)}


def test_what_is_refused_is_raised(client: WorldModelClient) -> None:
    with pytest.raises(QueryError) as refused:
        client.evaluate(candidates(CANDIDATES + 1, 2), GOAL)
    assert refused.value.code is QueryCode.TOO_MANY_CANDIDATES
    assert f'at most {CANDIDATES}' in refused.value.message
    with pytest.raises(QueryError) as refused:
        client.evaluate(candidates(), GOAL, deadline_ms=0.001)
    assert refused.value.code is QueryCode.DEADLINE and refused.value.needed_ms > 0
    with pytest.raises(QueryError, match='WRONG_DIMS'):
        client.evaluate(candidates()[0], GOAL)
    with pytest.raises(QueryError, match='WRONG_DIMS'):
        client.imagine(candidates())
    with pytest.raises(QueryError, match='TOO_MANY_STEPS'):
        client.imagine(candidates(1, STEPS + 1)[0])
    with pytest.raises(QueryError, match='UNKNOWN_STATE'):
        client.keep(10**9)
    assert client.evaluate(candidates(), GOAL).costs_K.shape == (4,)


def test_a_world_model_that_is_not_there_is_a_timeout(robot: Robot) -> None:
    client = WorldModelClient(robot.node, '/nowhere', timeout_s=0.3)
    for ask in (
        lambda: client.evaluate(candidates(), GOAL),
        lambda: client.imagine(candidates()[0]),
        client.fork,
    ):
        with pytest.raises(TimeoutError, match='/nowhere'):
            ask()
    begun_s = time.monotonic()
    future = client.evaluate_async(candidates(), GOAL)
    assert not future.done(), 'it may still appear'
    robot.until(future.done, 'the time limit')
    assert 0.3 <= time.monotonic() - begun_s < 2.0
    error = future.exception()
    assert isinstance(error, TimeoutError) and 'nobody offers it' in str(error)
    client.close()


class _Oracle:
    """Offers `evaluate_candidates` as another node, and does not answer while it is `mute`."""

    def __init__(self, robot: Robot, name: str) -> None:
        self.node = rclpy.create_node('oracle', context=robot.context)
        self.executor = SingleThreadedExecutor(context=robot.context)
        self.executor.add_node(self.node)
        self.mute = threading.Event()
        self.asked: list[EvaluateCandidates.Request] = []
        kind, topic = EvaluateCandidates, f'{name}/evaluate_candidates'
        deep = QoSProfile(depth=100)
        self.service = self.node.create_service(kind, topic, self.answer, qos_profile=deep)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    def answer(self, request: Any, response: Any) -> Any:
        self.asked.append(request)
        while self.mute.is_set():
            time.sleep(0.01)
        response.success = True
        response.costs = array('f', [float(request.seed)])
        return response

    def close(self) -> None:
        self.mute.clear()
        self.executor.shutdown()
        self.thread.join(10)
        self.node.destroy_node()


def test_the_first_question_waits_for_the_service_to_appear(robot: Robot) -> None:
    client = WorldModelClient(robot.node, '/late', timeout_s=10.0)
    futures = [client.evaluate_async(candidates(), GOAL, seed=seed) for seed in range(30)]
    robot.spin(0.3)
    oracle = _Oracle(robot, '/late')
    robot.until(lambda: all(future.done() for future in futures), 'all answers')
    assert [future.result().costs_K[0] for future in futures] == list(range(30))
    oracle.close()
    client.close()


def test_nobody_waits_for_an_answer_that_does_not_come(robot: Robot) -> None:
    client = WorldModelClient(robot.node, '/mute', timeout_s=2.0)
    oracle = _Oracle(robot, '/mute')
    assert client.evaluate(candidates(), GOAL, seed=1).costs_K[0] == 1
    robot.until(client.evaluate_async(candidates(), GOAL).done, 'an answer')
    oracle.mute.set()
    begun_s = time.monotonic()
    futures = [client.evaluate_async(candidates(), GOAL, seed=seed) for seed in (2, 3)]
    futures[1].cancel()
    with pytest.raises(TimeoutError, match='no answer within 2 s'):
        client.evaluate(candidates(), GOAL, seed=4)
    robot.until(futures[0].done, 'the time limit')
    assert isinstance(futures[0].exception(), TimeoutError)
    assert 2.0 <= time.monotonic() - begun_s < 4.0
    # They are answered all the same, too late: that is dropped, and what follows is not mixed up.
    oracle.mute.clear()
    assert client.evaluate(candidates(), GOAL, seed=5).costs_K[0] == 5
    latest = client.evaluate_async(candidates(), GOAL, seed=6)
    robot.until(latest.done, 'an answer')
    assert latest.result().costs_K[0] == 6 and not futures[1].done()
    assert isinstance(futures[0].exception(), TimeoutError)
    assert {request.deadline_ms for request in oracle.asked} == {1900.0}
    oracle.close()
    client.close()


def test_an_answer_that_is_there_at_once_is_taken(robot: Robot) -> None:
    questions = PlannerQuestions(robot.node, EvaluateCandidates, '/swift', timeout_s=5.0)
    answered = Future()
    answered.set_result(7)  # by the executor's thread, before the asker's has gone on
    robot.node.destroy_client(questions._client)
    questions._client = SimpleNamespace(
        service_is_ready=lambda: True,
        call_async=lambda request: answered,
        remove_pending_request=lambda sent: None,
    )
    questions._found_s = 0.0
    asked: list[Future] = []
    asker = threading.Thread(
        target=lambda: asked.append(questions.ask(None, lambda response: response + 1)),
        daemon=True,
    )
    asker.start()
    asker.join(5.0)
    assert not asker.is_alive() and asked[0].result() == 8


def test_a_call_is_given_up_as_soon_as_it_is_not_wanted(robot: Robot) -> None:
    client = WorldModelClient(robot.node, '/mute', timeout_s=20.0)
    for ask in (partial(client.evaluate, candidates(), GOAL), client.fork):
        end_s = time.monotonic() + 0.3
        with pytest.raises(QueryError) as given_up:
            ask(wanted=lambda end_s=end_s: time.monotonic() < end_s)
        assert given_up.value.code is QueryCode.CANCELLED
        assert time.monotonic() < end_s + 1.0
    waiting = client.evaluate_async(candidates(), GOAL)
    client.close()
    assert waiting.cancelled()


@pytest.mark.parametrize(
    ('asked', 'sent'),
    [
        ((0.0, False), (1900.0, True)),  # no refusal by an estimate: it may begin
        ((0.0, True), (1900.0, True)),
        ((500.0, False), (500.0, False)),
        ((1e6, False), (1900.0, False)),
        ((-1.0, False), (-1.0, False)),  # for the world model to refuse
    ],
)
def test_the_world_model_is_told_how_long_a_client_waits(
    asked: tuple[float, bool], sent: tuple[float, bool]
) -> None:
    options = dict(zip(('deadline_ms', 'allow_partial'), asked, strict=True))
    request = evaluation_request(candidates(), GOAL, 'test', options)
    read = limit(request, 2.0)
    assert (request.deadline_ms, request.allow_partial) == sent
    half = EvaluateCandidates.Response(success=True, costs=[1.0], partial=True, horizon=2)
    half.latency_ms = 2000.0
    if asked == (0.0, False):
        with pytest.raises(QueryError, match='2 of 3 steps') as refused:
            read(half)
        assert (refused.value.code, refused.value.needed_ms) == (QueryCode.DEADLINE, 3000.0)
    else:
        assert read(half).partial


def test_states_and_dreams(client: WorldModelClient) -> None:
    told: list[int] = []
    dreamt = client.imagine(
        candidates(1, 6)[0], keep_state=True, on_step=lambda feedback: told.append(feedback.step)
    )
    assert dreamt.state > 0 and dreamt.horizon == 6
    assert told == list(range(1, len(told) + 1)), 'the last may come after the result'
    kept = client.fork()
    copy = client.fork(kept.id, keep_s=20.0)
    assert client.keep(copy.id, 200.0).expires_in_s > 190
    assert [state.id for state in client.states()] == [dreamt.state, kept.id, copy.id]
    assert {state.owner for state in client.states(client.owner)} == {'/robot'}
    costs = [client.evaluate(candidates(), GOAL, state=s.id).costs_K for s in client.states()]
    np.testing.assert_array_equal(costs[1], costs[2])
    assert (costs[0] != costs[1]).any()
    assert client.drop(copy.id) == 1 and client.drop() == 2 and client.states() == []


def test_it_may_block_in_a_callback_of_the_node(robot: Robot, client: WorldModelClient) -> None:
    answers: list[Answer] = []
    timer = robot.node.create_timer(
        0.01, lambda: answers.append(client.evaluate(candidates(), GOAL))
    )
    robot.until(lambda: len(answers) >= 3, 'answers in a timer')
    robot.node.destroy_timer(timer)


def test_it_may_be_used_by_several_threads(client: WorldModelClient) -> None:
    costs: dict[int, bytes] = {}

    def ask(seed: int) -> None:
        costs[seed] = client.evaluate(candidates(), GOAL, seed=seed % 2).costs_K.tobytes()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(costs) == 6 and len(set(costs.values())) == 2


def test_a_coroutine_awaits_answers(robot: Robot, client: WorldModelClient) -> None:
    expected = client.evaluate(candidates(), GOAL, seed=1)

    async def plan() -> tuple[Answer, QueryCode]:
        answer = await client.evaluate_async(candidates(), GOAL, seed=1)
        try:
            await client.evaluate_async(candidates(), [])
        except QueryError as error:
            return answer, error.code
        raise AssertionError('an empty objective was answered')

    task: Any = robot.executor.create_task(plan)
    robot.until(task.done, 'the plan')
    answer, code = task.result()
    np.testing.assert_array_equal(answer.costs_K, expected.costs_K)
    assert code is QueryCode.NO_OBJECTIVE
