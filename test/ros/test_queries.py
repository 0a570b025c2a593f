"""EvaluateCandidates over real ROS 2 on the toy engine: what is refused, and what is answered."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from planner import (
    CANDIDATES,
    CONTRACT,
    HIGH_A,
    LOW_A,
    STEPS,
    A,
    Planner,
    candidates,
    costs,
    node_parameters,
    picture,
    request,
    term,
)
from robot import PERIOD_NS, Child, Robot
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header
from wm_ros_msgs.msg import ObjectiveTerm
from wm_ros_msgs.srv import EvaluateCandidates, ResetMemory

from wm_ros.backends.resolve import resolve_backend
from wm_ros.datatypes import Frame, Step
from wm_ros.messages import stamp_to_ns
from wm_ros.model_package import ModelPackage
from wm_ros.nodes import convert
from wm_ros.nodes.objective_messages import term as read_term
from wm_ros.nodes.objective_terms import (
    action_limits,
    goal_image,
    goal_region,
    reward,
    smoothness,
)
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.query import Limits, Query, QueryCode, Start
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

pytestmark = pytest.mark.ros

CODES = EvaluateCandidates.Response
NAN, INF = float('nan'), float('inf')


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_toy_package(tmp_path_factory.mktemp('packages') / 'toy', CONTRACT)


@pytest.fixture(scope='module')
def pair(
    package: ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Planner, Child]]:
    log = tmp_path_factory.mktemp('node') / 'log'
    parameters = node_parameters(package=str(package.path), query_queue=100)
    with Robot() as robot, Child('world_model', log, **parameters) as node:
        robot.wait_matched()
        yield Planner(robot), node
        assert node.stop() == 0, log.read_text()
        assert 'failed' not in log.read_text()


@pytest.fixture
def planner(pair: tuple[Planner, Child]) -> Planner:
    """A planner whose robot has seen three frames since a reset."""
    planner, node = pair
    assert node.process.poll() is None, node.log.read_text()
    robot = planner.robot
    assert robot.call(ResetMemory, '/world_model/reset_memory', note='between tests').success
    for shade in (0, 10, 20):
        robot.step(picture(shade))
    planner.frames.clear()
    return planner


def bad_actions(value: float) -> np.ndarray:
    actions_KTA = candidates()
    actions_KTA[1, 2, 3] = value
    return actions_KTA


def goals(*images: Any, **changes: Any) -> list[ObjectiveTerm]:
    """A goal term, some fields of its first picture changed."""
    wanted = goal_image(list(images) or picture())
    for name, value in changes.items():
        setattr(wanted.goals[0], name, value)
    return [wanted]


def region(*box: int) -> list[ObjectiveTerm]:
    return [goal_region(picture(), box)]


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
BOX = RegionOfInterest(width=8, height=8)
# What is changed in a good request, the code that it must bring, words of the message.
BAD: dict[str, tuple[dict[str, Any], QueryCode, str]] = {
    'no candidate': ({'candidates': 0}, QueryCode.WRONG_DIMS, 'at least 1'),
    'fewer numbers': ({'steps': 4}, QueryCode.WRONG_DIMS, '4 x 4 x 11'),
    'other width': ({'action_width': 7}, QueryCode.WRONG_DIMS, '7 action entries'),
    'NaN': ({'actions': bad_actions(NAN)}, QueryCode.NOT_FINITE, 'entry gripper'),
    'infinity': ({'actions': bad_actions(INF)}, QueryCode.NOT_FINITE, 'candidate 1, step 2'),
    'out of limits': ({'actions': bad_actions(1.1)}, QueryCode.OUT_OF_LIMITS, 'expected 0 to 1'),
    'K': (
        {'actions': candidates(CANDIDATES + 1, 2)},
        QueryCode.TOO_MANY_CANDIDATES,
        f'{CANDIDATES + 1} candidates: at most {CANDIDATES}',
    ),
    'T': (
        {'actions': candidates(2, STEPS + 1)},
        QueryCode.TOO_MANY_STEPS,
        f'{STEPS + 1} steps: at most {STEPS}',
    ),
    'huge K': ({'candidates': 2**32 - 1}, QueryCode.TOO_MANY_CANDIDATES, '4294967295'),
    'draws': ({'draws': 9}, QueryCode.TOO_MANY_ROWS, '9 noise draws'),
    'K times M': (
        {'actions': candidates(CANDIDATES, 2), 'draws': 3},
        QueryCode.TOO_MANY_ROWS,
        '96 rows',
    ),
    'no objective': ({'objective': []}, QueryCode.NO_OBJECTIVE, 'at least one'),
    'unknown kind': (
        {'objective': [term('goal')]},
        QueryCode.INVALID_OBJECTIVE,
        "'goal': expected one of goal_image",
    ),
    'unknown over': (
        {'objective': [goal_image(picture(), over='first')]},
        QueryCode.INVALID_OBJECTIVE,
        'last, mean, best',
    ),
    'strange fields': (
        {'objective': [term('smoothness', region=BOX, over='last')]},
        QueryCode.INVALID_OBJECTIVE,
        'does not take region, over',
    ),
    'weight': ({'objective': [smoothness(NAN)]}, QueryCode.NOT_FINITE, 'weight is nan'),
    'three limits': (
        {'objective': [action_limits(LOW_A[:3])]},
        QueryCode.INVALID_OBJECTIVE,
        '3 limits',
    ),
    'NaN limits': (
        {'objective': [action_limits(LOW_A * NAN)]},
        QueryCode.NOT_FINITE,
        'limit is not finite',
    ),
    'crossed limits': (
        {'objective': [action_limits(HIGH_A, LOW_A)]},
        QueryCode.INVALID_OBJECTIVE,
        'entry 0',
    ),
    'no goal': ({'objective': [term('goal_image')]}, QueryCode.INVALID_GOAL, 'no goal picture'),
    'flat goal': (
        {'objective': goals(np.full((64, 64, 3), 90, np.uint8))},
        QueryCode.INVALID_GOAL,
        'flat',
    ),
    'small goal': ({'objective': goals(picture(side=32))}, QueryCode.INVALID_GOAL, '32 x 32'),
    'two sizes': (
        {'objective': goals(picture(), picture(side=128))},
        QueryCode.INVALID_GOAL,
        '2 sizes',
    ),
    'encoding': (
        {'objective': goals(encoding='unheard_of')},
        QueryCode.INVALID_GOAL,
        "encoding 'unheard_of'",
    ),
    'cut goal': ({'objective': goals(step=200)}, QueryCode.INVALID_GOAL, 'B of data'),
    'another world': ({'objective': goals(NOISE)}, QueryCode.INVALID_GOAL, "robot's world"),
    '17 goals': (
        {'objective': goals(*[picture()] * 17)},
        QueryCode.INVALID_GOAL,
        '17 goal pictures, at most 16',
    ),
    '17 terms': ({'objective': [smoothness()] * 17}, QueryCode.INVALID_OBJECTIVE, 'at most 16'),
    'large goals': (
        {'objective': goals(picture(), picture(), height=2**16, width=2**16)},
        QueryCode.INVALID_GOAL,
        'px in all: at most 16777216',
    ),
    'a sum without end': (
        {'objective': [smoothness(3e38)] * 16},
        QueryCode.INVALID_OBJECTIVE,
        'beyond float32',
    ),
    'empty region': ({'objective': region(0, 0, 0, 9)}, QueryCode.INVALID_GOAL, 'no size'),
    'region outside': ({'objective': region(60, 0, 8, 8)}, QueryCode.INVALID_GOAL, 'leaves'),
    'no reward head': ({'objective': [reward()]}, QueryCode.NO_REWARD_HEAD, 'reward'),
    'unknown state': ({'state': 2**63}, QueryCode.UNKNOWN_STATE, 'never kept'),
    'frames wanted': ({'frames_wanted': 9}, QueryCode.INVALID_REQUEST, '3 (BEST)'),
    'no deadline at all': ({'deadline_ms': NAN}, QueryCode.INVALID_REQUEST, 'nan'),
    'negative deadline': ({'deadline_ms': -1.0}, QueryCode.INVALID_REQUEST, '-1.0'),
    'deadline': ({'deadline_ms': 0.001}, QueryCode.DEADLINE, 'it needs about'),
}


def changed(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request; a picture of actions becomes all that belongs to it."""
    if isinstance(fields.get('actions'), np.ndarray):
        return request(fields['actions'], **{k: v for k, v in fields.items() if k != 'actions'})
    return request(**fields)


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_refused_with_its_code(planner: Planner, name: str) -> None:
    fields, code, words = BAD[name]
    service = '/world_model/evaluate_candidates'
    answer = planner.robot.call(EvaluateCandidates, service, **changed(fields))
    assert (answer.success, QueryCode(answer.error_code)) == (False, code), answer.message
    assert words in answer.message and len(answer.costs) == 0
    assert (answer.needed_ms > 0) == (code is QueryCode.DEADLINE)


def test_after_all_that_a_good_query_is_answered(planner: Planner) -> None:
    answer = planner.evaluate()
    assert answer.success and answer.error_code == CODES.NONE and answer.message == ''


def test_before_the_first_frame_there_is_nothing_to_start_from(planner: Planner) -> None:
    answer = planner.robot.call(ResetMemory, '/world_model/reset_memory', note='test')
    assert answer.success
    assert planner.evaluate().error_code == CODES.NOTHING_OBSERVED
    assert planner.imagine().error_code == CODES.NOTHING_OBSERVED
    planner.robot.step(picture())
    assert planner.evaluate().success and planner.imagine().success


def test_costs_are_those_of_the_library(planner: Planner, package: ModelPackage) -> None:
    """The command latched, the terms in order, the draws, the state: as Evaluator has it."""
    robot = planner.robot
    assert robot.call(ResetMemory, '/world_model/reset_memory', note='test').success
    model = WorldModel(package, resolve_backend('toy', package))
    memory, before_A = model.reset(), None
    commands = candidates(1, 4, seed=9)[0]
    for index, command in enumerate(commands):
        robot.step(picture(10 * index), command)
        action_A = CONTRACT.normalise(command)
        before_A = action_A if before_A is None else before_A
        frame = Frame(picture(10 * index), robot.stamp_ns)
        step = Step(frame, before_A, action_A, robot.stamp_ns, index)
        memory, before_A = model.observe(memory, step), action_A
    wanted = [
        goal_image([picture(30), picture(-30)], weight=2.0, over='best'),
        goal_region(picture(5), (8, 16, 24, 30), over='mean'),
        smoothness(0.5),
        action_limits(LOW_A / 2, HIGH_A / 2, weight=0.25),
        smoothness(0.0),
    ]
    actions_KTA = candidates(11, 5)
    live = planner.evaluate(actions_KTA, objective=wanted, draws=3, seed=2**40)
    evaluator = Evaluator(model, Limits(CANDIDATES, STEPS))
    query = Query(
        Start(memory, before_A),
        CONTRACT.normalise(actions_KTA),
        tuple(read_term(message, CONTRACT) for message in wanted),
        draws=3,
        seed=2**40,
    )
    running = evaluator.start(query)
    while running.unit():
        pass
    expected = running.result()
    np.testing.assert_array_equal(live.costs, expected.costs_K)
    names = ['goal_image', 'goal_region', 'smoothness', 'action_limits', 'smoothness_2']
    assert list(live.term_names) == list(expected.terms) == names
    terms_NK = np.reshape(live.term_costs, (5, 11))
    np.testing.assert_array_equal(terms_NK, list(expected.terms.values()))
    np.testing.assert_array_equal(live.uncertainty, expected.uncertainty_K)
    np.testing.assert_array_equal(live.cost_steps, expected.cost_steps_K)
    np.testing.assert_allclose(live.costs, np.array([2, 1, 0.5, 0.25, 0]) @ terms_NK, rtol=1e-5)
    assert (live.best, live.horizon, live.partial) == (expected.best, 5, False)
    assert live.best == np.argmin(live.costs) and not live.calibrated
    assert stamp_to_ns(live.state_stamp) == robot.stamp_ns and live.state_frames == 4
    assert 0 < live.latency_ms < live.state_age_ms


def test_the_candidate_that_leads_to_the_goal_is_the_best(planner: Planner) -> None:
    """The toy's pictures get brighter with the mean of the commands."""
    share_K = np.linspace(0.1, 0.9, 9)
    actions_KTA = np.broadcast_to(LOW_A + share_K[:, None, None] * (HIGH_A - LOW_A), (9, 8, A))
    best = []
    for shade in (-50, 70):
        answer = planner.evaluate(actions_KTA, objective=[goal_image(picture(shade))])
        assert answer.success and np.all(np.isfinite(answer.uncertainty))
        best.append(answer.best)
    assert best[0] < 4 < best[1]
    assert np.all(np.isnan(planner.evaluate(actions_KTA, draws=1).uncertainty))


def test_a_camera_picture_is_a_goal_as_it_comes(planner: Planner) -> None:
    """Cut and resized as a frame is; its region is in its own pixels."""
    wide_HWC = np.zeros((128, 200, 3), np.uint8)
    wide_HWC[:, 36:164] = picture(10, side=128)
    whole = [planner.evaluate(objective=goals(image)) for image in (wide_HWC, picture(10))]
    assert costs(whole[0]) == costs(whole[1])
    parts = [
        planner.evaluate(objective=[goal_region(image, box)])
        for image, box in ((wide_HWC, (36 + 32, 16, 48, 16)), (picture(10), (16, 8, 24, 8)))
    ]
    assert costs(parts[0]) == costs(parts[1]) != costs(whole[0])


def test_frames_go_out_as_asked(planner: Planner) -> None:
    robot, start_ns = planner.robot, planner.robot.stamp_ns
    request_ = EvaluateCandidates.Request

    def shown(name: str) -> list[Any]:
        return [frame for frame in planner.frames if frame.query == name]

    def frames(count: int, name: str, **fields: Any) -> dict[tuple[int, int], Any]:
        answer = planner.evaluate(candidates(10, 5), query=name, **fields)
        assert answer.success
        robot.until(lambda: len(shown(name)) >= count, f'{count} frames of {name}')
        robot.spin(0.1)
        assert len(shown(name)) == count
        return {(f.candidate, f.step): f for f in shown(name)}

    last = frames(10, 'last', frames_wanted=request_.FRAMES_LAST)
    assert set(last) == {(k, 4) for k in range(10)}
    every = frames(30, 'every', frames_wanted=request_.FRAMES_EVERY, frames_every=2)
    assert set(every) == {(k, t) for k in range(10) for t in (0, 2, 4)}
    best = planner.evaluate(candidates(10, 5)).best
    of_best = frames(5, 'best', frames_wanted=request_.FRAMES_BEST)
    assert set(of_best) == {(best, t) for t in range(5)}
    for place, frame in every.items():
        assert frame.image.header == frame.header and frame.header.frame_id == 'cam'
        # Frame t+1 is under the command in force; the first action acts from there to t+2.
        assert stamp_to_ns(frame.header.stamp) == start_ns + (2 + place[1]) * PERIOD_NS
        if place in last:
            assert frame.image.data == last[place].image.data
        if place in of_best:
            assert frame.image.data == of_best[place].image.data
    planner.evaluate(query='none')
    robot.spin(0.2)
    assert not shown('none')


def test_a_deadline_brings_what_is_there_or_a_refusal_at_once(planner: Planner) -> None:
    """When exactly is tested without a clock, in test_queries_queue.py."""
    evaluate = functools.partial(planner.evaluate, draws=1)
    actions_KTA = candidates(CANDIDATES, STEPS)
    whole = evaluate(actions_KTA)
    assert whole.success and not whole.partial and whole.horizon == STEPS
    refused = evaluate(actions_KTA, deadline_ms=0.1)
    needed_ms = refused.needed_ms
    assert refused.error_code == CODES.DEADLINE and needed_ms > 1
    for attempt in range(50):  # a loaded machine may be late for one, never for all
        deadline_ms = needed_ms * (0.4 + attempt / 20)
        part = evaluate(actions_KTA, deadline_ms=deadline_ms, allow_partial=True)
        if part.success and part.partial:
            break
    assert part.partial and 0 < part.horizon < STEPS, part.message
    cut = evaluate(actions_KTA[:, : part.horizon])
    assert costs(part) == costs(cut), 'as if only that many steps had been asked for'
    none = evaluate(actions_KTA, deadline_ms=0.1, allow_partial=True)
    assert none.error_code == CODES.DEADLINE and none.needed_ms > 1


def test_a_node_that_is_not_active_says_so(planner: Planner) -> None:
    planner.change(Transition.TRANSITION_DEACTIVATE)
    assert planner.evaluate().error_code == CODES.NOT_ACTIVE
    assert planner.imagine().error_code == CODES.NOT_ACTIVE
    planner.change(Transition.TRANSITION_ACTIVATE)
    assert planner.evaluate().error_code == CODES.NOTHING_OBSERVED
    planner.robot.step(picture())
    assert planner.evaluate().success


def test_deactivation_answers_whatever_waits(planner: Planner) -> None:
    planner.change(Transition.TRANSITION_DEACTIVATE)  # the first call of a client takes its time
    planner.change(Transition.TRANSITION_ACTIVATE)
    planner.robot.first_step(picture())
    planner.evaluate()
    waiting = [planner.ask(candidates(CANDIDATES, STEPS), draws=1) for _ in range(60)]
    dream = planner.dream(STEPS)
    planner.change(Transition.TRANSITION_DEACTIVATE)
    _, result = planner.result(dream)
    for future in waiting:
        planner.robot.until(future.done, 'every waiting query is answered')
    codes = {future.result().error_code for future in waiting} | {result.error_code}
    assert codes <= {CODES.NONE, CODES.NOT_ACTIVE} and CODES.NOT_ACTIVE in codes
    planner.change(Transition.TRANSITION_ACTIVATE)
    planner.robot.first_step(picture())
    assert planner.evaluate().success and planner.imagine().success


def test_a_node_that_is_configured_anew_serves_again(planner: Planner) -> None:
    for _ in range(3):
        for transition in (
            Transition.TRANSITION_DEACTIVATE,
            Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
        ):
            planner.change(transition)
        robot = planner.robot
        robot.until(robot.camera.get_subscription_count, 'the node listens')
        robot.first_step(picture())
        assert planner.evaluate().success
        robot.until(planner.dreams.server_is_ready, 'the imagine action')
        robot.spin(0.3)
        assert planner.imagine(3).success


def test_an_image_message_is_taken_as_well(planner: Planner) -> None:
    message = convert.image_message(picture(), Header())
    assert costs(planner.evaluate(objective=goals(message))) == costs(
        planner.evaluate(objective=goals(picture()))
    )


def test_diagnostics_count_queries(planner: Planner) -> None:
    values = planner.robot.diagnosed(lambda v: 'queries_answered' in v)
    before = {name: int(values[name]) for name in ('queries_answered', 'queries_refused')}
    planner.evaluate()
    planner.evaluate(candidates=0)
    values = planner.robot.diagnosed(
        lambda v: int(v['queries_answered']) > before['queries_answered']
    )
    assert int(values['queries_refused']) == before['queries_refused'] + 1
    assert (values['kept_states'], values['kept_bytes']) == ('0', '0')


def test_shutdown_answers_whatever_waits(planner: Planner) -> None:
    """The last one: the node is finalized then."""
    planner.change(Transition.TRANSITION_DEACTIVATE)  # the first call of a client takes its time
    planner.change(Transition.TRANSITION_ACTIVATE)
    planner.robot.first_step(picture())
    dreamt = planner.dream(STEPS).get_result_async()
    waiting = [planner.ask(candidates(CANDIDATES, STEPS), draws=1) for _ in range(8)]
    planner.robot.until(waiting[0].done, 'the first answer: the others were taken in by then')
    planner.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    for future in (dreamt, *waiting):
        planner.robot.until(future.done, 'every waiting query is answered')
    codes = {future.result().error_code for future in waiting}
    assert codes | {dreamt.result().result.error_code} <= {CODES.NONE, CODES.NOT_ACTIVE}
