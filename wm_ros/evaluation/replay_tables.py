"""The tables of a replay's page: every named figure by contender, faults beside what the
synchroniser counted, the worst moments, the memory.

In: the content of `metrics.json`, with a baseline in it where there is one. Out: HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wm_ros.evaluation.page import grid
from wm_ros.evaluation.replay_faults import done_text, settings_text
from wm_ros.evaluation.replay_figures import count_of, tables
from wm_ros.evaluation.replay_tally import (
    BASELINE,
    COPY_LAST,
    HOLD_LAST,
    MODEL,
    SECOND,
    SHIFTED,
)

WHO = (MODEL, SECOND, BASELINE, COPY_LAST, HOLD_LAST, SHIFTED)
WORDS = {
    HOLD_LAST: 'model, command held',
    SHIFTED: 'model, commands 5 late',
    COPY_LAST: 'copy last',
}
DECIBELS = ('psnr', 'delta', 'recall')
NOTHING = '-'


def name_of(who: str) -> str:
    """Return what people call a contender."""
    return WORDS.get(who, who)


def figures(metrics: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> str:
    """Return every named figure; beside a baseline also the change and the counts of both."""
    parts = []
    for title, rows in tables(metrics).items():
        present = [who for who in WHO if any(row.values.get(who) is not None for row in rows)]
        head = ['', *map(name_of, present), *(['change'] if earlier else []), 'n']
        lines = []
        for row in rows:
            cells = [_number(row.name, row.values.get(who)) for who in present]
            count = str(row.count)
            if earlier is not None:
                cells.append(_change(row.name, row.values))
                count += f' against {_earlier_count(earlier, row.name)}'
            lines.append([row.name, *cells, count])
        if lines:
            parts.append(f'<h3>{title}</h3>' + grid(head, lines))
    return ''.join(parts)


def faults(metrics: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> str:
    """Return the faults that were put in, if any, and what the synchroniser counted."""
    parts, found = [], metrics['faults']
    if found is not None:
        rows = [[one['fault'], settings_text(one), done_text(one)] for one in found['faults']]
        parts.append(
            '<p>Put into the bag by <code>wm degrade</code>:</p>'
            + grid(['fault', 'settings', 'done to'], rows)
        )
    before = {} if earlier is None else earlier['counts']
    names = sorted({*metrics['counts'], *before})
    head = ['the synchroniser counted', 'steps or messages']
    counted = [[name, str(metrics['counts'].get(name, 0))] for name in names]
    if earlier is not None:
        head.append(BASELINE)
        counted = [[*row, str(before.get(row[0], 0))] for row in counted]
    return ''.join([*parts, grid(head, counted)])


def worst(metrics: Mapping[str, Any]) -> str:
    """Return the worst moments, empty where none was judged."""
    rows = [
        [
            f'step {one["step"]} ({one["step"] / metrics["rate_hz"]:.1f} s)',
            f'{one["stamp_ns"]}',
            _number('psnr', one['psnr']),
            _number('psnr', one['psnr_copy_last']),
            f'{100 * one["changed_share"]:.1f} %',
        ]
        for one in metrics['worst']
    ]
    head = ['last frame seen', 'stamp, ns', 'model, dB', 'copy last, dB', 'pixels that change']
    return grid(head, rows) if rows else ''


def memory(metrics: Mapping[str, Any]) -> str:
    """Return size and norm of each contender's memory."""
    rows = [
        [who, str(one['bytes'])]
        + [_number('', one[name]) for name in ('norm_first', 'norm_last', 'norm_largest')]
        for who, one in metrics['memory'].items()
    ]
    return grid(['memory', 'bytes', 'norm at first', 'at last', 'largest'], rows)


def by_camera(metrics: Mapping[str, Any]) -> str:
    """Return PSNR on changed pixels by camera; empty where there is one."""
    found = metrics['by_horizon']['psnr_by_camera']
    if found is None:
        return ''
    rows = [
        [f'{camera}, {name_of(who)}', *(_number('psnr', value) for value in values.values())]
        for camera, contenders in found.items()
        for who, values in contenders.items()
    ]
    marks = list(next(iter(next(iter(found.values()), {}).values()), {}))
    head = ['psnr by camera, dB', *(f'{mark} ahead' for mark in marks)]
    return '<h3>By camera</h3>' + grid(head, rows)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    return f'{value:.2f}' if name.startswith(DECIBELS) else f'{value:.4f}'


def _change(name: str, values: Mapping[str, float | None]) -> str:
    now, before = values.get(MODEL), values.get(BASELINE)
    if now is None or before is None:
        return NOTHING
    return f'{now - before:+.2f}' if name.startswith(DECIBELS) else f'{now - before:+.4f}'


def _earlier_count(earlier: Mapping[str, Any], name: str) -> int:
    metric, _, place = name.split(' ')[0].partition('@')
    return count_of(earlier, metric, place)
