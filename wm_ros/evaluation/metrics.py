"""Distances between pictures and what they decide: PSNR, SSIM, choice of two, identification.

In: uint8 RGB pictures and boolean masks. Out: floats. Knows nothing of models or simulators.
Intensities are scaled to [0, 1] before anything is measured: black to white is a distance of 1.

Axes: K candidates, H W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]

CHANGE_THRESHOLD = 12  # levels of 255: shading that drifts stays below it, a moving edge above
CHANGE_DILATION_PX = 2
PSNR_CEILING_DB = 60.0  # what an exact copy scores, so that means stay finite
SSIM_SIGMA_PX = 1.5
SSIM_WINDOW_PX = 11
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def changed_mask(
    before_HWC: ImageArray,
    after_HWC: ImageArray,
    threshold: int = CHANGE_THRESHOLD,
    dilation_px: int = CHANGE_DILATION_PX,
) -> BoolArray:
    """Return the bool [H, W] pixels with a channel that moved by more than the threshold."""
    difference_HWC = np.abs(before_HWC.astype(np.int16) - after_HWC)
    moved_HW: BoolArray = (difference_HWC > threshold).any(-1)
    if dilation_px == 0:
        return moved_HW
    kernel = np.ones((2 * dilation_px + 1, 2 * dilation_px + 1), np.uint8)
    return np.asarray(cv2.dilate(moved_HW.astype(np.uint8), kernel)) > 0


def difference_mask(*images_HWC: ImageArray) -> BoolArray:
    """Return the bool [H, W] pixels in which any of the pictures differs from the first."""
    first_HWC, *others = images_HWC
    mask_HW = np.zeros(first_HWC.shape[:2], bool)
    for other_HWC in others:
        mask_HW |= (first_HWC != other_HWC).any(-1)
    return mask_HW


def mean_squared_error(
    a_HWC: ImageArray, b_HWC: ImageArray, mask_HW: BoolArray | None = None
) -> float:
    """Return the mean squared difference over the mask (whole frame when None), in [0, 1].

    Raises:
        ValueError: the mask holds no pixel, so there is nothing to compare.
    """
    squared_HWC = ((a_HWC.astype(np.float64) - b_HWC) / 255.0) ** 2
    if mask_HW is None:
        return float(squared_HWC.mean())
    if not mask_HW.any():
        raise ValueError('the mask is empty: no pixel to compare')
    return float(squared_HWC[mask_HW].mean())


def distance(a_HWC: ImageArray, b_HWC: ImageArray, mask_HW: BoolArray | None = None) -> float:
    """Return the masked L2 distance, the root of the mean squared difference, in [0, 1]."""
    return float(np.sqrt(mean_squared_error(a_HWC, b_HWC, mask_HW)))


def psnr(a_HWC: ImageArray, b_HWC: ImageArray, mask_HW: BoolArray | None = None) -> float:
    """Return the peak signal to noise ratio in dB, at most `PSNR_CEILING_DB`."""
    error = mean_squared_error(a_HWC, b_HWC, mask_HW)
    return min(PSNR_CEILING_DB, -10.0 * float(np.log10(error))) if error > 0 else PSNR_CEILING_DB


def ssim_map(a_HWC: ImageArray, b_HWC: ImageArray) -> DoubleArray:
    """Return the structural similarity of every pixel, float64 [H, W], mean of the channels.

    Gaussian window of 11 px and sigma 1.5 px as in Wang et al. 2004, "Image quality assessment:
    from error visibility to structural similarity", eq. 13.
    """
    unit_a, unit_b = a_HWC.astype(np.float64) / 255.0, b_HWC.astype(np.float64) / 255.0
    mean_a, mean_b = _window_mean(unit_a), _window_mean(unit_b)
    variance_a = _window_mean(unit_a * unit_a) - mean_a**2
    variance_b = _window_mean(unit_b * unit_b) - mean_b**2
    covariance = _window_mean(unit_a * unit_b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance_a + variance_b + SSIM_C2)
    return np.asarray((luminance * structure).mean(-1), np.float64)


def _window_mean(x_HWC: DoubleArray) -> DoubleArray:
    window = (SSIM_WINDOW_PX, SSIM_WINDOW_PX)
    blurred = cv2.GaussianBlur(x_HWC, window, SSIM_SIGMA_PX, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float64).reshape(x_HWC.shape)


def ssim(a_HWC: ImageArray, b_HWC: ImageArray, mask_HW: BoolArray | None = None) -> float:
    """Return the mean structural similarity over the mask (whole frame when None), at most 1.

    Raises:
        ValueError: the mask holds no pixel.
    """
    map_HW = ssim_map(a_HWC, b_HWC)
    if mask_HW is None:
        return float(map_HW.mean())
    if not mask_HW.any():
        raise ValueError('the mask is empty: no pixel to compare')
    return float(map_HW[mask_HW].mean())


def two_alternative(
    prediction_HWC: ImageArray, truth_HWC: ImageArray, twin_HWC: ImageArray
) -> float:
    """Return 1 if the prediction is nearer the truth than the twin where those differ, else 0.

    A tie gives 0.5. A picture half-way between both, or one that does not depend on which is true,
    gains nothing: the mean over both directions is 0.5.

    Raises:
        ValueError: truth and twin are the same picture.
    """
    mask_HW = difference_mask(truth_HWC, twin_HWC)
    own = mean_squared_error(prediction_HWC, truth_HWC, mask_HW)
    other = mean_squared_error(prediction_HWC, twin_HWC, mask_HW)
    return 0.5 if own == other else float(own < other)


@dataclass(frozen=True)
class Identification:
    """Which of the candidate pictures a prediction shows, on the pixels in which they differ.

    Attributes:
        score: 1 if the true candidate is the nearest, 1/n if n candidates tie, else 0.
        nearest: index of the nearest candidate.
        commit_error: masked L2 distance to the nearest candidate: large for a mixture.
        half_palette: half the smallest masked L2 distance between two candidates.
    """

    score: float
    nearest: int
    commit_error: float
    half_palette: float


def identify(
    prediction_HWC: ImageArray, candidates_KHWC: ImageArray, true_index: int
) -> Identification:
    """Compare a prediction with one render per candidate colour, [K, H, W, C].

    Raises:
        ValueError: fewer than two candidates, or candidates that are all the same picture.
    """
    if len(candidates_KHWC) < 2:
        raise ValueError(f'{len(candidates_KHWC)} candidates: expected at least 2')
    mask_HW = difference_mask(*candidates_KHWC)
    errors_K = [distance(prediction_HWC, image_HWC, mask_HW) for image_HWC in candidates_KHWC]
    smallest = min(errors_K)
    winners = [index for index, error in enumerate(errors_K) if error == smallest]
    pairs = [
        distance(candidates_KHWC[i], candidates_KHWC[j], mask_HW)
        for i in range(len(candidates_KHWC))
        for j in range(i)
    ]
    score = 1.0 / len(winners) if true_index in winners else 0.0
    return Identification(score, winners[0], smallest, min(pairs) / 2)


def bootstrap_lower(
    scores: npt.ArrayLike, rng: np.random.Generator, *, confidence: float = 0.95, draws: int = 2000
) -> float:
    """Return the one-sided lower confidence bound of the mean, by the percentile bootstrap.

    Args:
        scores: one number per independent unit (a pair: the mean of both directions), shape [n].
        rng: seeded generator of the redraws.
        confidence: probability with which the mean lies above the bound.
        draws: redraws.

    Raises:
        ValueError: no scores, or scores that are not a flat list.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f'scores of shape {values.shape}: expected a flat list of at least one')
    picks = rng.integers(0, len(values), size=(draws, len(values)))
    return float(np.quantile(values[picks].mean(1), 1.0 - confidence))
