"""The figures of a speed run for people: tables for the terminal and one picture.

In: what `wm_ros.evaluation.speed` writes as `bench.json`. Measures nothing.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from wm_ros.evaluation import pictures
from wm_ros.evaluation.contest import REST
from wm_ros.evaluation.runners import FRAME, IMAGINE
from wm_ros.manifest import GRAPHS

COLOURS = {
    'encode': '#4e79a7',
    'write': '#f28e2b',
    'predict': '#59a14f',
    'decode': '#b07aa1',
    REST: '#bab0ac',
}
COLUMNS = '  p50   p99   cpu'
WHOLE_MARKS = (
    ('cpu_p50_ms', 'wd', 'whole, CPU p50'),
    ('wall_p50_ms', 'wo', 'whole, p50'),
    ('wall_p99_ms', 'k|', 'whole, p99'),
)
LEGEND_BELOW: dict[str, Any] = {'loc': 'upper center', 'bbox_to_anchor': (0.5, -0.13)}


def tables(figures: dict[str, Any]) -> list[Table]:
    """Return one table per package, and one of memories and long sessions: 80 columns wide for
    three engines and three arms.
    """
    return [*(_package_table(figures, name) for name in figures['packages']), _age_table(figures)]


def _package_table(figures: dict[str, Any], package: str) -> Table:
    """Stages down, engines across; in a cell median, 99th percentile and CPU median."""
    frame, batch = figures['frame'][package], figures['batch'][package]
    arm, candidates = figures['packages'][package]['arm'], figures['plan']['candidates']
    table = _table(f'{package} ({arm}), ms', *(f'{engine}\n{COLUMNS}' for engine in frame))
    for stage in (*GRAPHS, REST, FRAME):
        runs = next(iter(frame.values()))[stage]['runs_per_frame']
        name = f'{stage} (x {runs})' if runs > 1 else stage
        table.add_row(name, *(_times(row[stage]) for row in frame.values()))
    relative = figures['relative_time']
    ratios = relative[FRAME]['engines'][package].values()
    table.add_row('  relative', *map(_ratio, ratios), end_section=True)
    for stage in ('predict', 'write', IMAGINE):
        cells = (_times(row[stage]) for row in batch.values())
        table.add_row(f'{stage} x{candidates}', *cells)
    ratios = relative[IMAGINE]['engines'][package].values()
    table.add_row('  relative', *map(_ratio, ratios))
    rates = (row[IMAGINE]['candidate_steps_per_s'] for row in batch.values())
    table.add_row('  steps/s', *(f'{rate:,.0f}' for rate in rates))
    return table


def _age_table(figures: dict[str, Any]) -> Table:
    """Arms across: what a memory weighs, what its fork costs, what age does."""
    long, candidates = figures['long'], figures['plan']['candidates']
    engine, edge = _long_engine(figures), long['edge_frames']
    forks, arms = figures['fork'], long['arms']
    names = (figures['packages'][package]['arm'] for package in arms)
    table = _table('memory and age, ms', *(f'{name}\n{COLUMNS}' for name in names))
    ratios = figures['relative_time'][FRAME]['packages'][engine]
    table.add_row('frame, relative', *(_ratio(ratios[p]) for p in arms), end_section=True)
    table.add_row(f'fork x{candidates}', *(_times(forks[p]) for p in arms))
    for name, key in (('memory, KiB', 'state_bytes'), (f'fork x{candidates}, KiB', 'fork_bytes')):
        table.add_row(name, *(f'{forks[p][key] / 1024:,.1f}' for p in arms))
    table.add_section()
    table.add_row(f'first {edge} frames', *(_times(arms[p]['first']) for p in arms))
    table.add_row(f'last {edge} frames', *(_times(arms[p]['last']) for p in arms))
    table.add_row('  last / first', *(_ratio(arms[p]['last_to_first']) for p in arms))
    table.add_row('old / young', *(_ratio(arms[p]['old_to_young']) for p in arms))
    return table


def notes(figures: dict[str, Any]) -> str:
    """Return where and how it was measured, and what was not, in a few lines."""
    machine, load, long = figures['machine'], figures['load'], figures['long']
    slope = long['rss']['slope_bytes_per_frame']
    planned = figures['plan']['long_frames']
    lines = [
        'relative: time over that of the first engine or arm, median of the rounds',
        f'age: {long["frames"]} frames of every arm on {_long_engine(figures)}; old / young: that '
        'memory and an empty one go on by turns',
        f'resident memory {long["rss"]["last_bytes"] / 2**20:.0f} MiB with every engine loaded, '
        + ('too few frames for a slope' if slope is None else f'{slope:+.1f} B per frame'),
        f'{machine["cpu"]}, {machine["cores"]} cores, {" ".join(machine["flags"])}; '
        f'threads per engine: {figures["threads"]}; '
        f'load {load["before"][0]:g} before, {load["after"][0]:g} after; '
        f'commit {figures["commit"]}; {figures["seconds"]:.0f} s',
    ]
    if long['frames'] < planned:
        lines.append(f'long session: time was over after {long["frames"]} of {planned} frames')
    lines += [f'not measured: {name}' for name in figures['packages_not_here']]
    lines += [
        f'not measured: {name}: {reason}' for name, reason in figures['engines_not_here'].items()
    ]
    return '\n'.join(lines)


def draw(figures: dict[str, Any]) -> bytes:
    """Return the figures as PNG: stages of a frame, candidate-steps, cost and memory by age."""
    figure = Figure(figsize=(13, 9), layout='constrained')
    ((frame, rate), (cost, memory)) = figure.subplots(2, 2)
    _draw_frames(frame, figures)
    _draw_rates(rate, figures)
    _draw_cost(cost, figures)
    _draw_memory(memory, figures)
    machine, load = figures['machine'], figures['load']
    figure.suptitle(
        f'{machine["cpu"]}, {machine["cores"]} cores, threads per engine: {figures["threads"]}, '
        f'load {load["before"][0]:g} to {load["after"][0]:g}, commit {figures["commit"]}',
        fontsize=10,
    )
    return pictures.figure_png(figure)


def _draw_frames(axes: Axes, figures: dict[str, Any]) -> None:
    names: list[str] = []
    for package, engines in figures['frame'].items():
        for engine, stages in engines.items():
            row, left = len(names), 0.0
            for stage, colour in COLOURS.items():
                width = stages[stage]['wall_p50_ms'] * stages[stage]['runs_per_frame']
                label = stage if row == 0 else None
                axes.barh(row, width, left=left, color=colour, label=label)
                left += width
            for key, mark, text in WHOLE_MARKS:
                label = text if row == 0 else None
                axes.plot(stages[FRAME][key], row, mark, ms=6, mec='k', label=label)
            names.append(f'{package}\n{engine}')
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel='ms', title='one frame: observe, imagine, decode (bars: p50 of each stage)')
    axes.legend(fontsize=8, ncols=4, **LEGEND_BELOW)
    axes.grid(axis='x', alpha=0.3)


def _draw_rates(axes: Axes, figures: dict[str, Any]) -> None:
    names: list[str] = []
    for package, engines in figures['batch'].items():
        for engine, stages in engines.items():
            value = stages[IMAGINE]['candidate_steps_per_s']
            axes.barh(len(names), value, color=COLOURS['predict'])
            axes.annotate(f' {value:,.0f}', (value, len(names)), va='center', fontsize=8)
            names.append(f'{package}\n{engine}')
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    candidates = figures['plan']['candidates']
    axes.set(xlabel='candidate-steps per second', title=f'imagine {candidates} candidates')


def _draw_cost(axes: Axes, figures: dict[str, Any]) -> None:
    for index, (package, arm) in enumerate(_arms(figures)):
        frames = arm['curve']['frame']
        wall, cpu = arm['curve']['wall_p50_ms'], arm['curve']['cpu_p50_ms']
        axes.plot(frames, wall, f'C{index}', label=package)
        axes.plot(frames, cpu, f'C{index}:')
    axes.set_ylim(0)
    title = f'cost of a frame by age of the memory, {_long_engine(figures)}'
    axes.set(xlabel='frame', ylabel='p50, ms (dotted: CPU)', title=title)
    axes.legend(fontsize=8, ncols=3, **LEGEND_BELOW)
    axes.grid(alpha=0.3)


def _draw_memory(axes: Axes, figures: dict[str, Any]) -> None:
    rss = figures['long']['rss']
    frames: list[int] = []
    for index, (package, arm) in enumerate(_arms(figures)):
        frames, state_bytes = arm['curve']['frame'], arm['curve']['state_bytes']
        label = f'{package}, {state_bytes[-1]:,} B'
        axes.plot(frames, [value / 1024 for value in state_bytes], f'C{index}', label=label)
    axes.set_ylim(0)
    axes.set(xlabel='frame', ylabel='memory of one session, KiB')
    process = axes.twinx()
    growth = [(value - rss['warm_bytes']) / 2**20 for value in rss['curve_bytes']]
    process.plot(frames, growth, color='#999', ls='--')
    largest = max(1.0, *map(abs, growth))
    process.set_ylim(-1.1 * largest, 1.1 * largest)
    process.set_ylabel('dashed: resident memory, MiB since warm')
    slope = rss['slope_bytes_per_frame']
    text = '' if slope is None else f', resident memory {slope:+.1f} B per frame'
    axes.set_title(f'memory by age{text}')
    axes.legend(fontsize=8, ncols=3, **LEGEND_BELOW)
    axes.grid(alpha=0.3)


def _arms(figures: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(figures['long']['arms'].items())


def _long_engine(figures: dict[str, Any]) -> str:
    return str(_arms(figures)[0][1]['engine'])


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify='left',
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column('')
    for column in columns:
        table.add_column(column, justify='right', no_wrap=True)
    return table


def _times(row: dict[str, Any]) -> str:
    return f'{row["wall_p50_ms"]:.2f} {row["wall_p99_ms"]:5.1f} {row["cpu_p50_ms"]:5.2f}'


def _ratio(ratio: dict[str, float]) -> str:
    return f'{ratio["wall"]:.2f}       {ratio["cpu"]:5.2f}'
