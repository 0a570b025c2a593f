"""Spread, calibration and how both are judged, on samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from wm_ros.planning.uncertainty import (
    expected_calibration_error,
    fit,
    rank_correlation,
    spread,
)


def test_spread_is_the_rms_of_the_unbiased_deviation() -> None:
    latents = np.zeros((2, 3, 8, 8, 8), np.float32)
    latents[1, :, 0] = np.array([-1, 0, 1], np.float32)[:, None, None]
    found = spread(latents)
    assert found[0] == 0
    assert found[1] == pytest.approx(np.sqrt(1 / 8))
    assert np.isnan(spread(latents[:, :1])).all()


@pytest.mark.parametrize('draws', [2, 4, 8])
def test_spread_does_not_grow_with_the_number_of_draws(draws: int) -> None:
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((20, draws, 8, 8, 8), np.float32)
    assert np.sqrt(np.square(spread(latents)).mean()) == pytest.approx(1, abs=0.03)


def test_a_fit_finds_the_line_of_every_horizon() -> None:
    rng = np.random.default_rng(1)
    horizon = np.repeat([1, 4, 16], 400)
    offset, scale = np.array([0.1, 0.2, 0.5]), np.array([1.0, 2.0, 0.5])
    spreads = rng.uniform(0.1, 1, horizon.size)
    at = np.searchsorted([1, 4, 16], horizon)
    error = offset[at] + scale[at] * spreads + 0.01 * rng.standard_normal(horizon.size)
    fitted = fit(spreads, error, horizon, draws=4)
    assert (fitted.draws, fitted.horizons) == (4, (1, 4, 16))
    np.testing.assert_allclose(fitted.offset, offset, atol=0.01)
    np.testing.assert_allclose(fitted.scale, scale, atol=0.02)
    # Linear between the knots, held beyond them.
    unit = np.array([1.0], np.float32)
    assert fitted.error_K(unit, 16)[0] == pytest.approx(1.0, abs=0.02)
    assert fitted.error_K(unit, 99)[0] == fitted.error_K(unit, 16)[0]
    assert fitted.error_K(unit, 10)[0] == pytest.approx(0.35 + 1.25, abs=0.03)


def test_a_falling_line_is_not_believed() -> None:
    fitted = fit(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]), [2, 2, 2], draws=2)
    assert (fitted.offset, fitted.scale) == ((2.0,), (0.0,))
    assert fit(np.ones(3), np.array([1.0, 2.0, 3.0]), [1, 1, 1], draws=2).offset == (2.0,)


def test_too_little_to_fit_is_refused() -> None:
    with pytest.raises(ValueError, match='1 samples 3 frames ahead'):
        fit(np.ones(3), np.ones(3), [2, 2, 3], draws=2)
    with pytest.raises(ValueError, match='finite'):
        fit(np.array([1.0, np.nan]), np.ones(2), [2, 2], draws=2)


def test_calibration_error_of_a_perfect_and_of_a_shifted_prediction() -> None:
    true = np.random.default_rng(2).uniform(1, 3, 1000)
    assert expected_calibration_error(true, true) == (0.0, 0.0)
    absolute, relative = expected_calibration_error(true + 0.5, true)
    assert absolute == pytest.approx(0.5)
    assert relative == pytest.approx(0.5 / true.mean())
    # A constant that is right on average is off in no bin that it cannot tell apart.
    flat = np.full(1000, true.mean())
    assert expected_calibration_error(flat, true, bins=1)[0] == pytest.approx(0, abs=1e-9)
    halves = np.where(true > 2, 1.0, 3.0)  # confident and wrong
    assert expected_calibration_error(halves, true, bins=2)[0] > 1
    with pytest.raises(ValueError, match='0 predictions'):
        expected_calibration_error(true[:0], true[:0])


def test_rank_correlation_by_hand_and_with_ties() -> None:
    assert rank_correlation([1, 2, 3], [10, 200, 3000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / np.sqrt(22.5))
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
