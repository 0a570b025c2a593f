"""What a planning run is judged by: gates that pass, that fail, that are not judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wm_ros.evaluation.plan_page import page_of
from wm_ros.evaluation.plan_results import Episode, cells, gates, success, times, wilson, write

GOOD: dict[str, Any] = {
    'success': {'free': {'cem': 0.9}, 'push': {'cem': 0.8}, 'memory': {'ttt': 0.95, 'none': 0.3}},
    'goals': {'free': 15, 'push': 15, 'memory': 20},
    'candidate_steps_per_s': 1200.0,
    'stream_latency_ms': {'p50': 9.0, 'p99': 20.0},
    'stream_frames': {'sent': 500, 'predicted': 500},
    'fork64_ms': 0.1,
    'unit_ms': 4.0,
    'queries_by_size': {
        'K8_T8': {
            'candidate_steps_per_s': 800.0,
            'query_ms': {'p50': 78.0, 'p99': 98.0},
            'queries': 50,
        },
        'K256_T16': {
            'candidate_steps_per_s': 960.0,
            'query_ms': {'p50': 4271.0, 'max': 4300.0},
            'queries': 6,
        },
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """A copy of GOOD with one figure changed."""
    summary = json.loads(json.dumps(GOOD))
    *parents, name = path.split('.')
    part = summary
    for parent in parents:
        part = part[parent]
    part[name] = value
    return summary


def judged(summary: dict[str, Any]) -> list[bool | None]:
    return [one.passed for one in gates(summary)]


def episode(task: str, number: int, planner: str, reached: bool) -> Episode:
    picture = np.full((8, 8, 3), 90, np.uint8)
    return Episode(
        task, number, planner, reached, 0.2, 0.01, 1, 5, 800, 1.5, picture, picture, picture[None]
    )


def test_good_figures_pass_every_gate() -> None:
    assert judged(GOOD) == [True] * 9


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('success.free.cem', 0.79),
        ('success.push.cem', 0.5),
        ('success.memory.ttt', 0.85),
        ('success.memory.none', 0.7),
        ('success.memory.none', 0.05),
        ('candidate_steps_per_s', 999.0),
        ('stream_latency_ms.p99', 41.0),
        ('stream_frames.predicted', 490),
        ('fork64_ms', 5.1),
        ('unit_ms', 8.1),
    ],
)
def test_every_gate_can_fail(path: str, value: float) -> None:
    assert judged(changed(path, value)).count(False) == 1


def test_few_goals_are_shown_and_not_judged() -> None:
    few = changed('goals', {'free': 4, 'push': 4, 'memory': 2})
    assert judged(few) == [None] * 4 + [True] * 5
    assert '4 goals' in gates(few)[0].note


def test_a_planner_that_was_not_run_is_not_judged() -> None:
    without = changed('success', {'free': {'random': 0.5}, 'push': {'cem': 0.9}})
    assert judged(without) == [None, True, None, None] + [True] * 5


def test_success_is_the_share_by_task_and_planner() -> None:
    episodes = [
        episode('free', 0, 'cem', True),
        episode('free', 1, 'cem', False),
        episode('free', 0, 'oracle', True),
    ]
    assert success(episodes) == {'free': {'cem': 0.5, 'oracle': 1.0}}


def test_cells_hold_counts_and_the_interval_of_each_share() -> None:
    episodes = [episode('push', number, 'cem', number < 8) for number in range(10)]
    assert cells(episodes) == {
        'push': {
            'cem': {
                'episodes': 10,
                'reached': 8,
                'share': 0.8,
                'low': pytest.approx(0.4902, abs=1e-4),
                'high': pytest.approx(0.9433, abs=1e-4),
                'seconds': 15.0,
            }
        }
    }


@pytest.mark.parametrize(
    ('hits', 'count', 'interval'),
    [
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (1, 1, (0.2065, 1.0)),
        (5, 20, (0.1119, 0.4687)),
    ],
)
def test_an_interval_is_the_one_of_the_tables(
    hits: int, count: int, interval: tuple[float, float]
) -> None:
    assert wilson(hits, count) == pytest.approx(interval, abs=1e-4)


def test_a_99th_percentile_is_told_of_50_times_or_more() -> None:
    took_ms = [*(float(number) for number in range(48)), 1000.0]
    assert times(took_ms) == {'p50': 24.0, 'max': 1000.0}
    assert times([*took_ms, 48.0]) == {'p50': 24.5, 'p99': pytest.approx(533.5, abs=0.1)}


def test_a_stream_of_a_few_frames_is_shown_and_not_judged() -> None:
    few = changed('stream_frames', {'sent': 49, 'predicted': 49})
    assert judged(few) == [True] * 6 + [None, True, True]
    assert '49 frames, 50 are needed' in gates(few)[6].note


def test_summary_and_page_hold_everything_but_pictures_in_json(tmp_path: Path) -> None:
    episodes = [episode('push', 3, 'cem', True), episode('push', 3, 'oracle', False)]
    found = gates(GOOD)
    write(tmp_path / 'summary.json', GOOD, found, episodes)
    told = json.loads((tmp_path / 'summary.json').read_text())
    assert told['success'] == GOOD['success'] and len(told['gates']) == len(found)
    assert [one['planner'] for one in told['episode_list']] == ['cem', 'oracle']
    assert not any(name.endswith('HWC') for name in told['episode_list'][0])
    text = page_of(GOOD, found, episodes)
    assert 'push 3' in text and text.count('data:image/png') == 1
    assert '<td>100% (21% to 100%), 1 of 1</td><td>0% (0% to 79%), 0 of 1</td>' in text
    assert '<td>K8_T8</td><td>800</td><td>78</td><td>98</td><td>50</td>' in text
    assert '<td>K256_T16</td><td>960</td><td>4,271</td><td>max 4,300</td><td>6</td>' in text
