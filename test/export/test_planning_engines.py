"""Planner queries on real engines: bound graphs, and the shipped packages against `imagine`."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from wm_ros.backends import resolve_backend
from wm_ros.datatypes import FloatArray
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.planning.dream import Dream
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.objectives import GoalImage, Smoothness
from wm_ros.planning.query import FramesWanted, Limits, Query, Start
from wm_ros.planning.rollouts import Rollouts
from wm_ros.world_model import WorldModel

ENGINES = ('onnxruntime', 'openvino')
LIMITS = Limits(candidates=16, steps=8)


def load(kind: str, name: str = 'tabletop_small', precision: str = 'auto') -> WorldModel:
    package = ModelPackage.load(find_package(name))
    return WorldModel(package, resolve_backend(kind, package, precision=precision))


@pytest.fixture(scope='module', params=ENGINES)
def model(request: pytest.FixtureRequest) -> WorldModel:
    return load(request.param)


def live(model: WorldModel, frames: int = 6) -> Start:
    rng = np.random.default_rng(0)
    y_HW, x_HW = np.mgrid[:64, :64] / 64
    memory, width = model.reset(), model.package.model.action_width
    for t in range(frames):
        wave = np.sin(2 * np.pi * (x_HW + 0.5 * y_HW + 0.03 * t))
        image = np.stack([wave, -wave, wave * y_HW], -1)
        latent = model.encode(np.rint(127.5 + 90 * image).astype(np.uint8)[None])
        memory = model.observe_latent(
            memory, latent, rng.uniform(-1, 1, (1, width)).astype(np.float32)
        )
    return Start(memory, rng.uniform(-1, 1, width).astype(np.float32))


def candidates(k: int, t: int, width: int) -> FloatArray:
    return np.random.default_rng(1).uniform(-1, 1, (k, t, width)).astype(np.float32)


def rolled(model: WorldModel, start: Start, actions_KTA: FloatArray, draws: int) -> FloatArray:
    rollouts = Rollouts(model, 8, LIMITS.rows, LIMITS.latents)
    rollouts.begin(start, actions_KTA, draws, 0)
    while rollouts.unit():
        pass
    return rollouts.latents_KMTCHW.copy()


def imagined(model: WorldModel, start: Start, actions_KTA: FloatArray, draws: int) -> FloatArray:
    k, t, width = actions_KTA.shape
    rng = np.random.default_rng(0)
    noise_TMDCHW = np.stack([model.noise(rng, draws)[:, 0] for _ in range(t + 1)])
    latched = np.broadcast_to(start.latched_A, (k, 1, width))
    taken = np.concatenate([latched, actions_KTA], 1)
    latents_MK = [
        model.imagine(
            start.memory,
            np.ascontiguousarray(taken),
            np.ascontiguousarray(np.repeat(noise_TMDCHW[None, :, m], k, 0)),
            decode=False,
        ).latents_BTCHW[:, 1:]
        for m in range(draws)
    ]
    return np.stack(latents_MK, 1)


@pytest.mark.parametrize('kind', ENGINES)
def test_a_bound_graph_gives_what_run_gives_and_holds_its_arrays(kind: str) -> None:
    """Also when nobody else keeps the arrays: an engine reads them through a bare pointer."""
    model = load(kind, precision='fp32')
    rng = np.random.default_rng(0)
    for graph, signature in model.package.signatures.items():
        inputs = {s.name: rng.random((3, *s.shape), np.float32) for s in signature.inputs}
        expected = model.backend.run(graph, inputs)
        run = model.backend.bind(graph, 3, {name: array.copy() for name, array in inputs.items()})
        gc.collect()
        junk = [np.full(array.shape, np.nan, np.float32) for array in inputs.values()]
        for _ in range(2):
            found = run()
            assert found.keys() == expected.keys()
            for name, array in found.items():
                np.testing.assert_allclose(array, expected[name], atol=1e-4)
        del junk
        again = model.backend.bind(graph, 3, inputs)  # a second one does not disturb the first
        next(iter(inputs.values()))[:] += 1
        again()
        for name, array in run().items():
            np.testing.assert_allclose(array, expected[name], atol=1e-4)


@pytest.mark.parametrize('kind', ENGINES)
@pytest.mark.parametrize('name', ['tabletop_small', 'tabletop_small_window'])
def test_futures_are_those_of_imagine_in_fp32(kind: str, name: str) -> None:
    model = load(kind, name, 'fp32')
    start = live(model)
    actions_KTA = candidates(5, 4, 11)
    found = rolled(model, start, actions_KTA, 2)
    np.testing.assert_allclose(found, imagined(model, start, actions_KTA, 2), atol=2e-3)


def test_futures_are_those_of_imagine_in_the_engines_own_precision(model: WorldModel) -> None:
    start = live(model)
    actions_KTA = candidates(4, 4, 11)
    difference = rolled(model, start, actions_KTA, 1) - imagined(model, start, actions_KTA, 1)
    tolerance = model.package.manifest.parity.tolerance[model.backend.precision]
    assert np.abs(difference).max() <= tolerance
    assert np.sqrt(np.square(difference).mean()) <= 0.2 * tolerance


def test_costs_are_bit_equal_alone_and_among_other_work(model: WorldModel) -> None:
    start = live(model)
    before = {name: array.tobytes() for name, array in start.memory.arrays.items()}
    term = GoalImage(np.zeros((1, 8, 8, 8), np.float32), over='mean')
    terms = (term, Smoothness())
    queries = [
        Query(start, candidates(11, 3, 11), terms, draws=2, seed=1),
        Query(start, candidates(5, 4, 11), terms, seed=2, frames=FramesWanted.LAST),
    ]
    evaluators = [Evaluator(model, LIMITS) for _ in queries]
    alone = []
    for evaluator, query in zip(evaluators, queries, strict=True):
        running = evaluator.start(query)
        while running.unit():
            pass
        alone.append(running.result())
    both = [evaluator.start(query) for evaluator, query in zip(evaluators, queries, strict=True)]
    dream = Dream(model, start, candidates(1, 30, 11)[0], frames=True)
    under_way = list(both)
    while under_way:
        under_way = [running for running in under_way if running.unit()]
        dream.unit()
        model.encode(np.full((1, 64, 64, 3), 90, np.uint8))
    for running, expected in zip(both, alone, strict=True):
        found = running.result()
        assert found.costs_K.tobytes() == expected.costs_K.tobytes()
        assert found.uncertainty_K.tobytes() == expected.uncertainty_K.tobytes()
    assert {name: a.tobytes() for name, a in start.memory.arrays.items()} == before


def test_a_warmed_up_evaluator_knows_its_times(model: WorldModel) -> None:
    evaluator = Evaluator(model, LIMITS)
    evaluator.warm_up()
    for kind in ('prepare', 'rollout', 'cost', 'decode'):
        assert 0 < evaluator.pace.unit_ms(kind) < 1000
    assert evaluator.estimate_ms(16, 8) > evaluator.estimate_ms(16, 2) > 0
