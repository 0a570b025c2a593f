"""Several bags through one package: pooled figures are those of all futures, and one broken bag
does not cost the others theirs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_bags import contract, metrics_of, poison_sixth, write_bag
from replay_bags import wm_replay as replay

from wm_ros.evaluation import replay_hooks, replay_run
from wm_ros.evaluation.fail_if import judge, parse
from wm_ros.evaluation.replay_futures import HORIZON
from wm_ros.evaluation.replay_lags import KINDS, NAMES
from wm_ros.evaluation.replay_several import run_several
from wm_ros.evaluation.replay_summary import pool, verdicts
from wm_ros.toy_package import write_toy_package

FRAMES = [str(h) for h in range(1, HORIZON + 1)]
MARKS = ('1', '5', '10', '25')


def figures(count: int, changed: int, level: float) -> dict[str, Any]:
    """What one bag may have given: the copy always 20 dB and .5 away."""

    def rows(model: float, copy: float, places: Any = FRAMES) -> dict[str, Any]:
        return {'model': dict.fromkeys(places, model), 'copy_last': dict.fromkeys(places, copy)}

    one_step = {'model': level, 'copy_last': 20.0}
    names = ('psnr', 'psnr_whole', 'ssim', 'ssim_whole', 'sharpness', 'motion', 'drift')
    empty = {'cells': 0}
    cells = {'cells': count, 'model': level, 'copy_last': None}
    return {
        'steps': count,
        'missing': 1,
        'packages': {'model': {'not_finite': 0}},
        'one_step': {
            'frames': count,
            'changed_frames': changed,
            'not_finite': 0,
            **dict.fromkeys(names, one_step),
        },
        'by_horizon': {
            'anchors': count,
            'anchors_broken_off': 1,
            'not_finite': 0,
            'counts': dict.fromkeys(FRAMES, count),
            'changed_counts': dict.fromkeys(FRAMES, changed),
            'psnr': rows(level, 20.0),
            'psnr_whole': rows(level, 20.0),
            'ssim': rows(0.9, 0.8, MARKS),
            'ssim_whole': rows(0.9, 0.8, MARKS),
            'perceptual': rows(level / 100, 0.5, MARKS),
            'perceptual_whole': rows(level / 100, 0.5, MARKS),
            'delta_hold': {'model': dict.fromkeys(FRAMES, level - 20)},
            'delta_shifted': {'model': dict.fromkeys(FRAMES, level - 20)},
        },
        'free_running': {
            'not_finite': 0,
            'counts': {'5s': 1, '10s': 0},
            'changed_counts': {'5s': 5, '10s': 0},
            **{n: rows(level, 20.0, ('5s',)) for n in ('psnr', 'psnr_whole')},
            **{key: {} for key in ('ssim', 'ssim_whole', 'perceptual', 'perceptual_whole')},
        },
        'by_lag': {kind: {n: cells if n == NAMES[0] else empty for n in NAMES} for kind in KINDS},
    }


def test_means_are_weighted_by_what_they_were_made_of() -> None:
    pooled = pool([figures(30, 10, 22.0), figures(10, 30, 26.0)])
    assert (pooled['steps'], pooled['missing']) == (40, 2)
    horizons = pooled['by_horizon']
    assert (horizons['anchors'], horizons['counts']['7']) == (40, 40)
    assert horizons['psnr']['model']['7'] == horizons['delta_hold']['model']['7'] + 20 == 25.0
    assert horizons['psnr_whole']['model']['7'] == 23.0  # of all futures, not of changed ones
    assert horizons['perceptual']['model']['10'] == 0.25
    assert horizons['perceptual_whole']['model']['10'] == 0.23
    assert horizons['perceptual']['copy_last'] == dict.fromkeys(MARKS, 0.5)
    assert pooled['one_step']['psnr']['model'] == 25.0
    assert pooled['one_step']['ssim']['model'] == 25.0
    assert pooled['one_step']['ssim_whole']['model'] == 23.0
    assert pooled['free_running']['psnr']['model'] == {'5s': 24.0, '10s': None}
    bucket = pooled['by_lag']['distinct'][NAMES[0]]
    error = 0.75 * 10**-2.2 + 0.25 * 10**-2.6
    assert bucket['cells'] == 40 and 'copy_last' not in bucket
    assert bucket['model'] == pytest.approx(-10 * np.log10(error), abs=1e-4)
    alone = pool([figures(30, 10, 22.0)])
    assert alone['by_horizon'] == figures(30, 10, 22.0)['by_horizon']
    assert judge(parse('psnr@25 < copy_last'), pooled).failed is False
    assert judge(parse('perceptual@5 > 0.2'), pooled).failed is True


def test_bags_without_a_figure_do_not_count_for_it() -> None:
    still = figures(50, 0, 22.0)
    for rows in still['by_horizon']['psnr'].values():
        rows.update(dict.fromkeys(FRAMES, None))
    pooled = pool([still, figures(10, 5, 26.0)])
    assert pooled['by_horizon']['psnr']['model']['5'] == 26.0
    no_lags = figures(10, 5, 26.0) | {'by_lag': None}
    assert pool([no_lags])['by_lag'] is None


def test_verdicts_say_what_holds_and_by_how_much() -> None:
    def told(model_db: float, **changes: Any) -> list[bool | None]:
        one = figures(10, 10, model_db)
        one['by_horizon'] |= changes
        return [verdict.holds for verdict in verdicts(pool([one]))]

    assert told(22.0) == [True] * 4
    assert told(19.0) == [False, True, False, False]
    assert told(22.0, perceptual={}) == [True, None, True, True]
    # One horizon that is no better is enough, from 5 frames on and not before.
    for at, holds in (('4', True), ('5', False), ('17', False)):
        rows = figures(10, 10, 22.0)['by_horizon']['psnr']
        rows['model'][at] = 20.0
        assert told(22.0, psnr=rows)[0] is holds, at
    (first, *_) = verdicts(pool([figures(10, 10, 22.0)]))
    assert str(first) == (
        'beats copy-last from 5 frames on, PSNR of what changes: yes (least at 5 ahead: +2 dB)'
    )


def test_verdicts_do_not_hold_on_what_is_left() -> None:
    """39 of 40 futures of a bag were not finite: the one that is left proves nothing."""
    good, hurt = figures(40, 40, 20.5), figures(1, 1, 30.0)
    hurt['packages']['model']['not_finite'] = hurt['by_horizon']['not_finite'] = 39
    pooled = pool([good, hurt])
    assert pooled['packages']['model']['not_finite'] == pooled['by_horizon']['not_finite'] == 39
    assert pooled['by_horizon']['psnr']['model']['5'] == round((40 * 20.5 + 30) / 41, 4)
    told = verdicts(pooled)
    assert [one.holds for one in told] == [False] * 4
    assert str(told[0]).startswith(
        'beats copy-last from 5 frames on, PSNR of what changes: NO '
        '(39 outputs of model were not finite; of what is left least at 5 ahead: +0.7'
    )
    assert judge(parse('psnr@25 < copy_last'), pooled).failed
    assert [one.holds for one in verdicts(pool([good]))] == [True] * 4


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(replay_run, 'installed', lambda *_: replay_hooks.Hooks())
    monkeypatch.setattr(replay_run, 'write_page', lambda path, *_: path.write_text('page'))
    return write_toy_package(tmp_path / 'toy', contract()).path


def test_two_bags_give_a_folder_each_and_a_page_over_both(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [write_bag(tmp_path / name, frames) for name, frames in (('b', 60), ('a', 90))]
    out = tmp_path / 'out'
    assert replay(bags, package, out, '--fail-if', 'psnr@25 < 0') == 0
    assert {path.name for path in out.iterdir()} == {'a', 'b', 'index.html', 'summary.json'}
    summary = json.loads((out / 'summary.json').read_text())
    found = [metrics_of(out / name) for name in ('a', 'b')]
    assert summary['pooled'] == json.loads(json.dumps(pool(found)))
    assert [bag['steps'] for bag in summary['bags']] == [90, 60]
    assert summary['complete'] and len(summary['verdicts']) == 4
    for bag, metrics in zip(summary['bags'], found, strict=True):
        alone = [str(verdict) for verdict in verdicts(pool([metrics]))]
        told = [one['question'] for one in bag['verdicts']]
        assert [line.split(':')[0] for line in alone] == told, 'of every bag'
    assert str(tmp_path) not in json.dumps(summary)
    page = (out / 'index.html').read_text()
    assert 'href="a/report.html"' in page and 'href="b/report.html"' in page
    assert page.count('<img') >= 2 * 2 + 1 and page.index('<img') < page.index('<table')
    assert summary['notes'] == []
    said = capsys.readouterr().out
    missed = [
        f'{bag["name"]} alone {one["question"]}: '
        for bag in summary['bags']
        for one in bag['verdicts']
        if one['holds'] is False
    ]
    assert missed and all(line in said for line in missed), 'what is lost in the mean is said'
    assert page.count('This bag alone') == len({line.split()[0] for line in missed})
    assert 'bag 1 of 2: a' in said and 'passed psnr@25 < 0' in said
    assert replay(bags, package, out, '--fail-if', 'psnr@25 > 0') == 2


def test_a_single_bag_used_is_not_judged_twice(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [write_bag(tmp_path / 'good', 60), write_bag(tmp_path / 'bad', 5, broken=0)]
    assert replay(bags, package, tmp_path / 'out') == 1
    assert 'NO' in (said := capsys.readouterr().out) and 'alone' not in said
    assert 'This bag alone' not in (tmp_path / 'out' / 'index.html').read_text()


def test_a_broken_bag_among_good_ones_is_named(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_bag(tmp_path / 'good', 60)
    bad = write_bag(tmp_path / 'bad', 5, broken=0)
    assert replay([good, bad], package, tmp_path / 'out') == 1
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    errors = {bag['name']: bag['error'] for bag in summary['bags']}
    assert errors['good'] is None and 'message 1 of /camera/image_raw' in errors['bad']
    assert not summary['complete'] and summary['pooled']['steps'] == 60
    assert 'not used' in (tmp_path / 'out' / 'index.html').read_text()
    capsys.readouterr()
    other = write_bag(tmp_path / 'other', 5, broken=0)
    assert replay([other, bad], package, tmp_path / 'none') == 1
    assert str(bad) in (said := capsys.readouterr().err) and str(other) in said


def test_a_condition_on_what_is_not_given_is_refused_before_the_first_bag(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [write_bag(tmp_path / name, 5) for name in 'ab']
    assert replay(bags, package, tmp_path / 'out', '--fail-if', 'psnr < second') == 1
    assert 'needs --compare' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_results_of_an_earlier_run_over_several_bags_go(tmp_path: Path, package: Path) -> None:
    good, bad = write_bag(tmp_path / 'a', 30), write_bag(tmp_path / 'b', 30)
    out = tmp_path / 'out'
    assert replay([good, bad], package, out) == 0
    (out / 'b' / 'notes.txt').write_text('mine')
    (bad / 'faults.json').write_text('{')
    assert replay([good, bad], package, out) == 1
    assert [path.name for path in (out / 'b').iterdir()] == ['notes.txt']
    summary = (out / 'summary.json').read_text()
    (good / 'faults.json').write_text('{')
    assert replay([good, bad], package, out) == 1
    assert (out / 'summary.json').read_text() == summary, 'none can be used: refused'
    (bad / 'faults.json').unlink()
    write_bag(tmp_path / 'c', 5, broken=0)
    assert replay([tmp_path / 'c', tmp_path / 'none'], package, out) == 1
    assert not (out / 'summary.json').exists() and not (out / 'index.html').exists()
    assert (out / 'a' / 'metrics.json').exists(), 'not of this run'


def test_outputs_that_are_not_finite_are_named_in_the_summary(
    tmp_path: Path,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    poison_sixth(monkeypatch)
    bags = [write_bag(tmp_path / name, 40) for name in 'ab']
    assert replay(bags, package, tmp_path / 'out', '--fail-if', 'psnr < 0') == 2
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert [bag['not_finite'] for bag in summary['bags']] == [1, 0]
    assert summary['packages']['model']['not_finite'] == 1
    assert summary['pooled']['one_step']['not_finite'] == 1
    said, page = capsys.readouterr().out, (tmp_path / 'out' / 'index.html').read_text()
    for text in (said, page):
        assert '1 outputs of model were not finite; left out for all: 1 pictures one' in text
    assert 'futures; 1 outputs of model were not finite' in page, 'beside its bag'


def test_what_is_to_be_known_of_the_bags_is_on_the_page(tmp_path: Path, package: Path) -> None:
    bags, out = {'a': write_bag(tmp_path / 'a', 60)}, tmp_path / 'out'
    order = replay_run.Order(bags['a'], str(package), backend='toy')
    assert run_several(order, bags, out, notes=['Unknown: <all>']) == 0
    assert json.loads((out / 'summary.json').read_text())['notes'] == ['Unknown: <all>']
    page = (out / 'index.html').read_text()
    assert 0 < page.index('Unknown: &lt;all&gt;') < page.index('<img')
