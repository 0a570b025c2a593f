"""Queries in units of work: the same answer alone and among other work, in part, or given up."""

from __future__ import annotations

import gc
import resource
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from planning_world import A, ask, candidates, content, drain, goal, live, seen, toy_model

from wm_ros.backends.base import Bound, GraphInputs, GraphOutputs
from wm_ros.manifest import Calibration, Planning
from wm_ros.planning.dream import Dream
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.goals import GoalPictures
from wm_ros.planning.objectives import Reward, Smoothness
from wm_ros.planning.query import FramesWanted, Limits, Query, Start
from wm_ros.planning.uncertainty import spread
from wm_ros.preprocess import to_image
from wm_ros.world_model import WorldModel


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return toy_model(tmp_path_factory.mktemp('package') / 'toy', with_reward=True)


@pytest.fixture
def evaluator(model: WorldModel) -> Evaluator:
    return Evaluator(model, Limits(candidates=32, steps=16))


def code_of(work: Callable[[], object]) -> QueryCode:
    with pytest.raises(QueryError) as caught:
        work()
    assert caught.value.message
    return caught.value.code


def test_costs_are_the_weighted_sum_of_the_terms(evaluator: Evaluator, model: WorldModel) -> None:
    terms = (goal(weight=2.0), Smoothness(weight=0.5), goal(seed=12, weight=-1.0), Reward())
    answer = drain(evaluator.start(ask(live(model), k=9, draws=3, objectives=terms)))
    assert list(answer.terms) == ['goal_image', 'smoothness', 'goal_image_2', 'reward']
    expected = sum(
        term.weight * costs_K for term, costs_K in zip(terms, answer.terms.values(), strict=True)
    )
    np.testing.assert_allclose(answer.costs_K, expected, rtol=1e-5)
    assert answer.best == int(np.argmin(answer.costs_K))
    assert (answer.horizon, answer.partial, answer.calibrated) == (4, False, False)
    assert answer.costs_K.dtype == answer.uncertainty_K.dtype == np.float32


def test_terms_see_what_imagine_would_give(evaluator: Evaluator, model: WorldModel) -> None:
    query = ask(live(model), k=3, t=2, objectives=(goal(), Reward()))
    answer = drain(evaluator.start(query))
    rng = np.random.default_rng(query.seed)
    noise = np.concatenate([model.noise(rng, 1) for _ in range(3)], 1)
    for k in range(3):
        actions = np.vstack([query.start.latched_A, query.actions_KTA[k]])[None]
        rollout = model.imagine(query.start.memory, actions, noise, decode=False)
        latents = rollout.latents_BTCHW[0, 1:]
        gap = latents[-1] - goal().latents_GCHW[0]
        coarse = gap.reshape(8, 4, 2, 4, 2).mean((2, 4))
        distance = float(np.square(gap).mean() + np.square(coarse).mean())
        assert answer.terms['goal_image'][k] == pytest.approx(distance, rel=1e-5)
        assert answer.terms['reward'][k] == pytest.approx(-float(latents.mean()), rel=1e-3)


def test_one_draw_has_no_uncertainty_and_more_have_the_spread(
    evaluator: Evaluator, model: WorldModel
) -> None:
    assert np.isnan(drain(evaluator.start(ask(live(model)))).uncertainty_K).all()
    running = evaluator.start(ask(live(model), draws=4))
    while not running.answered:
        running.unit()
    latents = evaluator._rollouts.latents_KMTCHW[:, :, -1]
    np.testing.assert_array_equal(running.result().uncertainty_K, spread(latents))
    assert (running.result().uncertainty_K > 0).all()


def test_a_calibrated_package_tells_the_error_to_expect(tmp_path: Path) -> None:
    calibration = Calibration(2, (1, 5), (0.1, 0.5), (1.0, 3.0))
    model = toy_model(tmp_path / 'toy', planning=Planning(8, calibration))
    evaluator = Evaluator(model, Limits(8, 8))
    plain = toy_model(tmp_path / 'plain')
    spread_K = drain(Evaluator(plain, Limits(8, 8)).start(ask(live(plain), t=2, draws=2)))
    answer = drain(evaluator.start(ask(live(model), t=2, draws=2)))
    assert answer.calibrated
    # The latched transition counts: 2 actions end 3 frames ahead, half way between the knots.
    np.testing.assert_allclose(answer.uncertainty_K, 0.3 + 2.0 * spread_K.uncertainty_K, rtol=1e-5)
    # Fitted with 2 draws, and in the mean right for 3; one draw has no spread to begin with.
    more = drain(evaluator.start(ask(live(model), t=2, draws=3)))
    spread_K = drain(Evaluator(plain, Limits(8, 8)).start(ask(live(plain), t=2, draws=3)))
    assert more.calibrated
    np.testing.assert_allclose(more.uncertainty_K, 0.3 + 2.0 * spread_K.uncertainty_K, rtol=1e-5)
    one = drain(evaluator.start(ask(live(model), t=2)))
    assert not one.calibrated and np.isnan(one.uncertainty_K).all()


def test_a_sum_that_is_too_large_is_refused_and_not_given(
    evaluator: Evaluator, model: WorldModel
) -> None:
    """Every weight and every term is finite, what they add up to is not."""
    heavy = (goal(weight=3e38), goal(seed=12, weight=3e38))
    assert code_of(lambda: drain(evaluator.start(ask(live(model), objectives=heavy)))) is (
        QueryCode.INVALID_OBJECTIVE
    )
    against = (goal(weight=3e38), goal(seed=12, weight=-3e38))
    assert code_of(lambda: drain(evaluator.start(ask(live(model), objectives=against)))) is (
        QueryCode.INVALID_OBJECTIVE
    )
    assert drain(evaluator.start(ask(live(model)))).best >= 0, 'the evaluator goes on'


def test_costs_are_bit_equal_alone_and_among_other_work(model: WorldModel) -> None:
    """The stream, a dream and an evaluator of another node use the model between units."""
    start = live(model)
    queries = [ask(start, k=11, t=5, draws=2, seed=1), ask(start, k=4, t=7, seed=2)]
    alone = [drain(Evaluator(model, Limits(16, 8)).start(query)) for query in queries]
    before = content(start.memory)
    both = [Evaluator(model, Limits(16, 8)).start(query) for query in queries]
    dream = Dream(model, start, candidates(1, 40)[0], frames=True)
    memory, turn = seen(model), 0
    under_way = list(both)
    while under_way:
        under_way = [running for running in under_way if running.unit()]
        turn += 1
        dream.unit()
        latent = np.full((1, 8, 8, 8), 0.01 * turn, np.float32)
        memory = model.observe_latent(memory, latent, np.zeros((1, A), np.float32))
    assert turn > 10
    for running, expected in zip(both, alone, strict=True):
        found = running.result()
        assert found.costs_K.tobytes() == expected.costs_K.tobytes()
        assert found.uncertainty_K.tobytes() == expected.uncertainty_K.tobytes()
    assert content(start.memory) == before


def test_stopping_early_gives_the_costs_of_the_steps_that_are_complete(
    evaluator: Evaluator, model: WorldModel
) -> None:
    whole = ask(live(model), k=10, t=6, draws=2, objectives=(goal(), Smoothness()))
    running = evaluator.start(whole)
    for _ in range(1 + 3 * 3 + 2):  # shared frame, 3 steps, two thirds of the fourth
        running.unit()
    assert running.steps_done == 3
    answer = running.result(partial=True)
    assert (answer.partial, answer.horizon) == (True, 3)
    short = ask(
        whole.start, actions_KTA=whole.actions_KTA[:, :3], draws=2, objectives=whole.objectives
    )
    shorter = drain(evaluator.start(short))
    assert answer.costs_K.tobytes() == shorter.costs_K.tobytes()
    assert answer.uncertainty_K.tobytes() == shorter.uncertainty_K.tobytes()
    assert not running.unit()


def test_stopping_before_the_first_step_refuses_with_the_time_needed(
    evaluator: Evaluator, model: WorldModel
) -> None:
    evaluator.warm_up()
    running = evaluator.start(ask(live(model), k=10, draws=2))
    running.unit()
    running.unit()
    with pytest.raises(QueryError) as caught:
        running.result(partial=True)
    assert caught.value.code is QueryCode.DEADLINE
    assert caught.value.needed_ms > 0
    assert running.units_left == 0


def test_an_answer_is_there_only_when_it_is(evaluator: Evaluator, model: WorldModel) -> None:
    running = evaluator.start(ask(live(model)))
    with pytest.raises(RuntimeError, match='not answered'):
        running.result()
    while not running.answered:
        assert running.unit()
    assert running.result().horizon == 4


@pytest.mark.parametrize(
    ('frames', 'every', 'draws'),
    [
        (FramesWanted.NONE, 1, 1),
        (FramesWanted.LAST, 1, 2),
        (FramesWanted.EVERY, 2, 1),
        (FramesWanted.EVERY, 1, 2),
        (FramesWanted.BEST, 3, 2),
    ],
)
def test_units_are_counted_rightly(
    evaluator: Evaluator, model: WorldModel, frames: FramesWanted, every: int, draws: int
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    image = image.repeat(8, 0).repeat(8, 1)
    terms = (GoalPictures(np.stack([image, image])), Smoothness())
    query = ask(live(model), 9, 5, frames=frames, every=every, draws=draws, objectives=terms)
    running = evaluator.start(query)
    left = []
    while running.units_left:
        left.append(running.units_left)
        assert running.unit()
    assert left == list(range(len(left), 0, -1))
    assert not running.unit()


def test_frames_come_as_they_are_made_and_are_those_of_draw_0(
    evaluator: Evaluator, model: WorldModel
) -> None:
    query = ask(live(model), k=10, t=4, draws=2, frames=FramesWanted.EVERY, every=2)
    running = evaluator.start(query)
    arrived, latents = [], None
    while running.unit():
        arrived += [(running.answered, frame) for frame in running.frames()]
        if not running.answered:
            latents = evaluator._rollouts.latents_KMTCHW.copy()
    assert [(f.step, f.candidate) for _, f in arrived] == [
        (t, k) for t in (1, 3) for k in range(10)
    ]
    assert {f.step: f.ahead for _, f in arrived} == {1: 3, 3: 5}  # the latched frame lies before
    assert not any(answered for answered, _ in arrived)
    image = arrived[13][1]
    cells = latents[image.candidate, 0, image.step][None, :3]
    np.testing.assert_array_equal(image.image_HWC, to_image(cells.repeat(8, 2).repeat(8, 3))[0])


def test_the_last_frame_and_those_of_the_best_come_after_the_answer(
    evaluator: Evaluator, model: WorldModel
) -> None:
    for frames in (FramesWanted.LAST, FramesWanted.BEST):
        running = evaluator.start(ask(live(model), k=9, t=5, frames=frames, every=2))
        while not running.answered:
            running.unit()
        assert list(running.frames()) == []
        while running.unit():
            pass
        found = [(f.candidate, f.step) for f in running.frames()]
        best = running.result().best
        expected = {
            FramesWanted.LAST: [(k, 4) for k in range(9)],
            FramesWanted.BEST: [(best, 0), (best, 2), (best, 4)],
        }
        assert found == expected[frames]


def test_nothing_is_decoded_unless_frames_are_asked_for(model: WorldModel) -> None:
    decoded = []

    class Watched:
        name, precision, reason = 'watched', 'fp32', ''

        def run(self, graph: str, inputs: GraphInputs) -> GraphOutputs:
            decoded.append(graph)
            return model.backend.run(graph, inputs)

        def bind(self, graph: str, batch: int, inputs: GraphInputs) -> Bound:
            bound = model.backend.bind(graph, batch, inputs)
            return lambda: decoded.append((graph, batch)) or bound()

    evaluator = Evaluator(WorldModel(model.package, Watched()), Limits(32, 8))
    drain(evaluator.start(ask(live(model), k=17)))
    assert set(decoded) == {('predict', 8), ('write', 8)}  # 8: of the manifest, whatever K is
    decoded.clear()
    drain(evaluator.start(ask(live(model), k=17, frames=FramesWanted.LAST)))
    assert decoded.count(('decode', 8)) == 3


def test_a_new_query_takes_the_place_of_one_that_is_not_done(
    evaluator: Evaluator, model: WorldModel
) -> None:
    expected = drain(evaluator.start(ask(live(model), seed=4)))
    left = evaluator.start(ask(live(model)))
    left.unit()
    running = evaluator.start(ask(live(model), seed=4))
    assert not left.unit()
    left.close()  # as its owner may, later
    assert drain(running).costs_K.tobytes() == expected.costs_K.tobytes()


def test_giving_up_lets_go_of_the_memory(evaluator: Evaluator, model: WorldModel) -> None:
    for units in (0, 1, 3):
        start = live(model)
        held = weakref.ref(start)
        running = evaluator.start(ask(start, frames=FramesWanted.LAST))
        for _ in range(units):
            running.unit()
        running.close()
        assert not running.unit()
        del running, start
        evaluator._running = None
        gc.collect()
        assert held() is None


def test_the_time_needed_grows_with_the_work(model: WorldModel) -> None:
    ticks = iter(range(0, 10**9, 3_000_000))
    evaluator = Evaluator(model, Limits(32, 16), clock_ns=lambda: next(ticks))
    assert evaluator.estimate_ms(8, 4) == 0.0  # nothing was measured yet
    evaluator.warm_up()
    small, large = evaluator.estimate_ms(8, 4, 1), evaluator.estimate_ms(32, 8, 2)
    assert 0 < small < large / 5
    assert evaluator.estimate_ms(8, 4, 1, busy_share=0.75) == pytest.approx(4 * small)
    assert evaluator.estimate_ms(8, 4, 1, frames=8, pictures=2) > small


def test_unit_times_are_taken_with_the_clock_that_is_given(model: WorldModel) -> None:
    ticks = iter(range(0, 10**9, 3_000_000))  # every look at it is 3 ms later
    evaluator = Evaluator(model, Limits(32, 8), clock_ns=lambda: next(ticks))
    evaluator.warm_up()
    assert {evaluator.pace.unit_ms(k) for k in ('prepare', 'rollout', 'cost', 'decode')} == {3.0}
    running = evaluator.start(ask(live(model), k=9, t=4))
    assert running.needed_ms() == 3.0 * (1 + 4 * 2 + 1 + 1)
    assert running.closing_ms() == 3.0 * (1 + 1)
    assert evaluator.estimate_ms(9, 4) == running.needed_ms()


@pytest.mark.parametrize(
    ('options', 'code'),
    [
        ({'actions_KTA': np.zeros((2, 3, A + 1), np.float32)}, QueryCode.WRONG_DIMS),
        ({'actions_KTA': np.zeros((2, 3, A))}, QueryCode.WRONG_DIMS),
        ({'actions_KTA': np.zeros((0, 3, A), np.float32)}, QueryCode.WRONG_DIMS),
        ({'actions_KTA': np.zeros((33, 3, A), np.float32)}, QueryCode.TOO_MANY_CANDIDATES),
        ({'actions_KTA': np.zeros((2, 17, A), np.float32)}, QueryCode.TOO_MANY_STEPS),
        ({'actions_KTA': np.full((2, 3, A), np.nan, np.float32)}, QueryCode.NOT_FINITE),
        ({'actions_KTA': np.full((2, 3, A), 1.1, np.float32)}, QueryCode.OUT_OF_LIMITS),
        ({'draws': 9}, QueryCode.TOO_MANY_ROWS),
        ({'k': 32, 'draws': 3}, QueryCode.TOO_MANY_ROWS),
        ({'draws': 0}, QueryCode.INVALID_REQUEST),
        ({'seed': -1}, QueryCode.INVALID_REQUEST),
        ({'every': 0}, QueryCode.INVALID_REQUEST),
        ({'objectives': ()}, QueryCode.NO_OBJECTIVE),
        ({'objectives': (goal(),) * 17}, QueryCode.INVALID_OBJECTIVE),
        ({'objectives': (goal(weight=np.nan),)}, QueryCode.INVALID_OBJECTIVE),
        ({'objectives': (goal(weight=1e39),)}, QueryCode.INVALID_OBJECTIVE),  # no float32
    ],
)
def test_what_cannot_be_answered_is_refused_before_any_work(
    evaluator: Evaluator, model: WorldModel, options: dict[str, object], code: QueryCode
) -> None:
    assert code_of(lambda: evaluator.start(ask(live(model), **options))) is code


def test_a_start_of_another_model_is_refused(evaluator: Evaluator, model: WorldModel) -> None:
    start = live(model)
    for wrong in (
        Start(model.reset(2), None),
        Start(start.memory, np.zeros(A + 1, np.float32)),
    ):
        assert code_of(lambda: evaluator.start(ask(wrong))) is QueryCode.INVALID_REQUEST  # noqa: B023


def test_a_package_without_a_reward_head_says_so(tmp_path: Path) -> None:
    model = toy_model(tmp_path / 'toy')
    evaluator = Evaluator(model, Limits(8, 8))
    query = ask(live(model), objectives=(Reward(),))
    assert code_of(lambda: evaluator.start(query)) is QueryCode.NO_REWARD_HEAD


def test_a_memory_that_is_no_number_is_told_as_such(
    evaluator: Evaluator, model: WorldModel
) -> None:
    start = live(model)
    arrays = {name: array * np.float32('nan') for name, array in start.memory.arrays.items()}
    running = evaluator.start(ask(Start(type(start.memory)(arrays), None)))
    assert code_of(running.unit) is QueryCode.MODEL_NOT_FINITE
    assert not running.unit()
    assert drain(evaluator.start(ask(start))).horizon == 4


def test_10000_queries_leave_the_memory_flat(model: WorldModel) -> None:
    """Abuse: answered, stopped early, given up and refused, one after the other."""
    evaluator = Evaluator(model, Limits(8, 8))
    start = live(model)
    actions_KTA = candidates(2, 1)
    terms = (goal(),)
    process = psutil.Process()

    def abuse(times: int) -> None:
        for index in range(times):
            query = Query(start, actions_KTA, terms, draws=2, seed=index)
            if index % 4 == 3:
                with pytest.raises(QueryError):
                    evaluator.start(Query(start, actions_KTA, ()))
                continue
            running = evaluator.start(query)
            if index % 4 == 0:
                while running.unit():
                    pass
            if index % 4 == 1:
                running.unit()
                running.unit()
                running.result(partial=True)
            if index % 4 == 2:
                running.unit()
                running.close()

    abuse(2000)
    gc.collect()
    objects, before = len(gc.get_objects()), process.memory_info().rss
    abuse(8000)
    gc.collect()
    assert len(gc.get_objects()) <= objects + 100
    assert process.memory_info().rss - before < 8 * resource.getpagesize() * 64  # 2 MiB
