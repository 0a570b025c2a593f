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
from wm_ros.evaluation.plan_results import Episode, cells

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
        _success_table(cells(episodes)),
        '<h2>Queries beside the stream</h2>',
        _load_table(summary['queries_by_size']),
        '<h2>Gates</h2>',
        page.table({one.name: one.text for one in found}),
    ]
    for task, number in sorted({(e.task, e.number) for e in episodes}):
        of_goal = {e.planner: e for e in episodes if (e.task, e.number) == (task, number)}
        parts += _goal(f'{task} {number}', of_goal)
    parts += ['<h2>All figures</h2>', page.table(dict(summary))]
    return page.page('Planning with the world model', parts)


def _success_table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Share by task and planner, its 95 % interval, how many goals."""
    planners = [name for name in ORDER if any(name in row for row in found.values())]
    rows = [
        [task, *(_share(row[name]) if name in row else '' for name in planners)]
        for task, row in found.items()
    ]
    return _grid(['', *planners], rows)


def _share(cell: Mapping[str, Any]) -> str:
    return (
        f'{cell["share"]:.0%} ({cell["low"]:.0%} to {cell["high"]:.0%}), '
        f'{cell["reached"]} of {cell["episodes"]}'
    )


def _load_table(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """Rate and times by K and T; where there are few answers the largest time stands for p99."""
    rows = []
    for size, load in sizes.items():
        took = load['query_ms']
        longest = f'{took["p99"]:,.0f}' if 'p99' in took else f'max {took["max"]:,.0f}'
        rate = f'{load["candidate_steps_per_s"]:,.0f}'
        rows.append([size, rate, f'{took["p50"]:,.0f}', longest, f'{load["queries"]}'])
    head = ['candidates, steps', 'candidate steps/s', 'p50, ms', 'p99, ms', 'queries']
    return _grid(head, rows)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return f'<tr>{"".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)}</tr>'

    return f'<table>{row(head, "th")}{"".join(row(cells, "td") for cells in rows)}</table>'


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
