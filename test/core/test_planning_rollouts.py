"""Forks side by side: the same futures as `WorldModel.imagine`, in sub-batches of one size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from planning_world import candidates, content, live, seen, toy_model

from wm_ros.backends.base import Bound, GraphInputs
from wm_ros.config import ARMS, ModelConfig
from wm_ros.datatypes import FloatArray
from wm_ros.memory import NonFiniteError
from wm_ros.planning.query import Start
from wm_ros.planning.rollouts import Rollouts
from wm_ros.world_model import WorldModel


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return toy_model(tmp_path_factory.mktemp('package') / 'toy')


def rolled(
    model: WorldModel,
    start: Start,
    actions_KTA: FloatArray,
    draws: int = 1,
    seed: int = 0,
    batch: int = 8,
) -> FloatArray:
    rollouts = Rollouts(model, batch, rows=64, latents=1024)
    rollouts.begin(start, actions_KTA, draws, seed)
    while rollouts.unit():
        pass
    return rollouts.latents_KMTCHW.copy()


def imagined(
    model: WorldModel, start: Start, actions_KTA: FloatArray, draws: int, seed: int
) -> FloatArray:
    """The naive twin: every draw of every candidate on its own, by the main path."""
    k, t, _ = actions_KTA.shape
    latched = start.latched_A is not None
    rng = np.random.default_rng(seed)
    noise_TMDCHW = np.stack([model.noise(rng, draws)[:, 0] for _ in range(t + latched)])
    latents = []
    for candidate_TA in actions_KTA:
        taken_TA = np.vstack([start.latched_A, candidate_TA]) if latched else candidate_TA
        for m in range(draws):
            rollout = model.imagine(
                start.memory, taken_TA[None], noise_TMDCHW[None, :, m], decode=False
            )
            latents.append(rollout.latents_BTCHW[0, latched:])
    return np.stack(latents).reshape(k, draws, t, *model.package.model.latent_shape)


@pytest.mark.parametrize('latched', [True, False])
@pytest.mark.parametrize(('k', 't', 'draws'), [(1, 1, 1), (5, 4, 1), (3, 5, 3), (8, 2, 2)])
def test_the_futures_are_bit_equal_to_those_of_imagine(
    model: WorldModel, latched: bool, k: int, t: int, draws: int
) -> None:
    start = live(model) if latched else Start(seen(model), None)
    actions_KTA = candidates(k, t)
    found = rolled(model, start, actions_KTA, draws, seed=5)
    np.testing.assert_array_equal(found, imagined(model, start, actions_KTA, draws, seed=5))


@pytest.mark.parametrize('arm', ARMS)
def test_every_kind_of_memory_is_rolled_out(tmp_path: Path, arm: str) -> None:
    model = toy_model(tmp_path / arm, model=ModelConfig(arm=arm))
    start, actions_KTA = live(model), candidates(3, 4)
    found = rolled(model, start, actions_KTA, 2)
    np.testing.assert_array_equal(found, imagined(model, start, actions_KTA, 2, seed=0))


def test_the_live_memory_is_read_and_never_written(model: WorldModel) -> None:
    start = live(model)
    before = content(start.memory)
    rolled(model, start, candidates(6, 3), 2)
    assert content(start.memory) == before


@pytest.mark.parametrize('batch', [1, 3, 8, 32])
def test_filling_up_a_sub_batch_changes_nothing(model: WorldModel, batch: int) -> None:
    """5 candidates x 3 draws: 15 rows, no multiple of 8."""
    start, actions_KTA = live(model), candidates(5, 3)
    found = rolled(model, start, actions_KTA, 3, batch=batch)
    np.testing.assert_array_equal(found, rolled(model, start, actions_KTA, 3, batch=15))


def test_candidates_that_do_the_same_get_the_same_future(model: WorldModel) -> None:
    """Common random numbers: noise belongs to the draw and the step, not to the candidate."""
    actions_KTA = np.repeat(candidates(1, 4), 11, 0)
    found = rolled(model, live(model), actions_KTA, 2)
    for k in range(1, 11):
        np.testing.assert_array_equal(found[k], found[0])
    assert not np.array_equal(found[0, 0], found[0, 1])


def test_a_seed_decides_the_noise_and_a_longer_horizon_does_not(model: WorldModel) -> None:
    start, actions_KTA = live(model), candidates(3, 6)
    found = rolled(model, start, actions_KTA, 2, seed=1)
    np.testing.assert_array_equal(found, rolled(model, start, actions_KTA, 2, seed=1))
    np.testing.assert_array_equal(
        found[:, :, :4], rolled(model, start, actions_KTA[:, :4], 2, seed=1)
    )
    assert not np.array_equal(found, rolled(model, start, actions_KTA, 2, seed=2))


def test_the_latched_command_acts_first_and_for_all(model: WorldModel) -> None:
    start, actions_KTA = live(model), candidates(2, 2)
    other = Start(start.memory, -start.latched_A)
    assert not np.array_equal(rolled(model, start, actions_KTA), rolled(model, other, actions_KTA))
    # Without one, candidate action 0 takes its place: one transition less lies before it.
    first = rolled(model, Start(start.memory, None), start.latched_A[None, None])
    rollouts = Rollouts(model, 8, 8, 8)
    rollouts.begin(start, actions_KTA, 1, 0)
    assert (rollouts.unit(), rollouts.steps_done) == (True, 0)
    np.testing.assert_array_equal(rollouts._shared['latents'][0, 0], first[0, 0, 0])


def test_work_is_breadth_first_and_counted(model: WorldModel) -> None:
    rollouts = Rollouts(model, 8, rows=64, latents=1024)
    rollouts.begin(live(model), candidates(10, 3), 2, 0)  # 20 rows: 3 sub-batches
    left, done = [], []
    while rollouts.units_left:
        left.append(rollouts.units_left)
        assert rollouts.unit()
        done.append(rollouts.steps_done)
    assert left == list(range(10, 0, -1))  # 1 for the shared frame, 3 steps of 3
    assert done == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert not rollouts.unit()


def test_what_was_not_allocated_is_refused(model: WorldModel) -> None:
    rollouts = Rollouts(model, 8, rows=8, latents=32)
    start = live(model)
    for actions_KTA, draws in ((candidates(5, 1), 2), (candidates(8, 5), 1)):
        with pytest.raises(ValueError, match='allocated for 8 rows and 32 latents'):
            rollouts.begin(start, actions_KTA, draws, 0)
    with pytest.raises(ValueError, match='no reward head'):
        rollouts.begin(start, candidates(1, 1), 1, 0, rewards=True)
    assert not rollouts.unit()


def test_a_model_that_gives_no_numbers_is_noticed(tmp_path: Path) -> None:
    model = toy_model(tmp_path / 'toy')

    class Broken:
        name, precision, reason = 'broken', 'fp32', ''

        def bind(self, graph: str, batch: int, inputs: GraphInputs) -> Bound:
            bound = model.backend.bind(graph, batch, inputs)

            def run() -> Mapping[str, FloatArray]:
                return {name: array * np.float32('nan') for name, array in bound().items()}

            return run if graph == 'predict' else bound

    rollouts = Rollouts(WorldModel(model.package, Broken()), 8, 8, 8)
    rollouts.begin(live(model), candidates(1, 1), 1, 0)
    with pytest.raises(NonFiniteError, match='imagined latent'):
        rollouts.unit()


def test_arrays_that_do_not_fit_cannot_be_bound(model: WorldModel) -> None:
    good = np.zeros((4, 8, 8, 8), np.float32)
    for wrong in (
        {'latent': good[:3]},
        {'latent': good.astype(np.float64)},
        {'image': good},
        {'latent': good[:, ::-1]},
    ):
        with pytest.raises(ValueError, match='bind decode'):
            model.backend.bind('decode', 4, wrong)
    run = model.backend.bind('decode', 4, {'latent': good})
    good[:] = 0.25
    assert float(run()['image'].mean()) == pytest.approx(0.25)
