"""The parts of a replay one by one: distances, tallies, futures, free runs, returning cells."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_bags import contract, made, run, square, steps, toy_model

from wm_ros.evaluation import metrics
from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay import Replay
from wm_ros.evaluation.replay_free import choose_anchors
from wm_ros.evaluation.replay_futures import HELD, LATE, SETTLED, TRUE, Future
from wm_ros.evaluation.replay_hooks import Hooks
from wm_ros.evaluation.replay_horizons import Verdict
from wm_ros.evaluation.replay_lags import bucket_of
from wm_ros.evaluation.replay_moments import SAMPLE, Moments
from wm_ros.evaluation.replay_tally import Tally, Timeline, Times
from wm_ros.evaluation.replay_window import SPAN
from wm_ros.world_model import WorldModel


@pytest.fixture
def model(tmp_path: Path) -> WorldModel:
    return toy_model(tmp_path / 'toy')


def test_fast_distances_are_those_of_the_plain_twin() -> None:
    rng = np.random.default_rng(0)
    a_HWC, b_HWC = rng.integers(0, 256, (2, 24, 32, 3), np.uint8)
    b_HWC[:12] = a_HWC[:12]
    mask_HW = pixels.changed(a_HWC, b_HWC)
    assert (mask_HW == metrics.changed_mask(a_HWC, b_HWC)).all() and 0 < mask_HW.mean() < 1
    for mask in (None, mask_HW > 0):
        fast = None if mask is None else mask.astype(np.uint8)
        assert pixels.psnr(a_HWC, b_HWC, fast) == pytest.approx(metrics.psnr(a_HWC, b_HWC, mask))
    assert pixels.psnr(a_HWC, a_HWC) == metrics.psnr(a_HWC, a_HWC) == 60.0
    assert pixels.psnr(a_HWC, b_HWC, 0 * mask_HW) is None
    wanted = np.abs(a_HWC.astype(int) - b_HWC).mean() / 255
    assert pixels.motion(a_HWC, b_HWC) == pytest.approx(wanted)
    half_HWC = (a_HWC // 2).astype(np.uint8)
    assert pixels.gradient_energy(half_HWC) == pytest.approx(
        pixels.gradient_energy(a_HWC) / 4, rel=0.05
    )


def test_a_tally_gives_means_and_ratios_of_sums() -> None:
    tally = Tally()
    for value, weight in ((1.0, 2.0), (3.0, 2.0)):
        tally.add('ratio', 'model', 5, value, weight)
    tally.add('mean', 'model', 1, None)
    tally.add('mean', 'copy_last', 1, 2.0)
    assert tally.mean('ratio', 'model', 5) == 1.0 and tally.count('ratio', 'model', 5) == 2
    assert tally.table('mean', (1, 2)) == {'copy_last': {'1': 2.0, '2': None}}


def test_percentiles_of_times_are_right_to_one_percent() -> None:
    times = Times()
    assert times.percentile(50) is None
    values = np.random.default_rng(0).lognormal(2, 1, 5000)
    for value in values:
        times.add(value)
    for percent in (50, 90, 99):
        wanted = np.percentile(values, percent)
        assert times.percentile(percent) == pytest.approx(wanted, rel=0.011)


def test_a_timeline_has_a_part_for_every_step() -> None:
    timeline = Timeline(10, parts=4)
    assert [timeline.part_of(n) for n in range(12)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert [timeline.part_of(n) for n in timeline.middles()] == [0, 1, 2, 3]
    assert Timeline(0).parts == 1


def test_futures_have_true_held_and_late_commands_and_one_noise(
    tmp_path: Path, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    imagine = model.imagine

    def imagining(memory: Any, actions: Any, noise: Any, **given: Any) -> Any:
        if actions.shape[1] == 25:
            calls.append((memory, actions, noise))
        return imagine(memory, actions, noise, **given)

    monkeypatch.setattr(model, 'imagine', imagining)
    taken = steps(tmp_path, 100)
    run(made(model, 100), taken)
    assert [actions.shape[0] for _, actions, _ in calls] == [12, 3], 'four anchors, then the rest'
    commands_TA = np.stack([step.action_A for step in taken])
    memory, actions_BTA, noise_BTDCHW = calls[0]
    for place, anchor in enumerate((30, 40, 50, 60)):
        rows = actions_BTA[3 * place : 3 * place + 3]
        np.testing.assert_array_equal(rows[TRUE], commands_TA[anchor : anchor + 25])
        np.testing.assert_array_equal(rows[HELD], np.tile(commands_TA[anchor], (25, 1)))
        np.testing.assert_array_equal(rows[LATE], commands_TA[anchor - 5 : anchor + 20])
        noise = noise_BTDCHW[3 * place : 3 * place + 3]
        np.testing.assert_array_equal(noise, np.repeat(noise[:1], 3, 0))
        latent = model.encode(taken[anchor].frame.image_HWC[None])[0]
        for row in range(3):
            np.testing.assert_array_equal(memory.arrays['latents'][3 * place + row, 0], latent)
    assert not np.array_equal(noise_BTDCHW[0], noise_BTDCHW[3])


def test_a_future_that_is_not_finite_does_not_cost_the_others_theirs(
    tmp_path: Path, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = steps(tmp_path, 90)
    marked = model.encode(taken[40].frame.image_HWC[None])[0]
    backend_run = model.backend.run

    def poisoned(graph: str, inputs: Any) -> Any:
        outputs = backend_run(graph, inputs)
        if graph == 'predict' and len(inputs['action']) > 1:
            bad = (inputs['memory_latents'][:, 0] == marked).all((1, 2, 3))
            outputs['latent'][bad] = np.nan
        return outputs

    monkeypatch.setattr(model.backend, 'run', poisoned)
    replay = made(model, 90)
    run(replay, taken)
    found = replay.horizons.results()
    assert replay.contenders[0].not_finite == 1
    assert replay.horizons.tally.count('psnr_whole', 'model', 25) == 3
    assert found['counts']['25'] == replay.futures.made == 3, 'copy-last is over the same three'
    assert replay.futures.not_finite == 1


def test_an_anchor_waits_for_others_no_longer_than_frames_are_kept(
    tmp_path: Path, model: WorldModel
) -> None:
    """Missing frames take 40 to 120 out, so 30 has no three others for long."""
    replay = made(model, 200)
    run(replay, steps(tmp_path, 200, missing=tuple(range(40, 130, 10))))
    assert replay.futures.made == 6  # 30 and 130 to 170
    assert SPAN >= 65 + 5 + 1


def test_free_runs_are_spread_and_leave_room_for_a_mark() -> None:
    chosen = choose_anchors(15_000, 25.0)
    assert len(chosen) == 20 and (chosen[0], chosen[-1]) == (250, 15_000 - 1 - 125 - 2)
    assert len({b - a for a, b in pairwise(chosen)}) <= 2
    assert choose_anchors(100, 25.0) == [] == choose_anchors(0, 25.0)
    assert choose_anchors(172, 25.0) == [43, 44]


def test_anchors_of_an_earlier_run_are_taken_as_far_as_the_bag_goes() -> None:
    def due(*anchors: int) -> list[int]:
        return Replay([], contract(), 300, 0, Hooks(), lambda: 0, anchors).free._due

    assert due(80, 172, 173, 400) == [80, 172]
    assert due(400) == due() == choose_anchors(300, 25.0)


def test_memories_settle_before_the_first_free_run() -> None:
    assert choose_anchors(60, 5.0)[0] == SETTLED > 60 // 4


def test_free_runs_imagine_with_true_commands_and_pass_missing_frames(
    tmp_path: Path, model: WorldModel
) -> None:
    replay = made(model, 330)
    replay.free._due[:] = [90, 140]
    taken = steps(tmp_path, 330, missing=(100, 217, 265))
    run(replay, taken)
    first, second = replay.free.runs
    assert (first.number, first.length, second.number, second.length) == (90, 239, 140, 189)
    results = replay.marks.results(replay.free)
    # 217 is a neighbour of the first run's mark; 265 is the second's mark itself.
    assert results['counts'] == {'5s': 1, '10s': 0, '30s': 0, '60s': 0}
    errors = [
        metrics.psnr(taken[90].frame.image_HWC, taken[n].frame.image_HWC) for n in range(213, 217)
    ]
    found = results['psnr_whole']['copy_last']['5s']
    assert found == pytest.approx(np.mean(errors), abs=1e-4)
    np.testing.assert_array_equal(first.truths[125], taken[215].frame.image_HWC)
    np.testing.assert_array_equal(first.actions_TA[7], taken[97].action_A)
    (strip,) = replay.marks.strips
    noise = _free_noise(model, 90, 127)
    actions_BTA = np.stack([step.action_A for step in taken[90:217]])[None]
    rollout = model.imagine(first.memories['model'], actions_BTA, noise)
    np.testing.assert_array_equal(strip.shown['model']['5s'], rollout.frames_BTHWC[0, 124])


def _free_noise(model: WorldModel, number: int, frames: int) -> np.ndarray:
    """Noise of a run, drawn 25 frames at a time."""
    rng = np.random.default_rng([0, 2, number])
    spans = [min(25, frames - done) for done in range(0, frames, 25)]
    return np.concatenate([model.noise(rng, 1, span) for span in spans], 1)


@dataclass(frozen=True)
class Cell:
    row: int
    column: int
    lag: int
    common: bool = False
    distinct: bool = True


class Finder:
    """Finds what it was told to."""

    def __init__(self, cells: dict[int, list[Cell]]) -> None:
        self.cells = cells
        self.resets = 0

    def look(self, index: int, image_HWC: np.ndarray) -> list[Cell]:
        return self.cells.get(index, [])

    def reset(self) -> None:
        self.resets += 1


def test_cells_that_come_back_are_scored_once_and_by_lag(
    tmp_path: Path, model: WorldModel
) -> None:
    cells = {
        34: [Cell(0, 0, 30)],  # 4 ahead of 30: too near, and of no earlier anchor
        35: [Cell(0, 0, 30), Cell(1, 2, 600, common=True), Cell(3, 1, 60, distinct=False)],
        44: [Cell(7, 7, 2000)],
        45: [Cell(2, 2, 30)],
    }
    finder = Finder(cells)
    replay = made(model, 100, Hooks(None, finder))
    taken = steps(tmp_path, 100, resets=(95,))
    run(replay, taken)
    found = replay.lags.results()
    counted = {
        kind: {name: bucket['cells'] for name, bucket in found[kind].items() if bucket['cells']}
        for kind in found
    }
    assert counted['distinct'] == {'25-50': 2, '>1500': 1}
    assert counted['hidden'] == {'25-50': 2, '50-125': 1, '>1500': 1}
    assert counted['all'] == {'25-50': 2, '50-125': 1, '500-1000': 1, '>1500': 1}
    assert finder.resets == 2
    cell = (slice(56, 64), slice(56, 64))  # 44 lies 14 ahead of 30
    truth_HWC, last_HWC = (taken[n].frame.image_HWC for n in (44, 30))
    wanted = pixels.psnr(last_HWC[cell], truth_HWC[cell])
    assert found['distinct']['>1500']['copy_last'] == pytest.approx(wanted, abs=1e-4)
    assert 'back after 2000 frames' in replay.moments.chosen()


def test_lags_fall_into_buckets() -> None:
    lags = (24, 25, 50, 51, 125, 250, 500, 1000, 1500, 1501)
    names = [None, '25-50', '25-50', '50-125', '50-125', '125-250', '250-500', '500-1000']
    assert [bucket_of(lag) for lag in lags] == [*names, '1000-1500', '>1500']


class Network:
    """Perceptual distance that is the difference of mean brightness; counts what it embeds."""

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, images_BHWC: np.ndarray) -> np.ndarray:
        self.embedded += len(images_BHWC)
        return images_BHWC.mean((1, 2, 3))

    def between(self, a: np.ndarray, b: np.ndarray, masks_BHW: Any = None) -> np.ndarray:
        return np.abs(a - b)


def test_perceptual_distance_at_four_horizons_and_each_truth_embedded_once(
    tmp_path: Path, model: WorldModel
) -> None:
    network = Network()
    replay = made(model, 120, Hooks(network))
    taken = steps(tmp_path, 120)
    run(replay, taken)
    table = replay.horizons.results()['perceptual']
    assert list(table) == ['model', 'copy_last'] and list(table['model']) == ['1', '5', '10', '25']
    anchors = range(30, 91, 10)
    means = [step.frame.image_HWC.mean() for step in taken]
    wanted = np.mean([abs(means[a + 25] - means[a]) for a in anchors])
    assert table['copy_last']['25'] == pytest.approx(wanted, abs=1e-4)
    truths = {a + h for a in anchors for h in (0, 1, 5, 10, 25)}
    assert network.embedded == 4 * len(anchors) + len(truths)
    assert len(replay.horizons._features) <= 8, 'those behind the newest anchor are forgotten'


def test_what_is_kept_does_not_grow_with_the_bag(model: WorldModel) -> None:
    moments = Moments()
    image_HWC = square(0)
    frames_BTHWC = np.broadcast_to(image_HWC, (3, 25, 64, 64, 3))
    rng = np.random.default_rng(0)
    values = rng.uniform(10, 30, 500)
    for number, value in enumerate(values):
        future = Future(10 * number, 0, image_HWC, (image_HWC,) * 25, {'model': frames_BTHWC})
        moments.consider(future, Verdict(value, 10.0, value / 40), int(value > 29) * number)
    assert len(moments._sample) <= SAMPLE
    chosen = moments.chosen()
    assert len(chosen) == 10
    assert chosen['worst (1)'].verdict.psnr_db == values.min()
    assert chosen['most in motion (1)'].verdict.psnr_db == values.max()
    assert chosen['typical'].verdict.psnr_db == pytest.approx(np.median(values), abs=2)
    numbers = sorted(strip.number for strip in moments.worst)
    assert all(b - a >= 50 for a, b in pairwise(numbers))
