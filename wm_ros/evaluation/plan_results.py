"""What came of pursuing goals: episodes, success by task and planner, gates, summary.

`hold_still` needs no run: goals are made so that where they start is not good enough, so it is 0
by construction; it stands in the table so that nobody has to ask.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation.gate import Gate

LEAST_SUCCESS = {'free.cem': 0.8, 'push.cem': 0.8, 'memory.ttt': 0.9}
NONE_SHARE = 1 / 3
LEAST_GOALS = 10  # fewer are shown, not judged
LEAST_FOR_P99 = 50  # times; of fewer the largest is told
LEVEL_95 = 1.959964  # of the normal distribution
LEAST_ANSWERED = 0.99
LEAST_STEPS_PER_S = 1000.0
MOST_P99_MS = 40.0
MOST_FORK_MS = 5.0
MOST_UNIT_MS = 8.0


@dataclass(frozen=True)
class Episode:
    """One goal pursued by one planner.

    Attributes:
        task, number: the goal.
        planner: who pursued it.
        reached: whether the end is good enough (`sim.goals.Goal.reached`).
        start, end: distance from the target, m; for `memory` 1 or 0.
        skills: carried out.
        queries, candidate_steps: asked of the model or of the simulator.
        seconds: from the goal's start to its end.
        before_HWC, after_HWC: pictures at both.
        goals_GHWC: what was wanted.
    """

    task: str
    number: int
    planner: str
    reached: bool
    start: float
    end: float
    skills: int
    queries: int
    candidate_steps: int
    seconds: float
    before_HWC: ImageArray
    after_HWC: ImageArray
    goals_GHWC: ImageArray

    def line(self) -> str:
        """One line for the terminal."""
        word = 'reached' if self.reached else 'missed '
        way = (
            '' if self.task == 'memory' else f' {100 * self.start:.1f} -> {100 * self.end:.1f} cm'
        )
        return (
            f'{self.task} {self.number} {self.planner:10} {word}{way}, {self.skills} skills, '
            f'{self.candidate_steps} candidate steps, {self.seconds:.1f} s'
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures."""
        return {name: value for name, value in vars(self).items() if not name.endswith('HWC')}


def cells(episodes: Sequence[Episode]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by task and planner how many goals were pursued and reached, the share reached with
    its 95 % interval `low` to `high`, and the time of all of them in `seconds`.
    """
    found: dict[str, dict[str, list[Episode]]] = defaultdict(lambda: defaultdict(list))
    for episode in episodes:
        found[episode.task][episode.planner].append(episode)
    return {
        task: {planner: _cell(pursued) for planner, pursued in planners.items()}
        for task, planners in found.items()
    }


def _cell(episodes: Sequence[Episode]) -> dict[str, Any]:
    count, reached = len(episodes), sum(episode.reached for episode in episodes)
    low, high = wilson(reached, count)
    return {
        'episodes': count,
        'reached': reached,
        'share': reached / count,
        'low': low,
        'high': high,
        'seconds': round(sum(episode.seconds for episode in episodes), 1),
    }


def success(episodes: Sequence[Episode]) -> dict[str, dict[str, float]]:
    """Return the share of goals reached by task and planner."""
    return {
        task: {planner: cell['share'] for planner, cell in planners.items()}
        for task, planners in cells(episodes).items()
    }


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927), both ends from 0 to 1."""
    share, z2 = hits / count, LEVEL_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = LEVEL_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    half /= 1 + z2 / count
    return max(middle - half, 0.0), min(middle + half, 1.0)


def times(took_ms: Sequence[float]) -> dict[str, float]:
    """Return the median, and the 99th percentile where there are enough times for one, else the
    largest, under its own name.
    """
    p50, p99 = np.percentile(took_ms, (50, 99))
    most = {'p99': p99} if len(took_ms) >= LEAST_FOR_P99 else {'max': max(took_ms)}
    return {name: round(float(value), 3) for name, value in {'p50': p50, **most}.items()}


def gates(summary: Mapping[str, Any]) -> list[Gate]:
    """Hold a summary against what the planner is to do."""
    judged = []
    for name, bound in LEAST_SUCCESS.items():
        task, planner = name.split('.')
        share, count = summary['success'].get(task, {}).get(planner), summary['goals'].get(task, 0)
        few = share is None or count < LEAST_GOALS
        judged.append(
            Gate(
                f'success.{name} at least {bound:g}',
                None if few else share >= bound,
                share,
                bound,
                '' if share is None or not few else _few(share, count),
            )
        )
    judged.append(_about_a_third(summary))
    frames = summary['stream_frames']
    answered = frames['predicted'] / max(frames['sent'], 1)
    few = frames['predicted'] < LEAST_FOR_P99
    for name, value, bound, least in (
        ('share of the stream answered under queries, at least', answered, LEAST_ANSWERED, 1),
        ('candidate_steps_per_s at least', summary['candidate_steps_per_s'], LEAST_STEPS_PER_S, 1),
        ('stream_latency_ms.p99 at most', summary['stream_latency_ms']['p99'], MOST_P99_MS, 0),
        ('fork64_ms at most', summary['fork64_ms'], MOST_FORK_MS, 0),
        ('unit_ms (a sub-batch) at most', summary['unit_ms'], MOST_UNIT_MS, 0),
    ):
        passed = value >= bound if least else value <= bound
        unsure = few and name.startswith('stream')
        note = f'{frames["predicted"]} frames, {LEAST_FOR_P99} are needed' if unsure else ''
        judged.append(Gate(f'{name} {bound:g}', None if unsure else passed, value, bound, note))
    return judged


def _few(share: float, count: int) -> str:
    return f'{share:.0%} of {count} goals, {LEAST_GOALS} are needed'


def _about_a_third(summary: Mapping[str, Any]) -> Gate:
    """Within two standard errors of chance: three containers, one is right."""
    share, count = summary['success'].get('memory', {}).get('none'), summary['goals'].get('memory')
    name = 'success.memory.none within two standard errors of 1/3'
    if share is None or not count or count < LEAST_GOALS:
        note = f'{count or 0} goals, {LEAST_GOALS} are needed'
        return Gate(name, None, share, NONE_SHARE, note)
    error = math.sqrt(NONE_SHARE * (1 - NONE_SHARE) / count)
    return Gate(name, abs(share - NONE_SHARE) <= 2 * error, share, NONE_SHARE, f'{count} goals')


def write(
    path: Path, summary: Mapping[str, Any], found: Sequence[Gate], episodes: Sequence[Episode]
) -> None:
    """Write `summary.json`, gates and the list of episodes included."""
    everything = {
        **summary,
        'gates': [asdict(one) for one in found],
        'episode_list': [episode.to_dict() for episode in episodes],
    }
    path.write_text(json.dumps(everything, indent=1, allow_nan=False) + '\n')
