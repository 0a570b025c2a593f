"""Solvers on a quadratic, and spaces whose candidates a robot could follow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planning_world import CONTRACT, A

from wm_ros.datatypes import FloatArray
from wm_ros.planning.solvers import Cem, Mppi, RandomShooting, Solver
from wm_ros.planning.spaces import Knots

Make = Callable[[int], Solver]
MAKERS: dict[str, Make] = {
    'random': lambda dims: RandomShooting(dims, 48),
    'cem': lambda dims: Cem(dims, 48, 6),
    'mppi': lambda dims: Mppi(dims, 48),
}


def searched(make: Make, seed: int, dims: int = 6, rounds: int = 5) -> float:
    """Cost of the best vector on a quadratic with axes of different steepness."""
    rng = np.random.default_rng(seed)
    goal_P, steep_P = rng.uniform(-0.8, 0.8, dims), rng.uniform(0.3, 3, dims)
    solver = make(dims)
    for _ in range(rounds):
        params_KP = solver.ask(rng)
        assert np.abs(params_KP).max() <= 1
        solver.tell((steep_P * np.square(params_KP - goal_P)).sum(1))
    return solver.best().cost


@pytest.mark.parametrize('name', ['cem', 'mppi'])
def test_a_solver_beats_random_shooting_at_equal_samples(name: str) -> None:
    random = np.array([searched(MAKERS['random'], seed) for seed in range(10)])
    found = np.array([searched(MAKERS[name], seed) for seed in range(10)])
    assert (found < random).all()
    assert np.median(found) < 0.15 * np.median(random)


@pytest.mark.parametrize('name', MAKERS)
def test_a_seed_decides_the_search(name: str) -> None:
    assert searched(MAKERS[name], 3) == searched(MAKERS[name], 3)


@pytest.mark.parametrize('name', MAKERS)
def test_a_warm_start_is_asked_first_and_never_lost(name: str) -> None:
    solver = MAKERS[name](4)
    warm_P = np.array([0.3, -0.2, 0.9, -1.0], np.float32)
    solver.restart(warm_P)
    params_KP = solver.ask(np.random.default_rng(0))
    np.testing.assert_allclose(params_KP[0], warm_P, atol=1e-6)
    solver.tell(np.square(params_KP - warm_P).sum(1))
    assert solver.best().cost == pytest.approx(0, abs=1e-6)
    solver.restart()
    np.testing.assert_array_equal(solver.ask(np.random.default_rng(0))[0], np.zeros(4))
    with pytest.raises(ValueError, match='no costs were told'):
        solver.best()


@pytest.mark.parametrize('name', ['cem', 'mppi'])
def test_the_size_of_costs_does_not_matter(name: str) -> None:
    """Distances in a latent are tiny or large as the model pleases."""
    means = []
    for scale in (1e-4, 1.0, 1e4):
        solver, rng = MAKERS[name](3), np.random.default_rng(5)
        for _ in range(3):
            params_KP = solver.ask(rng)
            solver.tell(scale * np.square(params_KP - 0.5).sum(1))
        means.append(solver.mean_P)
    np.testing.assert_allclose(means[0], means[1], atol=1e-4)
    np.testing.assert_allclose(means[2], means[1], atol=1e-4)


@pytest.mark.parametrize('name', MAKERS)
def test_costs_that_are_none_are_refused(name: str) -> None:
    solver = MAKERS[name](3)
    params_KP = solver.ask(np.random.default_rng(0))
    for costs in (np.zeros(3), np.full(len(params_KP), np.nan)):
        with pytest.raises(ValueError, match='finite numbers'):
            solver.tell(costs)
    solver.tell(np.zeros(len(params_KP)))  # all alike: nothing is learnt, nothing breaks
    assert np.isfinite(solver.ask(np.random.default_rng(1))).all()


def test_settings_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: RandomShooting(0, 8),
        lambda: Cem(3, 8, elite=9),
        lambda: Cem(3, 8, elite=4, std=0.0),
        lambda: Mppi(3, 8, temperature=0),
    ):
        with pytest.raises(ValueError):
            make()


STEP_A = np.full(A, 0.02)


def knots(frames: int = 16, count: int = 4, entries: tuple[int, ...] = (0, 1, 2)) -> Knots:
    return Knots(frames, count, entries, CONTRACT.limits_A2, STEP_A)


def rest() -> FloatArray:
    return CONTRACT.limits_A2.mean(1).astype(np.float32)


def test_nothing_moves_with_parameters_of_zero() -> None:
    space = knots()
    actions_KTA = space.decode(np.zeros((2, space.dims), np.float32), rest())
    assert actions_KTA.shape == (2, 16, A) and actions_KTA.dtype == np.float32
    np.testing.assert_allclose(actions_KTA, np.broadcast_to(rest(), (2, 16, A)), atol=1e-6)


@pytest.mark.parametrize(('frames', 'count'), [(16, 4), (10, 3), (5, 5), (7, 1)])
def test_every_candidate_keeps_limits_and_steps(frames: int, count: int) -> None:
    space = knots(frames, count)
    params_KP = np.random.default_rng(0).uniform(-1, 1, (200, space.dims)).astype(np.float32)
    command_A = rest()
    actions_KTA = space.decode(params_KP, command_A)
    low, high = CONTRACT.limits_A2.T
    assert (actions_KTA >= low - 1e-6).all() and (actions_KTA <= high + 1e-6).all()
    whole = np.concatenate([np.tile(command_A, (200, 1, 1)), actions_KTA], 1)
    steps = np.abs(np.diff(whole, axis=1))
    assert steps.max() <= 0.02 + 1e-6
    assert (steps[..., 3:] == 0).all()  # what is not moved is held


def test_full_speed_goes_as_far_as_steps_and_limits_allow() -> None:
    space = knots(8, 2)
    ahead = space.decode(np.ones((1, space.dims), np.float32), rest())[0]
    np.testing.assert_allclose(ahead[:, 0], rest()[0] + 0.02 * np.arange(1, 9), atol=1e-6)
    long = knots(64, 8).decode(np.ones((1, 24), np.float32), rest())[0]
    np.testing.assert_allclose(long[-1, :3], CONTRACT.limits_A2[:3, 1], atol=1e-6)
    # It turns back at once: nothing was wound up beyond the limit.
    back = np.ones((8, 3), np.float32)
    back[6:] = -1
    turned = knots(64, 8).decode(back.reshape(1, -1), rest())[0]
    np.testing.assert_allclose(turned[-1, 0], 0.22 - 0.02 * 16, atol=1e-5)


def test_a_shifted_plan_goes_on_where_the_old_one_was() -> None:
    space = knots(16, 4)
    params_P = np.random.default_rng(1).uniform(-0.4, 0.4, space.dims).astype(np.float32)
    plan_TA = space.decode(params_P[None], rest())[0]
    later_P = space.shift(params_P, 4)  # one knot's time
    later_TA = space.decode(later_P[None], plan_TA[3])[0]
    np.testing.assert_allclose(later_TA[:12], plan_TA[4:], atol=1e-6)
    np.testing.assert_allclose(later_TA[12:, :3], np.tile(plan_TA[-1, :3], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(space.shift(params_P, 0), params_P, atol=1e-6)
    np.testing.assert_array_equal(space.shift(params_P, 99), np.zeros(space.dims))


def test_spaces_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: knots(4, 5),
        lambda: knots(4, 0),
        lambda: knots(entries=(A,)),
        lambda: knots(entries=()),
        lambda: Knots(4, 2, (0,), CONTRACT.limits_A2, np.zeros(A)),
    ):
        with pytest.raises(ValueError):
            make()
