"""Distances between two frames for a replay, which asks for hundreds of them per second.

In: uint8 RGB frames and uint8 masks. Out: floats, None where there is nothing to compare. The
same numbers as `metrics` (its plain twin; a test compares them), through OpenCV's sums over bytes,
which are exact and so the same on every machine. Knows no model.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import metrics

MaskArray = npt.NDArray[np.uint8]

LEVELS = 255.0


def changed(before_HWC: ImageArray, after_HWC: ImageArray) -> MaskArray:
    """Return the uint8 [H, W] mask of `metrics.changed_mask`, 1 where a pixel changed."""
    return metrics.changed_mask(before_HWC, after_HWC).astype(np.uint8)


def squared_error(
    a_HWC: ImageArray, b_HWC: ImageArray, mask_HW: MaskArray | None = None
) -> float | None:
    """Return the mean squared difference over the mask in [0, 1]; None where it is empty."""
    if mask_HW is None:
        values = a_HWC.size
        total = cv2.norm(a_HWC, b_HWC, cv2.NORM_L2SQR)
    else:
        values = int(mask_HW.sum()) * a_HWC.shape[2]
        if not values:
            return None
        total = cv2.norm(a_HWC, b_HWC, cv2.NORM_L2SQR, mask_HW)
    return float(total) / values / LEVELS**2


def decibel(error: float | None) -> float | None:
    """Return the PSNR in dB of a mean squared difference, at most `metrics.PSNR_CEILING_DB`."""
    if error is None:
        return None
    if error <= 0:
        return metrics.PSNR_CEILING_DB
    return min(metrics.PSNR_CEILING_DB, -10.0 * math.log10(error))


def psnr(a_HWC: ImageArray, b_HWC: ImageArray, mask_HW: MaskArray | None = None) -> float | None:
    """Return the PSNR in dB over the mask (whole frame when None); None where it is empty."""
    return decibel(squared_error(a_HWC, b_HWC, mask_HW))


def ssim(a_HWC: ImageArray, b_HWC: ImageArray, mask_HW: MaskArray) -> tuple[float | None, float]:
    """Return the mean structural similarity over the mask, None where it is empty, and over the
    whole frame.
    """
    map_HW = metrics.ssim_map(a_HWC, b_HWC)
    masked = float(map_HW[mask_HW > 0].mean()) if mask_HW.any() else None
    return masked, float(map_HW.mean())


def motion(before_HWC: ImageArray, after_HWC: ImageArray) -> float:
    """Return the mean absolute difference in [0, 1]."""
    return float(cv2.norm(before_HWC, after_HWC, cv2.NORM_L1)) / before_HWC.size / LEVELS


def gradient_energy(image_HWC: ImageArray) -> float:
    """Return the mean squared difference of neighbouring pixels' brightness, in [0, 1]: a blurred
    picture has less of it.
    """
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    across = cv2.norm(grey_HW[:, 1:], grey_HW[:, :-1], cv2.NORM_L2SQR)
    down = cv2.norm(grey_HW[1:], grey_HW[:-1], cv2.NORM_L2SQR)
    return float(across + down) / (2 * grey_HW.size) / LEVELS**2
