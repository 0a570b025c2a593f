"""`wm replay --baseline`: an earlier run beside the new one, and the faults of a bad bag."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from replay_bags import contract, metrics_of, write_bag
from replay_bags import wm_replay as replay

from wm_ros import cli
from wm_ros.evaluation import replay_figures, replay_hooks, replay_page, replay_run
from wm_ros.evaluation.replay_baseline import BaselineError, load_baseline, with_baseline
from wm_ros.evaluation.replay_result import FORMAT
from wm_ros.toy_package import write_toy_package


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_package(tmp_path_factory.mktemp('package') / 'toy', contract()).path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves are drawn elsewhere; the page is written."""
    monkeypatch.setattr(replay_run, 'installed', lambda *_: replay_hooks.Hooks())
    for name in ('by_horizon', 'free_running', 'by_lag', 'over_time'):
        monkeypatch.setattr(replay_page.replay_plots, name, lambda *_: None)


@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp('bags') / 'good', 120)


@pytest.fixture
def earlier(tmp_path: Path, good: Path, package: Path) -> Path:
    assert replay(good, package, tmp_path / 'earlier') == 0
    return tmp_path / 'earlier' / 'metrics.json'


def test_an_earlier_run_stands_beside_the_new_one(
    tmp_path: Path, good: Path, package: Path, earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = tmp_path / 'out', ['--baseline', str(earlier), '--seed', '3']
    assert replay(good, package, out, *words, '--fail-if', 'psnr@25 < 0.5*baseline') == 0
    before, now = metrics_of(earlier.parent), metrics_of(out)
    before_db, now_db = (run['by_horizon']['psnr']['model']['25'] for run in (before, now))
    assert before_db != now_db and math.isfinite(before_db), 'another seed'
    said = capsys.readouterr().out
    assert f'passed psnr@25 < 0.5*baseline: {now_db:g} against {0.5 * before_db:g}' in said
    assert 'baseline: PSNR of pixels that change: 1 ahead' in said
    page = (out / 'report.html').read_text()
    assert 'toy (the same package) over good, 120 steps' in page
    cells = f'<td class=number>{now_db:.2f}</td><td class=number>{before_db:.2f}</td>'
    assert f'<td>psnr@25</td>{cells}' in page
    assert f'{now_db - before_db:+.2f}' in page and '7 against 7' in page
    assert 'baseline' not in (out / 'metrics.json').read_text(), 'metrics are of this run alone'


def test_a_bag_with_faults_says_so_and_is_compared(
    tmp_path: Path, good: Path, package: Path, earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / 'bad', tmp_path / 'out'
    words = ['--contract', 'tabletop', '--drop-frames', '0.1', '--duplicate', '0.1']
    assert cli.main(['degrade', str(good), '--out', str(bad), *words]) == 0
    assert replay(bad, package, out, '--baseline', str(earlier.parent)) == 0
    found = metrics_of(out)
    drop, twice = found['faults']['faults']
    dropped = drop['done']['dropped']['/camera/image_raw']
    assert (drop['fault'], drop['share'], twice['fault']) == ('drop_frames', 0.1, 'duplicate')
    missing, at_the_ends = found['counts']['frame.missing'], 120 - found['steps']
    assert missing == dropped - at_the_ends > 0, 'one lost at an end leaves no gap'
    doubled = twice['done']['doubled']['/camera/image_raw']
    assert found['counts']['frame.duplicate_stamp'] == doubled > 0
    assert 'indices' not in json.dumps(found['faults'])
    page = (out / 'report.html').read_text()
    assert f'/camera/image_raw: {dropped} dropped' in page and 'share 0.1' in page
    row = f'<td>frame.missing</td><td class=number>{missing}</td><td class=number>0</td>'
    assert row in page, 'beside the baseline, which had none'
    assert 'faults put into the bag: drop_frames, duplicate' in capsys.readouterr().out
    (inner,) = bad.glob('*.mcap')
    assert replay(inner, package, tmp_path / 'file') == 0
    assert metrics_of(tmp_path / 'file')['faults'] == found['faults'], 'a bare file of the folder'


def test_a_bag_without_faults_has_none(earlier: Path) -> None:
    assert metrics_of(earlier.parent)['faults'] is None
    assert 'wm degrade' not in (earlier.parent / 'report.html').read_text()


def test_a_list_of_faults_that_cannot_be_read_is_refused(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'bag', 5)
    for text in ('{', '[]', '{"bag": "x", "seed": 0, "faults": [3]}'):
        (bag / 'faults.json').write_text(text)
        assert replay(bag, package, tmp_path / 'out') == 1
        err = capsys.readouterr().err
        assert f'{bag / "faults.json"} is not a list of faults' in err
    assert not (tmp_path / 'out').exists(), 'refused before anything is done'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'format': 1}, 'has format 1, expected 2'),
        ({'rate_hz': 30.0}, 'has 30 steps per second, expected 25'),
        ({'by_horizon': {'counts': {'1': 3, '50': 3}}}, 'by_horizon has the horizons 1, 50'),
        ({'free_running': {'counts': {'5s': 3}}}, 'free_running has the horizons 5s'),
    ],
)
def test_what_was_measured_otherwise_is_refused(
    tmp_path: Path, earlier: Path, change: dict[str, Any], words: str
) -> None:
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(metrics_of(earlier.parent) | change))
    with pytest.raises(BaselineError) as error:
        load_baseline(other, FORMAT, 25.0)
    assert words in str(error.value) and str(other) in str(error.value)


NEEDED = (
    *('by_lag', 'counts', 'complete', 'rate_hz', 'packages', 'one_step.ssim', 'one_step.frames'),
    *('by_horizon.delta_hold', 'by_horizon.changed_counts', 'free_running.anchors'),
    *('packages.model.sha256', 'packages.model.not_finite'),
)


def test_what_is_not_whole_is_refused_at_the_door(tmp_path: Path, earlier: Path) -> None:
    whole, other = earlier.read_text(), tmp_path / 'other.json'
    for name in NEEDED:
        cut = json.loads(whole)
        *outer, last = name.split('.')
        place = cut
        for key in outer:
            place = place[key]
        del place[last]
        other.write_text(json.dumps(cut))
        with pytest.raises(BaselineError, match=last) as error:
            load_baseline(other, FORMAT, 25.0)
        assert str(other) in str(error.value)
    other.write_text(whole)
    assert load_baseline(other, FORMAT, 25.0) == json.loads(whole)


def test_a_replay_is_not_lost_where_what_follows_fails(
    tmp_path: Path, good: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError('too late')

    monkeypatch.setattr(replay_run, 'judge', failing)
    with pytest.raises(RuntimeError):
        replay(good, package, tmp_path / 'out', '--fail-if', 'psnr < 1')
    assert metrics_of(tmp_path / 'out')['steps'] == 120
    assert (tmp_path / 'out' / 'timing.json').exists()


def test_a_bag_is_judged_at_the_steps_of_the_baseline(
    tmp_path: Path, package: Path, earlier: Path
) -> None:
    """As far as the bag goes, and where a frame is lost at the next."""
    before = metrics_of(earlier.parent)
    bag = write_bag(tmp_path / 'bag', 200, missing=(70,))
    before['free_running']['anchors'] = [60, 70, 150]
    (tmp_path / 'other.json').write_text(json.dumps(before))
    words = ('--baseline', str(tmp_path / 'other.json'))
    assert replay(bag, package, tmp_path / 'out', *words) == 0
    assert metrics_of(tmp_path / 'out')['free_running']['anchors'] == [60, 71]


@pytest.mark.parametrize('text', ['', '3', '{"format": 1}'])
def test_what_is_no_replay_is_refused(
    tmp_path: Path, good: Path, package: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'other.json').write_text(text)
    words = ['--baseline', str(tmp_path / 'other.json')]
    assert replay(good, package, tmp_path / 'out', *words) == 1
    assert f'baseline {tmp_path / "other.json"}' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('who', 'option'), [('second', '--compare'), ('baseline', '--baseline')])
def test_a_condition_on_what_is_not_given_is_refused_at_once(
    tmp_path: Path,
    good: Path,
    package: Path,
    who: str,
    option: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert replay(good, package, tmp_path / 'out', '--fail-if', f'psnr < {who}') == 1
    assert f"condition 'psnr < {who}' needs {option}" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_every_table_has_the_baseline_and_the_run_is_left_alone(earlier: Path) -> None:
    metrics = metrics_of(earlier.parent)
    other = json.loads(json.dumps(metrics).replace('"model"', '"former"'))
    other['packages'] = metrics['packages']
    text = json.dumps(metrics)
    both = with_baseline(metrics, metrics)
    assert json.dumps(metrics) == text
    for rows in replay_figures.tables(both).values():
        for row in rows:
            assert row.values['baseline'] == row.values.get('model')
    assert replay_figures.figure(both, 'psnr', '25', 'baseline') is not None
    nothing = with_baseline(metrics, other)
    assert replay_figures.figure(nothing, 'psnr', '25', 'baseline') is None
