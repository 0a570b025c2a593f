"""Curves of a replay: by horizon, free-running, by lag, and over the bag.

In: the content of `metrics.json` and `timing.json`. Out: PNG, None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wm_ros.evaluation import pictures
from wm_ros.evaluation.replay_tables import name_of

COLOURS = {
    'model': '#0b6e99',
    'second': '#e08e0b',
    'copy_last': '#c0504d',
    'hold_last': '#7a5ba6',
    'shifted': '#5a9a5a',
    'baseline': '#6c757d',
}
DASHED = 'baseline'

BY_HORIZON = {
    'psnr': 'PSNR, dB: pixels that change',
    'psnr_whole': 'PSNR, dB: whole frame',
    'ssim': 'SSIM: pixels that change',
    'perceptual': 'perceptual distance: pixels that change (less is better)',
    'delta_hold': 'dB that true actions gain over held ones',
    'delta_shifted': 'dB that true actions gain over late ones',
}
FREE_RUNNING = dict(list(BY_HORIZON.items())[:4])
OVER_TIME = {'psnr': 'PSNR 1 ahead, dB\n(changed pixels)', 'memory_norm': 'norm of the\nmemory'}


def by_horizon(values: Mapping[str, Any]) -> bytes | None:
    """Draw `by_horizon`: every metric over the frames ahead."""
    return _grid(values, BY_HORIZON, 'frames ahead', lambda key: float(key))


def free_running(values: Mapping[str, Any]) -> bytes | None:
    """Draw `free_running`: every metric over the seconds ahead."""
    return _grid(values, FREE_RUNNING, 'seconds ahead', lambda key: float(key[:-1]))


def by_lag(values: Mapping[str, Any] | None) -> bytes | None:
    """Draw `by_lag`: PSNR of the distinct cells that come back."""
    found = {} if values is None else {n: b for n, b in values['distinct'].items() if b['cells']}
    if not found:
        return None
    figure = Figure(figsize=(10, 3))
    axis = figure.subplots()
    for who in (name for name in COLOURS if any(name in bucket for bucket in found.values())):
        values_db = [bucket.get(who) for bucket in found.values()]
        axis.plot(range(len(found)), values_db, marker='o', **_look(who))
    texts = [f'{name}\n{bucket["cells"]} cells' for name, bucket in found.items()]
    axis.set_xticks(range(len(found)), texts)
    axis.set(xlabel='frames since last seen', ylabel='PSNR of the cells, dB')
    axis.grid(alpha=0.3)
    _legend(figure, [axis])
    return pictures.figure_png(figure)


def over_time(metrics: Mapping[str, Any], timing: Mapping[str, Any]) -> bytes:
    """Draw quality, memory norm, latency and resident memory against the step of the bag."""
    figure = Figure(figsize=(10, 9))
    *upper, latency, rss = figure.subplots(4, 1, sharex=True)
    curves, times = metrics['over_time'], timing['over_time']
    for axis, (name, title) in zip(upper, OVER_TIME.items(), strict=True):
        _lines(axis, curves['step'], curves[name], title)
    _lines(latency, times['step'], times['whole_ms'], 'observe +\npredict, ms')
    rss.plot(timing['rss']['step'], [b / 2**20 for b in timing['rss']['bytes']], color='#555')
    rss.set(xlabel='step', ylabel='resident\nmemory, MiB')
    rss.set_ylim(bottom=0)
    rss.grid(alpha=0.3)
    _legend(figure, figure.axes)
    return pictures.figure_png(figure)


def _grid(
    values: Mapping[str, Any], titles: Mapping[str, str], label: str, place: Any
) -> bytes | None:
    wanted = {name: title for name, title in titles.items() if _known(values[name])}
    if not wanted:
        return None
    rows = (len(wanted) + 1) // 2
    figure = Figure(figsize=(11, 3.1 * rows))
    axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for axis, (name, title) in zip(axes, wanted.items(), strict=False):
        for who, row in values[name].items():
            known = [(place(key), value) for key, value in row.items() if value is not None]
            if known:
                marker = 'o' if len(known) < 10 else ''
                axis.plot(*zip(*known, strict=True), marker=marker, **_look(who))
        axis.set_xlabel(label)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    for axis in axes[len(wanted) :]:
        axis.set_axis_off()
    _legend(figure, figure.axes)
    return pictures.figure_png(figure)


def _known(rows: Mapping[str, Mapping[str, float | None]]) -> bool:
    return any(value is not None for row in rows.values() for value in row.values())


def _lines(axis: Axes, steps: list[int], rows: Mapping[str, list[Any]], title: str) -> None:
    for who, values in rows.items():
        known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
        if known:
            axis.plot(*zip(*known, strict=True), **_look(who))
    axis.set_ylabel(title)
    axis.grid(alpha=0.3)


def _look(who: str) -> dict[str, Any]:
    style = '--' if who == DASHED else '-'
    return {'color': COLOURS[who], 'label': name_of(who), 'linestyle': style}


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend above all axes, where it hides no curve."""
    figure.tight_layout()
    lines = {
        label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels())
    }
    if lines:
        figure.legend(
            lines.values(), lines.keys(), loc='lower center', bbox_to_anchor=(0.5, 1.0),
            ncols=len(lines), frameon=False, fontsize=9,
        )  # fmt: skip
