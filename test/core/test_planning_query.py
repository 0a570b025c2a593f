"""What a planner sends is checked at the door, in the units of the contract."""

from __future__ import annotations

import re

import numpy as np
import pytest
from planning_world import CONTRACT, A

from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.query import Limits, Start, check_candidates

LOW, HIGH = CONTRACT.limits_A2.T
LIMITS = Limits(candidates=8, steps=4)


def middle(k: int = 2, t: int = 3) -> np.ndarray:
    return np.tile((LOW + HIGH) / 2, (k, t, 1))


def refusal(actions: object, dims: tuple[int, int, int]) -> QueryError:
    with pytest.raises(QueryError) as caught:
        check_candidates(actions, dims, CONTRACT, LIMITS)
    return caught.value


def test_flat_and_shaped_numbers_become_the_same_normalised_candidates() -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(LOW, HIGH, (2, 3, A))
    flat = check_candidates(list(actions.reshape(-1)), (2, 3, A), CONTRACT, LIMITS)
    shaped = check_candidates(actions, (2, 3, A), CONTRACT, LIMITS)
    assert flat.dtype == np.float32 and flat.shape == (2, 3, A)
    np.testing.assert_array_equal(flat, shaped)
    np.testing.assert_allclose(CONTRACT.denormalise(flat), actions, atol=1e-6)


def test_limits_may_be_met_in_float32() -> None:
    for edge in (LOW, HIGH):
        actions = np.tile(edge, (1, 1, 1)).astype(np.float32)
        found = check_candidates(actions, (1, 1, A), CONTRACT, LIMITS)
        np.testing.assert_allclose(np.abs(found), 1, atol=1e-6)


@pytest.mark.parametrize(
    ('dims', 'code', 'text'),
    [
        ((0, 3, A), QueryCode.WRONG_DIMS, '0 candidates of 3 steps'),
        ((2, 0, A), QueryCode.WRONG_DIMS, '2 candidates of 0 steps'),
        ((2, 3, A - 1), QueryCode.WRONG_DIMS, f'{A - 1} action entries.*has {A}'),
        ((2, 2, A), QueryCode.WRONG_DIMS, f'expected 2 x 2 x {A} = {4 * A} numbers'),
        ((9, 3, A), QueryCode.TOO_MANY_CANDIDATES, '9 candidates: at most 8'),
        ((2, 5, A), QueryCode.TOO_MANY_STEPS, '5 steps: at most 4'),
        ((4_000_000_000, 3, A), QueryCode.TOO_MANY_CANDIDATES, 'at most 8'),
    ],
)
def test_wrong_dims_are_refused(dims: tuple[int, int, int], code: QueryCode, text: str) -> None:
    error = refusal(middle(), dims)
    assert error.code is code
    assert re.search(text, error.message)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused_and_named(bad: float) -> None:
    actions = middle()
    actions[1, 2, 4] = bad
    error = refusal(actions, (2, 3, A))
    assert error.code is QueryCode.NOT_FINITE
    assert 'candidate 1, step 2, entry lid_0' in error.message


@pytest.mark.parametrize('side', [-1, 1])
def test_commands_beyond_the_limits_are_refused_and_named(side: int) -> None:
    actions = middle()
    actions[0, 1, 0] = 0.22 * side * 1.01
    error = refusal(actions, (2, 3, A))
    assert error.code is QueryCode.OUT_OF_LIMITS
    assert 'candidate 0, step 1, entry x' in error.message
    assert 'expected -0.22 to 0.22' in error.message
    actions[0, 1, 0] = 0.22 * side * (1 + 1e-4)
    check_candidates(actions, (2, 3, A), CONTRACT, LIMITS)


def test_the_size_of_a_query_follows_from_candidates_and_steps() -> None:
    assert (LIMITS.rows, LIMITS.latents) == (16, 64)


def test_frames_ahead_count_the_latched_transition_and_what_was_imagined_before() -> None:
    latched = np.zeros(A, np.float32)
    assert Start(None, latched).frames_ahead(3) == 4
    assert Start(None, None, imagined=6).frames_ahead(3) == 9


def test_codes_are_those_of_the_services() -> None:
    codes = {code.name: int(code) for code in QueryCode}
    assert codes.pop('NONE') == 0
    assert codes['NOT_ACTIVE'] == 400 and codes['UNKNOWN'] == 499
    assert all(400 <= code <= 499 for code in codes.values())
    assert len(set(codes.values())) == len(codes)
    assert str(QueryError(QueryCode.BUSY, 'later')) == 'BUSY: later'
