"""`wm replay` on small bags with the toy package: files, figures, and what may go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from replay_bags import contract, metrics_of, square, write_bag
from replay_bags import wm_replay as replay

from wm_ros.evaluation import replay_hooks, replay_page, replay_run
from wm_ros.toy_package import write_toy_package

FILES = {'metrics.json', 'timing.json', 'report.html', 'side_by_side.mp4'}


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_package(tmp_path_factory.mktemp('package') / 'toy', contract()).path


@pytest.fixture(autouse=True)
def without_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures of their own have tests of their own; drawing a page takes a second."""
    monkeypatch.setattr(replay_run, 'installed', lambda *_: replay_hooks.Hooks())
    monkeypatch.setattr(replay_run, 'write_page', lambda path, *_: path.write_text('page'))


@pytest.fixture
def with_page(without_hooks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_run, 'write_page', replay_page.write_page)


def test_a_bag_gives_four_files_and_twice_the_same_metrics(
    tmp_path: Path, package: Path, with_page: None, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'bag', 220)
    outs = [tmp_path / name for name in ('first', 'second')]
    assert [replay(bag, package, out) for out in outs] == [0, 0]
    assert {path.name for path in outs[0].iterdir()} == FILES
    first, second = ((out / 'metrics.json').read_bytes() for out in outs)
    assert first == second
    found = json.loads(first)
    assert (found['complete'], found['steps'], found['missing']) == (True, 220, 0)
    assert found['resets'] == {'start': 1}
    # Anchors 30, 40, ..., 190 have 25 frames after them; 200 and 210 have not.
    assert found['by_horizon']['anchors'] == 17
    assert found['by_horizon']['anchors_broken_off'] == 2
    assert set(found['by_horizon']['counts'].values()) == {17}
    assert found['free_running']['counts'] == {'5s': 20, '10s': 0, '30s': 0, '60s': 0}
    assert found['one_step']['frames'] == found['one_step']['changed_frames'] == 219
    assert found['one_step']['drift']['copy_last'] == 1.0
    assert found['one_step']['motion']['copy_last'] == 0.0
    assert found['one_step']['psnr']['model'] > 0
    page = (outs[0] / 'report.html').read_text()
    assert page.count('<img') > 5 and 'http' not in page
    out = capsys.readouterr().out
    assert '220 steps (8.8 s)' in out and '5s 20, 10s 0' in out


def test_metrics_hold_no_time_and_no_path(tmp_path: Path, package: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 60)
    assert replay(bag, package, tmp_path / 'out') == 0
    text = (tmp_path / 'out' / 'metrics.json').read_text()
    assert str(tmp_path) not in text and 'seconds' not in text and '_ms' not in text
    timing = json.loads((tmp_path / 'out' / 'timing.json').read_text())
    assert timing['latency_ms']['model']['whole']['p50'] > 0
    assert len(timing['rss']['bytes']) == 59, 'one at the end of every part but the last'


def test_another_seed_gives_other_metrics(tmp_path: Path, package: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 60)
    replay(bag, package, tmp_path / 'a')
    replay(bag, package, tmp_path / 'b', '--seed', '1')
    a, b = metrics_of(tmp_path / 'a'), metrics_of(tmp_path / 'b')
    assert a['by_horizon']['psnr']['model'] != b['by_horizon']['psnr']['model']
    assert a['by_horizon']['psnr']['copy_last'] == b['by_horizon']['psnr']['copy_last']


def test_a_second_package_stands_in_every_table(tmp_path: Path, package: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 200)
    assert replay(bag, package, tmp_path / 'out', '--compare', str(package)) == 0
    found = metrics_of(tmp_path / 'out')
    tables = [(found['one_step'], name) for name in ('psnr', 'ssim', 'drift', 'sharpness')]
    tables += [(found['by_horizon'], name) for name in ('psnr', 'ssim', 'delta_hold')]
    tables += [(found['free_running'], 'psnr'), (found, 'memory'), (found, 'packages')]
    tables += [(found['over_time'], name) for name in ('psnr', 'memory_norm')]
    for table, name in tables:
        assert table[name]['second'] == table[name]['model'], 'the same package, the same noise'


def test_conditions_decide_the_exit_status(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'bag', 60)
    assert replay(bag, package, tmp_path / 'out', '--fail-if', 'psnr@25 < 0') == 0
    assert 'passed psnr@25 < 0' in capsys.readouterr().out
    words = ['--fail-if', 'psnr@25 < 0', '--fail-if', 'psnr@25 > 0']
    assert replay(bag, package, tmp_path / 'out', *words) == 2
    assert replay(bag, package, tmp_path / 'out', '--fail-if', 'psnr@60s < 0') == 2
    assert 'FAILED psnr@60s < 0: not measured' in capsys.readouterr().out
    assert replay(bag, package, tmp_path / 'none', '--fail-if', 'psnr@26 < 0') == 1
    assert not (tmp_path / 'none').exists(), 'refused before anything is done'
    assert 'psnr@25' in capsys.readouterr().err


def test_a_bag_that_breaks_off_keeps_what_was_measured(
    tmp_path: Path, package: Path, with_page: None, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'bag', 120, broken=90)
    assert replay(bag, package, tmp_path / 'out') == 1
    found = metrics_of(tmp_path / 'out')
    assert found['complete'] is False
    assert 'message 91 of /camera/image_raw' in found['error'] and str(bag) in found['error']
    # The reader gives a frame out when its command is there: all 90 before the broken one.
    assert found['steps'] == 90 and found['by_horizon']['anchors'] == 4
    assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES
    assert 'Not complete' in (tmp_path / 'out' / 'report.html').read_text()
    assert 'not complete: bag' in capsys.readouterr().out


def test_missing_frames_are_bridged_and_left_out(tmp_path: Path, package: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 90, missing=(40, 55))
    assert replay(bag, package, tmp_path / 'out') == 0
    found = metrics_of(tmp_path / 'out')
    assert (found['steps'], found['missing']) == (90, 2)
    assert found['counts']['frame.missing'] == 2
    # Neither the missing frames nor the two after them are compared one ahead.
    assert found['one_step']['frames'] == 89 - 4
    # Anchors 30, 50, 60: not the missing 40. 55 is 25 ahead of 30 and 5 ahead of 50.
    assert found['by_horizon']['anchors'] == 3
    counts = found['by_horizon']['counts']
    assert (counts['10'], counts['25'], counts['5'], counts['1']) == (2, 2, 2, 3)


def test_a_reset_in_the_middle_starts_everything_afresh(tmp_path: Path, package: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 140, resets=(62,))
    assert replay(bag, package, tmp_path / 'out') == 0
    found = metrics_of(tmp_path / 'out')
    assert found['resets'] == {'start': 1, 'topic': 1}
    assert found['one_step']['frames'] == 138
    # Before: 30 (40, 50 and 60 are cut off). After, by the new index: 30, 40, 50 (60, 70 wait).
    assert found['by_horizon']['anchors'] == 4
    assert found['by_horizon']['anchors_broken_off'] == 5
    assert found['free_running']['anchors'] == []


def test_a_bag_of_one_frame_gives_nulls(tmp_path: Path, package: Path, with_page: None) -> None:
    bag = write_bag(tmp_path / 'bag', 1)
    assert replay(bag, package, tmp_path / 'out') == 0
    found = metrics_of(tmp_path / 'out')
    assert found['steps'] == 1 and found['one_step']['frames'] == 0
    assert found['by_horizon']['anchors'] == 0 and found['by_horizon']['psnr'] == {}
    assert found['worst'] == [] and found['free_running']['anchors'] == []


def test_equal_frames_have_no_changed_pixels(
    tmp_path: Path, package: Path, with_page: None
) -> None:
    bag = write_bag(tmp_path / 'bag', 60, picture=lambda number: square(0))
    assert replay(bag, package, tmp_path / 'out') == 0
    found = metrics_of(tmp_path / 'out')
    one_step = found['one_step']
    assert (one_step['frames'], one_step['changed_frames']) == (59, 0)
    assert one_step['psnr'] == one_step['ssim'] == {}
    assert one_step['psnr_whole']['copy_last'] == 60.0
    assert one_step['drift'] == {'model': None, 'copy_last': None}
    assert one_step['motion'] == {'model': None, 'copy_last': None}
    assert found['by_horizon']['psnr_whole']['copy_last']['25'] == 60.0


def test_a_bag_without_frames_is_refused(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'bag', 4, missing=(0, 1, 2, 3))
    assert replay(bag, package, tmp_path / 'out') == 1
    assert f'bag {bag}: topic /camera/image_raw is empty' in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'metrics.json').exists()


def test_a_bag_whose_first_message_is_broken_is_refused(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'bag', 5, broken=0)
    assert replay(bag, package, tmp_path / 'out') == 1
    err = capsys.readouterr().err
    assert 'message 1 of /camera/image_raw' in err and str(bag) in err
    assert list((tmp_path / 'out').iterdir()) == []


def test_only_so_many_steps_are_taken(tmp_path: Path, package: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 60)
    assert replay(bag, package, tmp_path / 'out', '--frames', '10') == 0
    assert metrics_of(tmp_path / 'out')['steps'] == 10
    assert replay(bag, package, tmp_path / 'out', '--frames', '0') == 1


def test_a_contract_that_does_not_fit_is_refused(
    tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'bag', 3)
    assert replay(bag, package, tmp_path / 'out', '--contract', 'g1_bottle') == 1
    assert 'does not fit' in capsys.readouterr().err


def test_a_run_that_fails_leaves_no_results_of_an_earlier_one(
    tmp_path: Path, package: Path
) -> None:
    bag, out = write_bag(tmp_path / 'bag', 60), tmp_path / 'out'
    assert replay(bag, package, out) == 0
    (out / 'notes.txt').write_text('mine')
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(kept) >= FILES - {'side_by_side.mp4'}
    for words in (['--fail-if', 'psnr < second'], ['--contract', 'g1_bottle']):
        assert replay(bag, package, out, *words) == 1
    assert replay(tmp_path / 'none', package, out) == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept, 'refused: untouched'
    bad = write_bag(tmp_path / 'bad', 5, broken=0)
    assert replay(bad, package, out) == 1
    assert [path.name for path in out.iterdir()] == ['notes.txt']
