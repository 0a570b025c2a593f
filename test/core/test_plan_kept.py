"""What a planning run keeps: a cut run goes on, a changed one begins anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wm_ros.evaluation.plan_kept import Kept
from wm_ros.evaluation.plan_results import Episode

MADE_OF = {'package': 'a', 'code': 'b', 'settings': {'rounds': 2}}


def episode(number: int = 3) -> Episode:
    """An episode with three pictures that differ."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    ends = (pictures[0], pictures[1], pictures[2:])
    return Episode('push', number, 'cem', True, 0.2, 0.01, 1, 5, 800, 1.5, *ends)


def test_what_is_kept_comes_back_whole_in_a_second_call(tmp_path: Path) -> None:
    Kept.open(tmp_path / 'kept', MADE_OF).add(episode())
    kept = Kept.open(tmp_path / 'kept', json.loads(json.dumps(MADE_OF)))
    found = kept.find('push', 3, 'cem')
    assert found is not None
    assert found.to_dict() == episode().to_dict() and found.reached is True
    for name in ('before_HWC', 'after_HWC', 'goals_GHWC'):
        assert np.array_equal(getattr(found, name), getattr(episode(), name))
    assert kept.find('push', 4, 'cem') is None
    assert kept.find('push', 3, 'mppi') is None


@pytest.mark.parametrize(
    'changed',
    [{'package': 'x'}, {'code': 'x'}, {'settings': {'rounds': 3}}, {'more': 'x'}],
)
def test_another_package_code_or_setting_has_a_folder_of_its_own(
    tmp_path: Path, changed: dict
) -> None:
    kept = Kept.open(tmp_path / 'kept', MADE_OF)
    kept.add(episode())
    kept.add_load(2.0, {'fork64_ms': 1.0})
    other = Kept.open(tmp_path / 'kept', MADE_OF | changed)
    assert other.find('push', 3, 'cem') is None and other.load(2.0) is None
    Kept.open(tmp_path / 'kept', MADE_OF | changed, fresh=True)
    # What was kept under the first conditions is there as long as nobody asks to forget it.
    assert Kept.open(tmp_path / 'kept', MADE_OF).find('push', 3, 'cem') is not None


def test_a_fresh_run_forgets(tmp_path: Path) -> None:
    Kept.open(tmp_path / 'kept', MADE_OF).add(episode())
    assert Kept.open(tmp_path / 'kept', MADE_OF, fresh=True).find('push', 3, 'cem') is None


@pytest.mark.parametrize('share', [0.0, 0.5, 0.95])
def test_a_file_that_was_cut_counts_as_not_finished(tmp_path: Path, share: float) -> None:
    kept = Kept.open(tmp_path / 'kept', MADE_OF)
    kept.add(episode())
    (path,) = kept.folder.glob('*.npz')
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    assert kept.find('push', 3, 'cem') is None
    kept.add(episode())
    assert kept.find('push', 3, 'cem') is not None


def test_a_load_measurement_is_kept_by_its_length(tmp_path: Path) -> None:
    kept = Kept.open(tmp_path / 'kept', MADE_OF)
    assert kept.load(20.0) is None
    kept.add_load(20.0, {'fork64_ms': 1.0})
    assert kept.load(20.0) == {'fork64_ms': 1.0} and kept.load(3.0) is None
