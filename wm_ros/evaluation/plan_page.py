"""The report of a planning run: success in one table, then every goal in pictures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import page
from wm_ros.evaluation.gate import Gate
from wm_ros.evaluation.pictures import html_image, png, sheet
from wm_ros.evaluation.plan_results import Episode

ORDER = ('cem', 'mppi', 'ttt', 'none', 'random', 'hold_still', 'oracle')
SIDE_PX = 128


def page_of(
    summary: Mapping[str, Any],
    found: Sequence[Gate],
    episodes: Sequence[Episode],
) -> str:
    """Return the page as HTML, pictures inside.

    Args:
        summary: of `plan_bench`.
        found: its gates.
        episodes: every goal by every planner.
    """
    load = {name: summary[name] for name in ('candidate_steps_per_s', 'fork64_ms')}
    parts = [
        page.tiles(
            {
                **{
                    f'{task}, {planner}': f'{share:.0%}'
                    for task, planners in summary['success'].items()
                    for planner, share in planners.items()
                    if planner in ('cem', 'ttt', 'none')
                },
                'candidate steps/s, K = 64': f'{load["candidate_steps_per_s"]:,.0f}',
                'stream p99 under queries': f'{summary["stream_latency_ms"]["p99"]:.1f} ms',
                'fork of 64': f'{load["fork64_ms"]:.2f} ms',
            }
        ),
        '<h2>Share of goals reached</h2>',
        _success_table(summary['success'], episodes),
        '<h2>Gates</h2>',
        page.table({one.name: one.text for one in found}),
    ]
    for task, number in sorted({(e.task, e.number) for e in episodes}):
        of_goal = {e.planner: e for e in episodes if (e.task, e.number) == (task, number)}
        parts += _goal(f'{task} {number}', of_goal)
    parts += ['<h2>All figures</h2>', page.table(dict(summary))]
    return page.page('Planning with the world model', parts)


def _success_table(success: Mapping[str, Mapping[str, float]], episodes: Sequence[Episode]) -> str:
    planners = [name for name in ORDER if any(name in shares for shares in success.values())]
    head = ''.join(f'<th>{name}</th>' for name in planners)
    rows = []
    for task, shares in success.items():
        goals = len({e.number for e in episodes if e.task == task})
        cells = ''.join(
            f'<td class="number">{shares[name]:.0%}</td>' if name in shares else '<td></td>'
            for name in planners
        )
        rows.append(f'<tr><td>{html.escape(task)} ({goals} goals)</td>{cells}</tr>')
    return f'<table><tr><th></th>{head}</tr>{"".join(rows)}</table>'


def _goal(title: str, episodes: Mapping[str, Episode]) -> list[str]:
    names = [name for name in ORDER if name in episodes and name != 'hold_still']
    if not names:
        return []
    first = episodes[names[0]]
    columns: list[ImageArray] = [first.before_HWC, *first.goals_GHWC]
    captions = ['start', *['goal' for _ in first.goals_GHWC]]
    for name in names:
        episode = episodes[name]
        columns.append(episode.after_HWC)
        mark = 'ok' if episode.reached else 'x'
        way = '' if episode.task == 'memory' else f' {100 * episode.end:.1f}cm'
        captions.append(f'{name} {mark}{way}')
    columns = [np.ascontiguousarray(column) for column in columns]
    drawn = sheet({'': columns}, captions, side_px=SIDE_PX, label_width_px=8)
    return [f'<h2>{html.escape(title)}</h2>', html_image(png(drawn), title)]
