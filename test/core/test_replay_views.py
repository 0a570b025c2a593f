"""What replay compares: each camera's picture alone, the right frames, the pixels that it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from replay_bags import contract, square

from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, ImageArray, Step
from wm_ros.evaluation import metrics, replay_tables
from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay_free import FreeRuns
from wm_ros.evaluation.replay_futures import HORIZON, TRUE, Future
from wm_ros.evaluation.replay_hooks import installed
from wm_ros.evaluation.replay_horizons import MARKS, Horizons
from wm_ros.evaluation.replay_marks import Marks
from wm_ros.evaluation.replay_one_step import OneStep
from wm_ros.evaluation.replay_tally import Timeline
from wm_ros.evaluation.replay_window import Moment
from wm_ros.sources import IMAGE
from wm_ros.tiles import tile, untile

SIZE, ANCHOR = 64, 40
NAMES = ('front', 'left', 'right')
IDLE = np.zeros(3, np.float32)


def three_eyed() -> StreamContract:
    """The table-top's robot with three cameras: a quarter each, and a black one."""
    values = contract().to_dict()
    values['cameras'] = [{'topic': f'/{name}/image', 'type': IMAGE} for name in NAMES]
    return StreamContract.from_dict(values)


def pictures(seed: int, still: tuple[int, ...] = ()) -> list[ImageArray]:
    """One picture per camera; `still` ones are the same whatever the seed."""
    found = []
    for camera in range(3):
        rng = np.random.default_rng([camera, 0 if camera in still else seed])
        found.append(rng.integers(0, 256, (32, 32, 3), np.uint8))
    return found


def seen(seed: int, still: tuple[int, ...] = ()) -> ImageArray:
    return tile(pictures(seed, still), SIZE)


def scrawled(image_HWC: ImageArray) -> ImageArray:
    """The same with noise where no camera looks."""
    found = image_HWC.copy()
    found[32:, 32:] = np.random.default_rng(9).integers(0, 256, (32, 32, 3), np.uint8)
    return found


def future(scrawl: bool, still: tuple[int, ...] = ()) -> Future:
    shown_THWC = np.stack([seen(100 + t, still) for t in range(HORIZON)])
    if scrawl:
        shown_THWC = np.stack([scrawled(image_HWC) for image_HWC in shown_THWC])
    truths = tuple(seen(ANCHOR + t, still) for t in range(1, HORIZON + 1))
    shown_BTHWC = np.stack([shown_THWC] * 3)
    return Future(ANCHOR, 0, seen(ANCHOR, still), truths, {'model': shown_BTHWC})


def moments(shown_HWC: ImageArray) -> tuple[Moment, Moment]:
    steps = [Step(Frame(seen(n), n, 'eyes'), IDLE, IDLE, n, n, None) for n in range(2)]
    return Moment(0, steps[0]), Moment(1, steps[1], {'model': shown_HWC})


def one_step(shown_HWC: ImageArray, cameras: int) -> dict[str, Any]:
    found = OneStep(Timeline(2), cameras=cameras)
    found.score(*moments(shown_HWC))
    return found.results()


def test_what_no_camera_shows_counts_nowhere_one_frame_ahead() -> None:
    clean, dirty = (one_step(image, 3) for image in (seen(7), scrawled(seen(7))))
    assert clean == dirty and clean['frames'] == 3
    whole = one_step(scrawled(seen(7)), 1)
    assert whole['sharpness']['model'] > 1.2 > clean['sharpness']['model'], 'it would have counted'
    pairs = list(zip(pictures(7), pictures(1), strict=True))
    wanted = np.mean([metrics.psnr(*pair) for pair in pairs])
    assert clean['psnr_whole']['model'] == pytest.approx(wanted, abs=1e-4)
    wanted = np.mean([metrics.ssim(*pair) for pair in pairs])
    assert clean['ssim_whole']['model'] == pytest.approx(wanted, abs=1e-4)


def test_what_no_camera_shows_counts_in_no_future() -> None:
    found = []
    for scrawl in (False, True):
        horizons = Horizons(installed(SIZE, 3).perceptual, NAMES)
        horizons.score(future(scrawl))
        found.append(horizons.results())
    assert found[0] == found[1]
    assert set(found[0]['counts'].values()) == {3} and found[0]['anchors'] == 1
    left = found[0]['psnr_by_camera']['left']
    last, shown, truth = (pictures(n)[1] for n in (ANCHOR, 109, ANCHOR + 10))
    mask_HW = metrics.changed_mask(last, truth)
    table = replay_tables.by_camera({'by_horizon': found[0]})
    assert 'left, model</td>' in table and f'{left["model"]["10"]:.2f}' in table
    assert left['model']['10'] == pytest.approx(metrics.psnr(shown, truth, mask_HW), abs=1e-4)


def test_a_camera_that_stands_still_has_no_changed_pixels() -> None:
    """The moving neighbour's change is widened by 2 px: not into another camera's picture."""
    horizons = Horizons(None, NAMES)
    horizons.score(future(False, still=(1,)))
    found = horizons.results()
    assert set(found['changed_counts'].values()) == {2}
    assert found['psnr_by_camera']['left'] == {}
    assert set(found['psnr_by_camera']['right']) == {'model', 'copy_last'}


def test_free_running_scores_each_camera_alone() -> None:
    found = []
    for scrawl in (False, True):
        runs = FreeRuns([], [0], 1.0, 0)  # one step per second: marks at 5, 10, 30 and 60
        for n in range(13):
            step = Step(Frame(seen(n), n, 'eyes'), IDLE, IDLE, n, n, None)
            runs.take(Moment(n, step), {})
        shown = {(0, n): scrawled(seen(50 + n)) if scrawl else seen(50 + n) for n in range(15)}
        marks = Marks(None, 3)
        marks.score(runs, {'model': shown})
        found.append(marks.results(runs))
    assert found[0] == found[1]
    assert found[0]['anchors'] == [0]
    assert found[0]['counts'] == {'5s': 3, '10s': 3, '30s': 0, '60s': 0}, 'pictures'
    assert found[0]['changed_counts'] == {'5s': 3, '10s': 3, '30s': 0, '60s': 0}
    errors = [
        metrics.psnr(shown, truth)
        for ahead in (8, 9, 10, 11, 12)
        for shown, truth in zip(pictures(50 + ahead), pictures(ahead), strict=True)
    ]
    assert found[0]['psnr_whole']['model']['10s'] == pytest.approx(np.mean(errors), abs=1e-4)
    errors = [
        metrics.psnr(last, truth)
        for ahead in (3, 4, 5, 6, 7)
        for last, truth in zip(pictures(0), pictures(ahead), strict=True)
    ]
    assert found[0]['psnr_whole']['copy_last']['5s'] == pytest.approx(np.mean(errors), abs=1e-4)


def test_lags_need_whole_cells_in_every_tile() -> None:
    assert installed(48, 3).reappearances is not None
    assert installed(40, 1).reappearances is not None
    (text,) = installed(40, 3).left_out
    assert '20 x 20 px' in text


def test_pictures_too_small_for_the_network_leave_its_distance_out() -> None:
    found = installed(16, 4)
    assert found.perceptual is None and 'expected 16 to 512' in ''.join(found.left_out)


def test_horizons_compare_the_frames_that_they_name() -> None:
    """By hand: the anchor's frame and what was imagined for a horizon, with the frame then."""
    last_HWC, shown_THWC = square(ANCHOR), np.stack([square(n + 3) for n in range(41, 66)])
    truths = tuple(square(ANCHOR + t) for t in range(1, HORIZON + 1))
    wrong_THWC = np.zeros_like(shown_THWC)
    imagined_BTHWC = np.stack([shown_THWC, wrong_THWC, wrong_THWC])
    assert TRUE == 0
    horizons = Horizons(None)
    horizons.score(Future(ANCHOR, 0, last_HWC, truths, {'model': imagined_BTHWC}))
    found = horizons.results()
    for horizon in range(1, HORIZON + 1):
        truth_HWC, shown_HWC = square(ANCHOR + horizon), square(ANCHOR + horizon + 3)
        mask_HW = metrics.changed_mask(last_HWC, truth_HWC)
        assert 0 < mask_HW.mean() < 1
        for who, image_HWC in (('model', shown_HWC), ('copy_last', last_HWC)):
            wanted_db = metrics.psnr(image_HWC, truth_HWC, mask_HW)
            assert found['psnr'][who][str(horizon)] == pytest.approx(wanted_db, abs=1e-4)
            wanted_db = metrics.psnr(image_HWC, truth_HWC)
            assert found['psnr_whole'][who][str(horizon)] == pytest.approx(wanted_db, abs=1e-4)
            if horizon in MARKS:
                ssim = metrics.ssim(image_HWC, truth_HWC, mask_HW)
                assert found['ssim'][who][str(horizon)] == pytest.approx(ssim, abs=1e-4)
                ssim = metrics.ssim(image_HWC, truth_HWC)
                assert found['ssim_whole'][who][str(horizon)] == pytest.approx(ssim, abs=1e-4)
        gain_db = found['psnr']['model'][str(horizon)] - found['psnr']['shifted'][str(horizon)]
        assert found['delta_shifted']['model'][str(horizon)] == pytest.approx(gain_db, abs=2e-4)


def test_perceptual_distance_on_changed_pixels_and_on_the_whole_frame() -> None:
    perceptual = installed(SIZE).perceptual
    if perceptual is None:
        pytest.skip('this installation has no perceptual distance')
    last_HWC, truth_HWC, shown_HWC = (square(n) for n in (40, 65, 50))
    shown_BTHWC = np.broadcast_to(shown_HWC, (3, HORIZON, SIZE, SIZE, 3))
    horizons = Horizons(perceptual)
    horizons.score(Future(40, 0, last_HWC, (truth_HWC,) * HORIZON, {'model': shown_BTHWC}))
    found = horizons.results()
    mask_BHW = metrics.changed_mask(last_HWC, truth_HWC)[None]
    for who, image_HWC in (('model', shown_HWC), ('copy_last', last_HWC)):
        own, truth = perceptual.embed(image_HWC[None]), perceptual.embed(truth_HWC[None])
        (masked,) = perceptual.between(own, truth, mask_BHW)
        (whole,) = perceptual.between(own, truth)
        assert found['perceptual'][who]['25'] == pytest.approx(masked, abs=1e-4)
        assert found['perceptual_whole'][who]['25'] == pytest.approx(whole, abs=1e-4)
        assert masked > 1.5 * whole


def test_cut_pictures_are_those_of_the_cameras() -> None:
    whole = future(False)
    for camera, view in enumerate(whole.of_cameras(3)):
        np.testing.assert_array_equal(view.last_HWC, pictures(ANCHOR)[camera])
        np.testing.assert_array_equal(view.truths[4], untile(whole.truths[4], 3)[camera])
        np.testing.assert_array_equal(view.imagined_BTHWC['model'][2, 9], pictures(109)[camera])
    assert whole.of_cameras(1) == [whole]


def test_ssim_of_nothing_that_changed_is_none() -> None:
    image_HWC = square(3)
    assert pixels.ssim(image_HWC, image_HWC, pixels.changed(image_HWC, image_HWC)) == (None, 1.0)


def test_a_replay_of_three_cameras_names_them() -> None:
    from wm_ros.evaluation.replay import Replay
    from wm_ros.evaluation.replay_hooks import Hooks

    replay = Replay([], three_eyed(), 100, 0, Hooks(), lambda: 0)
    assert list(replay.horizons.results()['psnr_by_camera']) == list(NAMES)
