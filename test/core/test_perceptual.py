"""The perceptual distance: zero, symmetric, ordered as eyes order, bit-equal, refusals."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wm_ros.evaluation import metrics
from wm_ros.evaluation.perceptual import Perceptual


@pytest.fixture(scope='module')
def perceptual() -> Perceptual:
    return Perceptual()


def table_top(seed: int, size_px: int = 64) -> np.ndarray:
    """A grainy table with coloured blocks and discs, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    image = np.full((size_px, size_px, 3), (120, 110, 100), np.uint8)
    for _ in range(5):
        x, y = (int(v) for v in rng.integers(0, size_px, 2))
        colour = [int(v) for v in rng.integers(30, 226, 3)]
        cv2.rectangle(image, (x, y), (x + size_px // 4, y + size_px // 6), colour, -1)
        cv2.circle(image, (y, x), size_px // 9, colour[::-1], -1)
    grain = np.rint(rng.normal(0, 3, image.shape))
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def scenes(count: int = 4) -> np.ndarray:
    return np.stack([table_top(seed) for seed in range(count)])


def blurred(images: np.ndarray, sigma_px: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma_px) for image in images])


def at_error(image: np.ndarray, change: np.ndarray, error: float) -> np.ndarray:
    """The picture with so much of a change that the mean squared error is as given."""
    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        made = np.clip(np.rint(image + middle * change), 0, 255).astype(np.uint8)
        too_much = metrics.mean_squared_error(made, image) > error
        low, high = (low, middle) if too_much else (middle, high)
    return made


def test_equal_pictures_are_at_distance_zero(perceptual: Perceptual) -> None:
    assert (perceptual.distances(scenes(), scenes()) == 0).all()


def test_symmetric_and_bit_equal_alone_or_among_others(perceptual: Perceptual) -> None:
    images = scenes(20)  # more than one batch of the engine
    others = np.roll(images, 1, 0)
    distances = perceptual.distances(images, others)
    assert distances.shape == (20,) and distances.dtype == np.float64
    assert (distances > 0.05).all()
    np.testing.assert_array_equal(distances, perceptual.distances(others, images))
    np.testing.assert_array_equal(distances, Perceptual().distances(images, others))
    alone = [perceptual.distances(images[i, None], others[i, None])[0] for i in range(20)]
    np.testing.assert_array_equal(distances, alone)


def test_rises_with_blur(perceptual: Perceptual) -> None:
    truth = perceptual.embed(scenes())
    by_sigma = [
        perceptual.between(truth, perceptual.embed(blurred(scenes(), sigma_px)))
        for sigma_px in (0.5, 1.0, 2.0, 4.0)
    ]
    assert (np.diff(by_sigma, axis=0) > 0).all()


def test_at_equal_error_blur_and_noise_cost_more_than_brightness(perceptual: Perceptual) -> None:
    """Measured on photographs: 40 and 70 times as much."""
    image = table_top(1)
    blur = blurred(image[None], 1.0)[0]
    error = metrics.mean_squared_error(blur, image)
    noise = at_error(image, np.random.default_rng(0).standard_normal(image.shape), error)
    brighter = at_error(image, np.ones(image.shape), error)
    for made in (noise, brighter):
        assert metrics.mean_squared_error(made, image) == pytest.approx(error, rel=0.15)
    costs = perceptual.distances(np.stack([image] * 3), np.stack([blur, noise, brighter]))
    assert costs[0] > 5 * costs[2] and costs[1] > 5 * costs[2], costs


def test_a_mask_says_where_to_look(perceptual: Perceptual) -> None:
    truth, wrong = table_top(0), table_top(0)
    wrong[40:56, 40:56] = 255 - wrong[40:56, 40:56]
    left, right = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    left[:, :16], right[40:56, 40:56] = True, True
    a, b = perceptual.embed(truth[None]), perceptual.embed(wrong[None])
    whole = perceptual.between(a, b)
    assert perceptual.between(a, b, left[None]) < whole / 5
    assert perceptual.between(a, b, right[None]) > whole * 5
    everywhere = perceptual.between(a, b, np.ones((1, 64, 64), bool))
    np.testing.assert_allclose(everywhere, whole)


@pytest.mark.parametrize('size', [(64, 128), (90, 70), (128, 128), (250, 160)])
def test_sizes(perceptual: Perceptual, size: tuple[int, int]) -> None:
    images = np.stack([cv2.resize(table_top(seed, 256), size[::-1]) for seed in (0, 1)])
    distances = perceptual.distances(images, images[::-1])
    assert np.isfinite(distances).all() and (distances > 0.05).all()


def test_small_pictures_are_enlarged(perceptual: Perceptual) -> None:
    stages = perceptual.embed(scenes(1)).stages_BChw
    assert [stage.shape[2:] for stage in stages] == [(64, 64), (32, 32), (16, 16), (8, 8)]


def test_a_flat_picture_is_as_good_as_any(perceptual: Perceptual) -> None:
    black, white = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 255, np.uint8)
    assert np.isfinite(perceptual.distances(black, white)).all()
    assert perceptual.distances(black, black) == 0


@pytest.mark.parametrize(
    ('images', 'text'),
    [
        (np.zeros((64, 64, 3), np.uint8), 'expected uint8'),
        (np.zeros((1, 64, 64, 4), np.uint8), 'expected uint8'),
        (np.zeros((1, 64, 64, 3), np.float32), 'float32 of shape'),
        (np.zeros((0, 64, 64, 3), np.uint8), 'B at least 1'),
        (np.zeros((1, 8, 64, 3), np.uint8), '8 x 64 px'),
        (np.zeros((1, 64, 1024, 3), np.uint8), '64 x 1024 px'),
    ],
)
def test_wrong_pictures_are_refused(perceptual: Perceptual, images: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        perceptual.embed(images)


def test_pairs_that_do_not_fit_are_refused(perceptual: Perceptual) -> None:
    three, two = perceptual.embed(scenes(3)), perceptual.embed(scenes(2))
    wide = perceptual.embed(np.zeros((3, 64, 80, 3), np.uint8))
    for other in (two, wide):
        with pytest.raises(ValueError, match='expected as many of the same size'):
            perceptual.between(three, other)
    with pytest.raises(ValueError, match='masks: bool of shape'):
        perceptual.between(three, three, np.ones((3, 32, 32), bool))
    with pytest.raises(ValueError, match='a mask is empty'):
        perceptual.between(
            three, three, np.eye(3, 1, dtype=bool)[..., None] & np.ones((64, 64), bool)
        )
