"""Sharpness and motion of a prediction: known values, blur, copies, nothing to compare."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wm_ros.evaluation.sharpness import gradient_energy, motion, motion_ratio, sharpness_ratio


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_NEAREST)


def test_gradient_energy_of_a_known_ramp() -> None:
    ramp = np.zeros((16, 16, 3), np.uint8)
    ramp[:] = (4 * np.arange(16, dtype=np.uint8))[None, :, None]
    assert gradient_energy(ramp) == pytest.approx(16)
    assert gradient_energy(ramp.swapaxes(0, 1)) == pytest.approx(16)
    falling = ramp[:, ::-1]  # unsigned differences would wrap
    assert gradient_energy(falling) == pytest.approx(16)


def test_sharpness_falls_with_blur_and_rises_with_noise() -> None:
    truth = picture(0)
    ratios = [
        sharpness_ratio(cv2.GaussianBlur(truth, (0, 0), sigma_px), truth)
        for sigma_px in (0.5, 1.0, 2.0, 4.0)
    ]
    assert sharpness_ratio(truth, truth) == 1
    assert all(low < high for low, high in zip(ratios[1:], ratios, strict=False)), ratios
    assert ratios[0] < 1 and ratios[-1] < 0.05
    noise = np.random.default_rng(1).integers(-20, 21, truth.shape)
    assert sharpness_ratio(np.clip(truth + noise, 0, 255).astype(np.uint8), truth) > 1


def test_sharpness_looks_where_the_mask_says() -> None:
    truth = picture(0)
    prediction = truth.copy()
    prediction[:16] = cv2.GaussianBlur(truth, (0, 0), 3)[:16]
    top, bottom = np.zeros((32, 32), bool), np.zeros((32, 32), bool)
    top[:12], bottom[20:] = True, True
    assert sharpness_ratio(prediction, truth, top) < 0.5
    assert sharpness_ratio(prediction, truth, bottom) == 1


def test_motion_of_copies_halves_and_truth() -> None:
    last, truth = picture(1), picture(2)
    half = ((last.astype(int) + truth) // 2).astype(np.uint8)
    assert motion_ratio(last, last, truth) == 0
    assert motion_ratio(truth, last, truth) == 1
    assert motion_ratio(half, last, truth) == pytest.approx(0.5, abs=0.01)
    assert motion(np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 3), 10, np.uint8)) == 190


def test_where_there_is_nothing_to_compare_there_is_no_ratio() -> None:
    flat = np.full((32, 32, 3), 90, np.uint8)
    assert sharpness_ratio(picture(0), flat) is None
    assert motion_ratio(picture(0), flat, flat) is None
    empty = np.zeros((32, 32), bool)
    for call in (
        lambda: sharpness_ratio(flat, flat, empty),
        lambda: motion_ratio(flat, flat, picture(0), empty),
    ):
        with pytest.raises(ValueError, match='mask is empty'):
            call()
