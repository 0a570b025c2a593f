"""Several bags through one package: pooled figures are those of all futures, and one broken bag
does not cost the others theirs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_bags import contract, write_bag

from wm_ros import cli
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
        'one_step': {'frames': count, 'changed_frames': changed, **dict.fromkeys(names, one_step)},
        'by_horizon': {
            'anchors': count,
            'anchors_broken_off': 1,
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


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(replay_run, 'installed', lambda *_: replay_hooks.Hooks())
    monkeypatch.setattr(replay_run, 'write_page', lambda path, *_: path.write_text('page'))
    return write_toy_package(tmp_path / 'toy', contract()).path


def replay(package: Path, out: Path, bags: list[Path], *words: str) -> int:
    given = ['replay', *map(str, bags), '--package', str(package), '--backend', 'toy']
    return cli.main([*given, '--out', str(out), *words])


def test_two_bags_give_a_folder_each_and_a_page_over_both(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [write_bag(tmp_path / name, frames) for name, frames in (('b', 60), ('a', 90))]
    out = tmp_path / 'out'
    assert replay(package, out, bags, '--fail-if', 'psnr@25 < 0') == 0
    assert {path.name for path in out.iterdir()} == {'a', 'b', 'index.html', 'summary.json'}
    summary = json.loads((out / 'summary.json').read_text())
    found = [json.loads((out / name / 'metrics.json').read_text()) for name in ('a', 'b')]
    assert summary['pooled'] == json.loads(json.dumps(pool(found)))
    assert [bag['steps'] for bag in summary['bags']] == [90, 60]
    assert summary['complete'] and len(summary['verdicts']) == 4
    assert str(tmp_path) not in json.dumps(summary)
    page = (out / 'index.html').read_text()
    assert 'href="a/report.html"' in page and 'href="b/report.html"' in page
    assert page.count('<img') >= 2 * 2 + 1 and page.index('<img') < page.index('<table')
    assert summary['notes'] == []
    said = capsys.readouterr().out
    assert 'bag 1 of 2: a' in said and 'passed psnr@25 < 0' in said
    assert replay(package, out, bags, '--fail-if', 'psnr@25 > 0') == 2


def test_a_broken_bag_among_good_ones_is_named(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_bag(tmp_path / 'good', 60)
    bad = write_bag(tmp_path / 'bad', 5, broken=0)
    assert replay(package, tmp_path / 'out', [good, bad]) == 1
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    errors = {bag['name']: bag['error'] for bag in summary['bags']}
    assert errors['good'] is None and 'message 1 of /camera/image_raw' in errors['bad']
    assert not summary['complete'] and summary['pooled']['steps'] == 60
    assert 'not used' in (tmp_path / 'out' / 'index.html').read_text()
    capsys.readouterr()
    other = write_bag(tmp_path / 'other', 5, broken=0)
    assert replay(package, tmp_path / 'none', [other, bad]) == 1
    assert str(bad) in (said := capsys.readouterr().err) and str(other) in said


def test_what_is_to_be_known_of_the_bags_is_on_the_page(tmp_path: Path, package: Path) -> None:
    bags, out = {'a': write_bag(tmp_path / 'a', 60)}, tmp_path / 'out'
    order = replay_run.Order(bags['a'], str(package), backend='toy')
    assert run_several(order, bags, out, notes=['Unknown: <all>']) == 0
    assert json.loads((out / 'summary.json').read_text())['notes'] == ['Unknown: <all>']
    page = (out / 'index.html').read_text()
    assert 0 < page.index('Unknown: &lt;all&gt;') < page.index('<img')
