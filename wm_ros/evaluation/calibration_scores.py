"""What spreads and true errors have to do with each other: fitted on half of the bags, judged on
the rest.

In: samples, wherever they come from. Out: a calibration, its scores, the points of a diagram.

What they cannot show: recordings hold one future per state, so spread and error are compared over
states. Whether they agree among the candidates of one state remains open.

Axes: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wm_ros.manifest import Calibration
from wm_ros.planning.uncertainty import expected_calibration_error, fit, rank_correlation

FIT, JUDGE = 'fit', 'judge'

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One prediction, held against the frame that then came; all in units of the latent.

    Attributes:
        bag: number of its bag.
        anchor: frame of the bag that it starts from.
        horizon: frames ahead.
        spread: `planning.uncertainty.spread` of the draws.
        error: RMS over cells and over draws of draw minus truth. Every draw counts by itself: a
            candidate costs the mean of what its draws cost, and nobody acts on the mean of their
            latents. So the spread is a part of it: if the truth is like one more draw, as with a
            model that is right, error = sqrt(2) * spread (both averaged as squares).
        centre_error: RMS of the mean over draws minus truth, which the spread is no part of.
        copy_error: RMS of the anchor's own latent minus truth, what a model that repeats the last
            frame does.
    """

    bag: int
    anchor: int
    horizon: int
    spread: float
    error: float
    centre_error: float
    copy_error: float


@dataclass(frozen=True)
class Score:
    """Predicted against true error; NaN ranks where one of the two is the same for all samples.

    Attributes:
        samples: N.
        error, centre_error, copy_error, spread, expected: means; `expected` is the calibrated
            uncertainty, the others are of `Sample`.
        ece, ece_relative: expected calibration error of the calibrated uncertainty, in units of
            the latent and as a share of the mean error.
        spread_ece, spread_ece_relative: of the spread as it is.
        rank: Spearman's correlation of the calibrated uncertainty with the error.
        spread_rank: of the spread with the error. The same as `rank` within one horizon, unless
            the fit does not believe the spread.
        centre_rank: of the calibrated uncertainty with `centre_error`.
    """

    samples: int
    error: float
    centre_error: float
    copy_error: float
    spread: float
    expected: float
    ece: float
    ece_relative: float
    spread_ece: float
    spread_ece_relative: float
    rank: float
    spread_rank: float
    centre_rank: float


@dataclass(frozen=True)
class Outcome:
    """A calibration and its scores on the bags that it was not fitted on.

    Attributes:
        calibration: fitted on the bags 0, 2, 4, ...
        samples: of all bags.
        overall: score on the bags 1, 3, 5, ...
        by_horizon: horizon -> score on the same bags.
        fitted: score on the bags that it was fitted on: how much less the others give is what the
            fit learnt by heart.
    """

    calibration: Calibration
    samples: tuple[Sample, ...]
    overall: Score
    by_horizon: dict[int, Score]
    fitted: Score


def part_of(bag: int) -> str:
    """Return FIT or JUDGE for the number of a bag."""
    return JUDGE if bag % 2 else FIT


def judge(samples: Sequence[Sample], draws: int) -> Outcome:
    """Fit on the even-numbered bags, score on the odd-numbered ones.

    Raises:
        ValueError: a horizon with fewer than 2 samples in the fitted half, or none in the other.
    """
    fitting = [sample for sample in samples if part_of(sample.bag) == FIT]
    judging = judged_samples(samples)
    calibration = fit(
        values(fitting, 'spread'),
        values(fitting, 'error'),
        [sample.horizon for sample in fitting],
        draws,
    )
    short = set(calibration.horizons) - {sample.horizon for sample in judging}
    if short:
        raise ValueError(f'nothing to judge on {min(short)} frames ahead in the bags 1, 3, 5, ...')
    by_horizon = {
        horizon: score([s for s in judging if s.horizon == horizon], calibration)
        for horizon in calibration.horizons
    }
    return Outcome(
        calibration,
        tuple(samples),
        score(judging, calibration),
        by_horizon,
        score(fitting, calibration),
    )


def judged_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples of the half that is judged on."""
    return [sample for sample in samples if part_of(sample.bag) == JUDGE]


def values(samples: Sequence[Sample], name: str) -> Values:
    """Return one field of every sample."""
    return np.array([getattr(sample, name) for sample in samples], np.float64)


def expected_errors(samples: Sequence[Sample], calibration: Calibration) -> Values:
    """Return the calibrated uncertainty of every sample, as a query would report it."""
    return np.array(
        [
            calibration.error_K(np.array([sample.spread], np.float32), sample.horizon)[0]
            for sample in samples
        ],
        np.float64,
    )


def score(samples: Sequence[Sample], calibration: Calibration) -> Score:
    """Hold expected and true errors against each other.

    Raises:
        ValueError: no samples.
    """
    expected, error = expected_errors(samples, calibration), values(samples, 'error')
    spreads, centre = values(samples, 'spread'), values(samples, 'centre_error')
    ece = expected_calibration_error(expected, error)
    spread_ece = expected_calibration_error(spreads, error)
    return Score(
        len(samples),
        float(error.mean()),
        float(centre.mean()),
        float(values(samples, 'copy_error').mean()),
        float(spreads.mean()),
        float(expected.mean()),
        *ece,
        *spread_ece,
        rank=rank_correlation(expected, error),
        spread_rank=rank_correlation(spreads, error),
        centre_rank=rank_correlation(expected, centre),
    )


def reliability(predicted_N: Values, true_N: Values, bins: int = 10) -> tuple[Values, Values]:
    """Return the mean prediction and the mean truth of each bin, the bins of the expected
    calibration error.
    """
    order = np.argsort(predicted_N, kind='stable')
    parts = np.array_split(order, min(bins, len(order)))
    return (
        np.array([predicted_N[part].mean() for part in parts]),
        np.array([true_N[part].mean() for part in parts]),
    )
