"""The measures themselves: values known in closed form, ties, masks, bounds, refusals."""

import numpy as np
import pytest

from wm_ros.evaluation import metrics


def picture(seed: int, size: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def flat(level: int, size: int = 24) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def test_psnr_of_a_known_error() -> None:
    # 51 levels are 0.2 of the range: -20 log10(0.2) dB
    assert metrics.psnr(flat(100), flat(151)) == pytest.approx(-20 * np.log10(0.2))
    assert metrics.psnr(picture(0), picture(0)) == metrics.PSNR_CEILING_DB


def test_unsigned_images_do_not_wrap_around() -> None:
    assert metrics.distance(flat(10), flat(20)) == metrics.distance(flat(20), flat(10))
    assert metrics.distance(flat(0), flat(255)) == pytest.approx(1.0)


def test_mask_limits_what_is_measured() -> None:
    truth, prediction = flat(50), flat(50)
    prediction[:12] = 101
    mask = np.zeros((24, 24), bool)
    mask[:6] = True
    assert metrics.distance(prediction, truth, mask) == pytest.approx(0.2)
    assert metrics.distance(prediction, truth, ~mask) == pytest.approx(0.2 * np.sqrt(6 / 18))
    for measure in (metrics.psnr, metrics.ssim, metrics.distance):
        with pytest.raises(ValueError, match='mask is empty'):
            measure(prediction, truth, np.zeros((24, 24), bool))


def test_changed_mask_has_a_threshold_and_is_dilated_by_two_pixels() -> None:
    before, after = flat(100), flat(100)
    after[10, 10, 1] += metrics.CHANGE_THRESHOLD + 1
    after[20, 20] += metrics.CHANGE_THRESHOLD  # not above the threshold
    mask = metrics.changed_mask(before, after)
    assert mask.sum() == 25 and mask[8:13, 8:13].all()
    assert metrics.changed_mask(before, after, dilation_px=0).sum() == 1
    assert np.array_equal(mask, metrics.changed_mask(after, before))


def test_ssim_is_one_for_equals_and_falls_with_blur_and_shift() -> None:
    image = picture(1, 48)
    assert metrics.ssim(image, image) == pytest.approx(1.0)
    assert metrics.ssim(image, np.roll(image, 3, 1)) < 0.3
    # flat pictures: only the luminance term is left, 2ab + c over a2 + b2 + c
    a, b = 0.2, 0.6
    expected = (2 * a * b + metrics.SSIM_C1) / (a * a + b * b + metrics.SSIM_C1)
    assert metrics.ssim(flat(51), flat(153)) == pytest.approx(expected)


def test_two_alternative_choice() -> None:
    truth, twin = flat(40), flat(40)
    truth[5:9, 5:9], twin[5:9, 5:9] = (200, 20, 20), (20, 20, 200)
    blurred = ((truth.astype(int) + twin) // 2).astype(np.uint8)
    assert metrics.two_alternative(truth, truth, twin) == 1.0
    assert metrics.two_alternative(twin, truth, twin) == 0.0
    assert metrics.two_alternative(blurred, truth, twin) == 0.5
    elsewhere = truth.copy()
    elsewhere[15:, :] = 255  # what both share is not looked at
    assert metrics.two_alternative(elsewhere, truth, twin) == 1.0
    with pytest.raises(ValueError, match='mask is empty'):
        metrics.two_alternative(truth, truth, truth.copy())


def test_a_prediction_blind_to_the_fact_scores_exactly_half_over_both_directions() -> None:
    truth, twin = flat(40), flat(40)
    truth[5:9, 5:9], twin[5:9, 5:9] = (200, 20, 20), (20, 20, 200)
    for seed in range(20):
        blind = picture(seed)
        forth = metrics.two_alternative(blind, truth, twin)
        back = metrics.two_alternative(blind, twin, truth)
        assert (forth + back) / 2 == 0.5


def test_identification_and_commitment() -> None:
    candidates = np.stack([flat(40)] * 3)
    for index, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        candidates[index, 4:10, 4:10] = colour
    exact = metrics.identify(candidates[1], candidates, 1)
    assert (exact.score, exact.nearest, exact.commit_error) == (1.0, 1, 0.0)
    # two channels of three differ by the whole range: sqrt(2 / 3), and half of it
    assert exact.half_palette == pytest.approx(np.sqrt(2 / 3) / 2)
    assert metrics.identify(candidates[1], candidates, 2).score == 0.0
    mixture = candidates.mean(0).astype(np.uint8)
    grey = metrics.identify(mixture, candidates, 0)
    assert grey.score == pytest.approx(1 / 3)
    assert grey.commit_error > grey.half_palette
    with pytest.raises(ValueError, match='at least 2'):
        metrics.identify(candidates[0], candidates[:1], 0)


def test_bootstrap_lower_bound() -> None:
    rng = np.random.default_rng
    assert metrics.bootstrap_lower([0.5] * 10, rng(0)) == 0.5
    scores = np.array([1.0] * 90 + [0.0] * 10)
    bound = metrics.bootstrap_lower(scores, rng(0))
    assert bound == metrics.bootstrap_lower(scores, rng(0))
    # normal approximation: mean - 1.645 sqrt(p q / n)
    assert bound == pytest.approx(0.9 - 1.645 * 0.03, abs=0.011)
    assert metrics.bootstrap_lower(scores[:20], rng(0)) == 1.0
    with pytest.raises(ValueError, match='flat list'):
        metrics.bootstrap_lower([], rng(0))
