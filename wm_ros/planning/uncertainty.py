"""How sure is a prediction: the spread of noise draws, and how it is held against true errors.

Calibration (`wm_ros.manifest_planning.Calibration`, in the manifest) turns spread into the RMS
error to expect; it is fitted and judged here, on held-out recordings.

Axes: K candidates, M noise draws, N samples, C channels, H W latent cells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray
from wm_ros.manifest import Calibration

Numbers = npt.NDArray[np.floating]


def spread(latents_KMCHW: FloatArray) -> FloatArray:
    """Return the RMS over channels and cells of the standard deviation over draws.

    The deviation is the unbiased one (divided by M - 1), so its square does not depend on M in
    the mean.

    Args:
        latents_KMCHW: float32, M draws of one latent of each candidate.

    Returns:
        float32 [K]; NaN with one draw.
    """
    candidates, draws = latents_KMCHW.shape[:2]
    if draws < 2:
        return np.full(candidates, np.nan, np.float32)
    variance_KCHW = latents_KMCHW.var(axis=1, ddof=1)
    return np.sqrt(variance_KCHW.mean((1, 2, 3)))


def fit(spread_N: Numbers, error_N: Numbers, horizon_N: npt.ArrayLike, draws: int) -> Calibration:
    """Fit expected error = offset + scale * spread by least squares, one line per horizon.

    A line that falls (more spread, less error) says nothing about which candidate is surer: its
    scale is set to 0 and its offset to the mean error.

    Args:
        spread_N: RMS spread of the draws of each sample.
        error_N: RMS error of its latent against the truth.
        horizon_N: frames ahead of the newest observed one; every horizon that occurs becomes a
            knot.
        draws: M that the spreads come from.

    Raises:
        ValueError: a horizon with fewer than 2 samples, or numbers that are not finite.
    """
    horizon_N = np.asarray(horizon_N)
    if not (np.isfinite(spread_N).all() and np.isfinite(error_N).all()):
        raise ValueError('spreads and errors must be finite')
    knots = np.unique(horizon_N)
    offsets, scales = [], []
    for knot in knots:
        at = horizon_N == knot
        if at.sum() < 2:
            raise ValueError(f'{int(at.sum())} samples {knot} frames ahead: expected 2 or more')
        x, y = spread_N[at].astype(np.float64), error_N[at].astype(np.float64)
        variance = x.var()
        scale = (
            max(float(((x - x.mean()) * (y - y.mean())).mean() / variance), 0.0)
            if (variance > 0)
            else 0.0
        )
        scales.append(scale)
        offsets.append(float(y.mean() - scale * x.mean()))
    return Calibration(draws, tuple(int(knot) for knot in knots), tuple(offsets), tuple(scales))


def expected_calibration_error(
    predicted_N: Numbers, true_N: Numbers, bins: int = 10
) -> tuple[float, float]:
    """Compare predicted and true errors in bins of equal size, sorted by the prediction.

    Args:
        predicted_N: expected errors.
        true_N: true errors.
        bins: as many as there are samples for, at most this many.

    Returns:
        Mean over samples of |mean predicted - mean true| of their bin, and the same as a share of
        the mean true error.

    Raises:
        ValueError: no samples.
    """
    if not len(predicted_N) or len(predicted_N) != len(true_N):
        raise ValueError(f'{len(predicted_N)} predictions for {len(true_N)} errors')
    order = np.argsort(predicted_N, kind='stable')
    total = 0.0
    for part in np.array_split(order, min(bins, len(order))):
        total += len(part) * abs(float(predicted_N[part].mean()) - float(true_N[part].mean()))
    absolute = total / len(order)
    return absolute, absolute / max(float(np.mean(true_N)), 1e-12)


def rank_correlation(left_N: npt.ArrayLike, right_N: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation, ties with their average rank; NaN where one is flat."""
    left, right = _ranks(np.asarray(left_N)), _ranks(np.asarray(right_N))
    left, right = left - left.mean(), right - right.mean()
    norm = float(np.sqrt(np.square(left).sum() * np.square(right).sum()))
    return float((left * right).sum()) / norm if norm > 0 else float('nan')


def _ranks(values_N: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
