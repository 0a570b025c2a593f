"""Calibration of the uncertainty: what is measured in a bag, what judged on what, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planning_world import CONTRACT, A, toy_model

from wm_ros import cli
from wm_ros.bag import BagRecorder, iter_steps
from wm_ros.bag.stream import StreamRecorder
from wm_ros.evaluation import calibration_report
from wm_ros.evaluation.calibration import Plan, calibrate, check_bags, measure
from wm_ros.evaluation.calibration_scores import (
    Sample,
    expected_errors,
    judge,
    judged_samples,
    reliability,
    score,
    values,
)
from wm_ros.manifest import Calibration, Planning
from wm_ros.model_package import MANIFEST, ModelPackage, PackageError
from wm_ros.planning.query import Start
from wm_ros.planning.rollouts import Rollouts
from wm_ros.planning.uncertainty import expected_calibration_error, spread
from wm_ros.world_model import WorldModel

FRAMES = 90
PLAN = Plan(draws=3, every=4, seed=5, horizons=(1, 2, 5), warm_up=10)


def record(path: Path, seed: int, frames: int = FRAMES, missing: tuple[int, ...] = ()) -> Path:
    """A bag of soft pictures that change; frames in `missing` are left out, not their commands."""
    rng = np.random.default_rng(seed)
    with BagRecorder(path) as recorder:
        stream = StreamRecorder(recorder, CONTRACT)
        for index in range(frames):
            stamp_ns = 1_000_000_000 + index * CONTRACT.period_ns
            stream.write_action(rng.uniform(0.05, 0.15, A), stamp_ns)
            colour = rng.integers(0, 256, 3, np.uint8)
            if index not in missing:
                stream.write_frame(np.full((64, 64, 3), colour, np.uint8), stamp_ns)
    return path


@pytest.fixture
def model(tmp_path: Path) -> WorldModel:
    return toy_model(tmp_path / 'toy')


def rollouts_for(model: WorldModel, plan: Plan = PLAN) -> Rollouts:
    return Rollouts(model, 8, plan.draws, plan.draws * plan.horizons[-1])


def sample(bag: int, horizon: int, spread: float, error: float) -> Sample:
    return Sample(bag, 0, horizon, spread, error, centre_error=error / 2, copy_error=1.0)


def test_a_sample_is_what_a_live_query_would_have_said(model: WorldModel, tmp_path: Path) -> None:
    """The longest horizon against a query from that frame, the command in force latched."""
    bag = record(tmp_path / 'bag', 1)
    found = list(measure(model, rollouts_for(model), bag, CONTRACT, PLAN, 2))
    anchors = sorted({s.anchor for s in found})
    rng = np.random.default_rng([PLAN.seed, 2])
    first = PLAN.warm_up + int(rng.integers(PLAN.every))
    assert anchors == list(range(first, FRAMES - 5, PLAN.every))
    assert [s.horizon for s in found] == list(PLAN.horizons) * len(anchors)
    assert all(s.bag == 2 for s in found)
    seeds = {anchor: int(rng.integers(2**63)) for anchor in anchors}

    steps = list(iter_steps(bag, CONTRACT))
    memory, memories, latents = model.reset(), [], []
    for step in steps:
        memory = model.observe(memory, step)
        memories.append(memory)
        assert step.frame is not None
        latents.append(model.encode(step.frame.image_HWC[None])[0])
    actions_TA = np.stack([step.action_A for step in steps])
    for at in (anchors[0], anchors[-1]):
        live = rollouts_for(model)
        start = Start(memories[at], actions_TA[at])
        live.begin(start, actions_TA[None, at + 1 : at + 5], PLAN.draws, seeds[at])
        while live.unit():
            pass
        latents_MCHW = live.latents_KMTCHW[0, :, -1]
        assert start.frames_ahead(4) == 5
        (one,) = [s for s in found if (s.anchor, s.horizon) == (at, 5)]
        assert one.spread == spread(latents_MCHW[None])[0] > 0
        gap_MCHW = latents_MCHW.astype(np.float64) - latents[at + 5]
        assert one.error == pytest.approx(np.sqrt((gap_MCHW**2).mean()), rel=1e-6)
        assert one.centre_error == pytest.approx(np.sqrt((gap_MCHW.mean(0) ** 2).mean()), rel=1e-5)
        copied = latents[at].astype(np.float64) - latents[at + 5]
        assert one.copy_error == pytest.approx(np.sqrt((copied**2).mean()))
        # The error of the draws is that of their mean and their spread around it.
        parts = one.centre_error**2 + one.spread**2 * (1 - 1 / PLAN.draws)
        assert one.error**2 == pytest.approx(parts, rel=1e-5)


def test_no_anchor_looks_across_a_reset_and_no_missing_frame_is_a_truth(
    model: WorldModel, tmp_path: Path
) -> None:
    gap = tuple(range(40, 70))  # longer than any gap that is bridged
    bag = record(tmp_path / 'bag', 1, 120, missing=(21, *gap))
    steps = list(iter_steps(bag, CONTRACT))
    resets = [frame for frame, step in enumerate(steps) if step.reset is not None]
    assert resets == [0, 40]
    assert [frame for frame, step in enumerate(steps) if step.frame is None] == [21]
    plan = replace(PLAN, every=1)
    found = list(measure(model, rollouts_for(model, plan), bag, CONTRACT, plan))
    missing = {21}
    assert {s.anchor for s in found} == {*range(10, 35), *range(50, len(steps) - 5)} - missing
    expected = {
        (anchor, horizon)
        for anchor in {s.anchor for s in found}
        for horizon in plan.horizons
        if anchor + horizon not in missing
    }
    assert {(s.anchor, s.horizon) for s in found} == expected


def test_the_same_seed_gives_the_same_samples(model: WorldModel, tmp_path: Path) -> None:
    bag = record(tmp_path / 'bag', 1)
    first, again, other = (
        list(measure(model, rollouts_for(model), bag, CONTRACT, plan))
        for plan in (PLAN, PLAN, replace(PLAN, seed=6))
    )
    assert first == again
    assert first != other


def test_scores_of_a_known_case_by_hand() -> None:
    """Even bags lie on error = 2 * spread; odd ones on error = 2 * spread + 0.5."""
    samples = [
        sample(bag, horizon, x, 2 * x + (0.5 if bag % 2 else 0.0))
        for bag in range(4)
        for horizon in (1, 4)
        for x in (1.0, 2.0, 3.0)
    ]
    outcome = judge(samples, draws=4)
    assert outcome.calibration.horizons == (1, 4)
    np.testing.assert_allclose(outcome.calibration.scale, [2, 2])
    np.testing.assert_allclose(outcome.calibration.offset, [0, 0], atol=1e-9)
    assert outcome.fitted.samples == outcome.overall.samples == 12
    assert outcome.fitted.ece == pytest.approx(0, abs=1e-6)
    overall = outcome.overall
    assert (overall.error, overall.expected, overall.spread) == pytest.approx((4.5, 4.0, 2.0))
    assert (overall.ece, overall.ece_relative) == pytest.approx((0.5, 0.5 / 4.5))
    assert (overall.spread_ece, overall.spread_ece_relative) == pytest.approx((2.5, 2.5 / 4.5))
    assert (overall.rank, overall.spread_rank, overall.centre_rank) == pytest.approx((1, 1, 1))
    assert overall.copy_error == 1.0
    assert {h: s.samples for h, s in outcome.by_horizon.items()} == {1: 6, 4: 6}


def test_the_half_that_is_judged_on_has_no_part_in_the_fit() -> None:
    rng = np.random.default_rng(0)
    samples = [
        sample(bag, 2, x, x + rng.uniform())
        for bag in range(4)
        for x in rng.uniform(0.1, 1, 20).tolist()
    ]
    kept = [s for s in samples if s.bag % 2 == 0]
    spoilt = [s if s in kept else replace(s, error=10 * s.error) for s in samples]
    before, after = judge(samples, 4), judge(spoilt, 4)
    assert before.calibration == after.calibration and before.fitted == after.fitted
    assert after.overall.ece > 3 * before.overall.ece
    assert before.overall == score(judged_samples(samples), before.calibration)
    with pytest.raises(ValueError, match='nothing to judge on 2 frames ahead'):
        judge(kept, 4)


def test_a_spread_that_says_nothing_has_no_rank() -> None:
    samples = [sample(bag, 1, x, 3 - x) for bag in (0, 1) for x in (1.0, 2.0)]
    outcome = judge(samples, 4)
    assert outcome.calibration.scale == (0.0,)
    assert np.isnan(outcome.overall.rank) and outcome.overall.spread_rank == pytest.approx(-1)
    figures = calibration_report.figures_of(outcome)
    assert figures['judged']['overall']['rank'] is None
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_the_diagrams_bins_are_those_of_the_calibration_error() -> None:
    rng = np.random.default_rng(3)
    samples = [sample(bag, 1, *rng.uniform(0.1, 1, 2).tolist()) for bag in (0, 1) * 50]
    outcome = judge(samples, 4)
    judged = judged_samples(samples)
    expected = expected_errors(judged, outcome.calibration)
    predicted, true = reliability(expected, values(judged, 'error'))
    assert len(predicted) == 10 and (np.diff(predicted) >= 0).all()
    ece = expected_calibration_error(expected, values(judged, 'error'))[0]
    assert np.abs(predicted - true).mean() == pytest.approx(ece)


def test_bags_go_by_turns_into_the_halves(model: WorldModel, tmp_path: Path) -> None:
    bags = [record(tmp_path / f'bag{seed}', seed, 40) for seed in range(4)]
    told = []
    outcome = calibrate(model, CONTRACT, bags, PLAN, lambda *which: told.append(which))
    assert [number for number, _ in told] == [0, 1, 2, 3]
    fitted = [s for s in outcome.samples if s.bag in (0, 2)]
    assert outcome.fitted.samples == len(fitted)
    assert outcome.overall.samples == len(outcome.samples) - len(fitted)
    alone = list(measure(model, rollouts_for(model), bags[3], CONTRACT, PLAN, 3))
    assert [s for s in outcome.samples if s.bag == 3] == alone


def test_bags_that_cannot_be_halved_are_refused(tmp_path: Path) -> None:
    bag = record(tmp_path / 'bag', 1, 3)
    with pytest.raises(ValueError, match=r'1 bag: expected 2 or more'):
        check_bags([bag])
    for same in (bag, bag / 'bag_0.mcap', tmp_path / 'x' / '..' / 'bag'):
        with pytest.raises(ValueError, match='given twice'):
            check_bags([bag, same])
    check_bags([bag, tmp_path / 'bag2'])


def command(folder: Path, *more: str) -> list[str]:
    bags = [str(folder / name) for name in ('first', 'second')]
    out = ['--backend', 'toy', '--out', str(folder / 'out')]
    return ['calibrate', str(folder / 'toy'), *bags, *out, *more]


@pytest.fixture
def world(model: WorldModel, tmp_path: Path) -> Path:
    record(tmp_path / 'first', 1, 100)
    record(tmp_path / 'second', 2, 100)
    return tmp_path


def test_the_command_shows_and_writes_what_it_found(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (world / 'toy' / MANIFEST).read_bytes()
    assert cli.main(command(world, '--every', '3')) == 0
    out = capsys.readouterr().out
    figures = json.loads((world / 'out' / 'calibration.json').read_text())
    overall = figures['judged']['overall']
    # 26 anchors at most with 50 frames before and 24 after; 6 horizons each.
    assert overall['samples'] == 6 * figures['bags'][1]['anchors'] > 6 * 7
    assert [bag['part'] for bag in figures['bags']] == ['fit', 'judge']
    assert set(figures['judged']['by_horizon']) == {'1', '2', '4', '8', '16', '24'}
    assert figures['calibration']['draws'] == figures['plan']['draws'] == 4
    assert figures['command'].startswith('wm calibrate ') and figures['engine'] == 'toy fp32'
    for words in (
        f'judge  {world / "second"}: {figures["bags"][1]["anchors"]} anchors',
        f'{overall["samples"]} samples',
        f'{overall["ece"]:.4f} ({100 * overall["ece_relative"]:.1f}% of the mean error)',
    ):
        assert words in out
    assert '…' not in out  # the table fits a terminal of 80 columns
    assert (world / 'out' / 'reliability.png').read_bytes().startswith(b'\x89PNG')
    assert (world / 'toy' / MANIFEST).read_bytes() == before


def test_write_changes_the_calibration_and_nothing_else(world: Path) -> None:
    place = world / 'toy' / MANIFEST
    place.chmod(0o640)
    before = json.loads(place.read_text())
    files = sorted(path.name for path in place.parent.iterdir())
    assert cli.main(command(world, '--draws', '2', '--write')) == 0
    after = json.loads(place.read_text())
    assert list(after) == list(before) and list(after['planning']) == list(before['planning'])
    uncertainty = after['planning'].pop('uncertainty')
    assert before['planning'].pop('uncertainty') is None
    assert before['planning'].pop('goal_db') is None
    goals = json.loads((world / 'out' / 'calibration.json').read_text())['goals']
    assert after['planning'].pop('goal_db') == goals['goal_db']
    assert after == before
    assert sorted(path.name for path in place.parent.iterdir()) == files
    assert place.stat().st_mode & 0o777 == 0o640
    found = ModelPackage.load(place.parent).manifest.planning.uncertainty
    assert found == Calibration.from_dict(uncertainty) and found.draws == 2
    wanted = json.loads((world / 'out' / 'calibration.json').read_text())['calibration']
    assert uncertainty == wanted
    assert (
        cli.main(command(world, '--draws', '3', '--write')) == 0
    )  # a second time, over the first
    assert json.loads(place.read_text())['planning']['uncertainty']['draws'] == 3


@pytest.mark.parametrize(
    ('more', 'words'),
    [
        (['--draws', '1'], 'draws: found 1, expected 2 to 64'),
        (['--every', '0'], 'every: found 0, expected 1 to'),
        (['--contract', 'g1_bottle'], 'g1_bottle'),
        (['--backend', 'nosuch'], "backend 'nosuch'"),
    ],
)
def test_wrong_options_are_one_line(
    world: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert cli.main(command(world, *more)) == 1
    err = capsys.readouterr().err
    assert words in err and err.startswith('wm: error: ') and err.count('\n') == 1


def test_bags_that_do_not_do_are_one_line(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(world / 'short', 3, 60)
    package, first = str(world / 'toy'), str(world / 'first')
    for bags, words in (
        ([first], '1 bag: expected 2 or more'),
        ([first, first], 'given twice'),
        ([first, str(world / 'nowhere')], f'no bag at {world / "nowhere"}'),
        ([first, str(world / 'short')], 'short: nothing to measure, expected 50 frames, then 32'),
    ):
        out = ['--backend', 'toy', '--out', str(world / 'out'), '--write']
        assert cli.main(['calibrate', package, *bags, *out]) == 1
        err = capsys.readouterr().err
        assert words in err and err.count('\n') == 1, err
    assert json.loads((world / 'toy' / MANIFEST).read_text())['planning']['uncertainty'] is None


def test_packages_that_must_not_be_written_are_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = tmp_path / 'prefix'
    installed = prefix / 'share' / 'wm_ros' / 'packages' / 'toy'
    toy_model(installed)
    toy_model(tmp_path / 'locked')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(prefix))
    monkeypatch.setattr(
        calibration_report.os, 'access', lambda path, mode: 'locked' not in str(path)
    )
    for package, words in (
        (installed, f'{installed} is an installed copy'),
        (tmp_path / 'locked', f'{tmp_path / "locked" / MANIFEST} cannot be written to'),
        (tmp_path / 'none', 'no model package'),
    ):
        arguments = ['calibrate', str(package), 'a', 'b', '--backend', 'toy', '--write']
        assert cli.main(arguments) == 1
        out, err = capsys.readouterr()
        assert words in err and out == ''


def test_a_manifest_that_changed_in_between_is_left_alone(tmp_path: Path) -> None:
    package = toy_model(tmp_path / 'toy').package
    calibration = Calibration(4, (1,), (0.0,), (1.0,))
    other = toy_model(tmp_path / 'toy', planning=Planning(batch=4)).package
    with pytest.raises(PackageError, match='changed while it was calibrated'):
        calibration_report.write_calibration(package, calibration, 30.0)
    assert ModelPackage.load(tmp_path / 'toy') == other
    calibration_report.write_calibration(other, calibration, 30.0)
    assert ModelPackage.load(tmp_path / 'toy').manifest.planning == Planning(4, calibration, 30.0)
