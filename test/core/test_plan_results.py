"""What a planning run is judged by: gates that pass, that fail, that are not judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wm_ros.evaluation.plan_page import page_of
from wm_ros.evaluation.plan_results import Episode, gates, success, write

GOOD: dict[str, Any] = {
    'success': {'free': {'cem': 0.9}, 'push': {'cem': 0.8}, 'memory': {'ttt': 0.95, 'none': 0.3}},
    'goals': {'free': 15, 'push': 15, 'memory': 20},
    'candidate_steps_per_s': 1200.0,
    'stream_latency_ms': {'p50': 9.0, 'p99': 20.0},
    'stream_frames': {'sent': 500, 'predicted': 500},
    'fork64_ms': 0.1,
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
    assert judged(GOOD) == [True] * 8


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
    ],
)
def test_every_gate_can_fail(path: str, value: float) -> None:
    assert judged(changed(path, value)).count(False) == 1


def test_few_goals_are_shown_and_not_judged() -> None:
    few = changed('goals', {'free': 4, 'push': 4, 'memory': 2})
    assert judged(few) == [None] * 4 + [True] * 4
    assert '4 goals' in gates(few)[0].note


def test_success_is_the_share_by_task_and_planner() -> None:
    episodes = [
        episode('free', 0, 'cem', True),
        episode('free', 1, 'cem', False),
        episode('free', 0, 'oracle', True),
    ]
    assert success(episodes) == {'free': {'cem': 0.5, 'oracle': 1.0}}


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
