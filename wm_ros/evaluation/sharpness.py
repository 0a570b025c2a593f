"""Two warnings about a prediction that PSNR rewards: that it is blurred, and that it stands still.

In: uint8 RGB pictures. Out: ratios to what the true picture has, 1 when it is the same. Neither
says that the edges or the motion are in the right place: noise sharpens, and flicker moves.
Knows nothing of models.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation.metrics import BoolArray

LUMA_C = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
SMALLEST_GRADIENT = 0.25  # mean squared, levels^2 per px^2: below, the picture is flat
SMALLEST_MOTION = 0.25  # mean, levels: below, nothing moved but the noise of the codec


def gradient_energy(image_HWC: ImageArray, mask_HW: BoolArray | None = None) -> float:
    """Return the mean squared gradient of the luma, levels^2 per px^2.

    Differences to the next pixel on the right and below; the last row and column have none.

    Args:
        image_HWC: uint8 RGB, at least 2 x 2 px.
        mask_HW: pixels that count, all when None.

    Raises:
        ValueError: the mask holds no pixel that has a gradient.
    """
    luma_HW = image_HWC @ LUMA_C
    across_HW = (luma_HW[:, 1:] - luma_HW[:, :-1])[:-1]
    down_HW = (luma_HW[1:] - luma_HW[:-1])[:, :-1]
    return _mean(across_HW**2 + down_HW**2, None if mask_HW is None else mask_HW[:-1, :-1])


def motion(
    before_HWC: ImageArray, after_HWC: ImageArray, mask_HW: BoolArray | None = None
) -> float:
    """Return the mean absolute difference of two pictures, levels of 255.

    Raises:
        ValueError: the mask holds no pixel.
    """
    return _mean(np.abs(after_HWC.astype(np.float64) - before_HWC).mean(-1), mask_HW)


def sharpness_ratio(
    pred_HWC: ImageArray, true_HWC: ImageArray, mask_HW: BoolArray | None = None
) -> float | None:
    """Return the gradient energy of a prediction over that of the truth: below 1 is blurred.

    To average over frames, divide mean energies rather than taking the mean of ratios, in which
    the flattest frames weigh most.

    Returns:
        The ratio, or None where the truth is flat and there is nothing to be sharp about.

    Raises:
        ValueError: the mask holds no pixel that has a gradient.
    """
    energy = gradient_energy(true_HWC, mask_HW)
    return gradient_energy(pred_HWC, mask_HW) / energy if energy > SMALLEST_GRADIENT else None


def motion_ratio(
    pred_HWC: ImageArray,
    last_HWC: ImageArray,
    true_HWC: ImageArray,
    mask_HW: BoolArray | None = None,
) -> float | None:
    """Return how much a prediction moved away from the last frame over how much the truth did.

    0 is a copy of the last frame, below 1 too timid, above 1 too lively.

    Args:
        pred_HWC: the prediction.
        last_HWC: the last frame that it knew.
        true_HWC: what came.
        mask_HW: pixels that count, all when None.

    Returns:
        The ratio, or None where the truth did not move.

    Raises:
        ValueError: the mask holds no pixel.
    """
    moved = motion(last_HWC, true_HWC, mask_HW)
    return motion(last_HWC, pred_HWC, mask_HW) / moved if moved > SMALLEST_MOTION else None


def _mean(values_HW: npt.NDArray[np.float64], mask_HW: BoolArray | None) -> float:
    if mask_HW is None:
        return float(values_HW.mean())
    if not mask_HW.any():
        raise ValueError('the mask is empty: no pixel to compare')
    return float(values_HW[mask_HW].mean())
