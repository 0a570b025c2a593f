"""Variations of frames: drawn by seed, the same for all of a clip, nothing at strength 0."""

from __future__ import annotations

import numpy as np
import pytest

from training.augment import GAIN, OFFSET, SHIFT, TURN_DEG, ZOOM, Variation, vary

RNG = np.random.default_rng(3)
FRAMES = RNG.integers(0, 256, (3, 32, 48, 3), np.uint8)


def test_at_strength_nought_nothing_changes() -> None:
    assert vary(np.random.default_rng(0), 0.0) == Variation()
    np.testing.assert_array_equal(vary(np.random.default_rng(0), 0.0).of_clip(FRAMES), FRAMES)


def test_a_variation_is_drawn_within_its_bounds_and_mirrors_only_where_asked() -> None:
    drawn = [vary(np.random.default_rng(seed), 0.5) for seed in range(200)]
    assert vary(np.random.default_rng(7), 0.5) == drawn[7]
    assert max(abs(value) for one in drawn for value in one.shift) <= SHIFT / 2
    assert max(abs(np.log(one.zoom)) for one in drawn) <= ZOOM / 2
    assert max(abs(one.turn_deg) for one in drawn) <= TURN_DEG / 2
    assert max(abs(value - 1) for one in drawn for value in one.gain) <= 0.75 * GAIN
    assert max(abs(one.offset) for one in drawn) <= OFFSET / 2
    assert not any(one.mirror for one in drawn)
    mirrored = [vary(np.random.default_rng(seed), 0.5, mirrored=True).mirror for seed in range(99)]
    assert 30 < sum(mirrored) < 70


@pytest.mark.parametrize(
    ('variation', 'row', 'column'),
    [
        (Variation(shift=(0.25, 0.0)), 16, 36),
        (Variation(shift=(0.0, -0.25)), 8, 24),
        (Variation(mirror=True), 16, 23),
        (Variation(zoom=1.5, turn_deg=90.0), 16, 24),
    ],
)
def test_what_is_seen_moves_as_it_says(variation: Variation, row: int, column: int) -> None:
    """A bright spot in the middle of a picture of 32 x 48 px."""
    dark_HWC = np.zeros((32, 48, 3), np.uint8)
    dark_HWC[16, 24] = 200
    seen_HWC = variation(dark_HWC)
    assert seen_HWC.dtype == np.uint8 and seen_HWC.shape == dark_HWC.shape
    assert seen_HWC[row, column].min() > 100
    far = np.hypot(*(np.indices((32, 48)).T - (row, column)).T)
    assert not seen_HWC[far > 3].any()


def test_light_changes_by_colour_and_stays_in_range() -> None:
    seen_HWC = Variation(gain=(1.1, 1.0, 0.9), offset=5.0)(np.full((8, 8, 3), 100, np.uint8))
    assert (seen_HWC == (115, 105, 95)).all()
    assert (Variation(gain=(2.0, 2.0, 2.0))(FRAMES[0]) >= FRAMES[0]).all()
