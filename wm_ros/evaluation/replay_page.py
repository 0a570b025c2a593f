"""The page of a replay: pictures first, then curves, faults, worst moments and all figures.

In: a replay, the content of its JSON files, and of an earlier run's where there is a baseline.
Out: one self-contained HTML file; the film lies beside it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import pictures, replay_plots, replay_tables
from wm_ros.evaluation.fail_if import Judgement
from wm_ros.evaluation.page import page, table, tiles
from wm_ros.evaluation.replay import Replay
from wm_ros.evaluation.replay_baseline import with_baseline
from wm_ros.evaluation.replay_figures import fallen_out, not_finite
from wm_ros.evaluation.replay_marks import LongStrip
from wm_ros.evaluation.replay_moments import Strip
from wm_ros.evaluation.replay_strips import future_sheet, long_sheet
from wm_ros.evaluation.replay_tally import BASELINE, COPY_LAST, MODEL

FILM = 'side_by_side.mp4'
LONG_STRIPS = 3
HOW_TO_READ = (
    'First column: the last frame that was seen. Then what the camera saw 1, 5, 10 and 25 frames '
    'later, and below it what was imagined for it with the true commands, what a copy of the last '
    'frame shows, and the difference of model and camera, three times as bright.'
)
FREELY = (
    'No camera frame after the first column: everything is imagined from it and the true commands.'
)
CURVES = {
    'By horizon, re-anchored': (
        'Means over futures that begin at every tenth frame. Pixels that change: in which the '
        'camera sees another colour than in the last frame. Command held, commands 5 late: the '
        'same model, given wrong commands.'
    ),
    'Free-running': 'Means over anchors, of five frames around each mark; few anchors reach far.',
    'What comes back, by frames since last seen': (
        'Cells of 8 x 8 px that show again what they last showed so long ago, imagined 5 to 14 '
        'frames before; only those that nothing nearby gave away, so a model without a memory '
        'guesses. Cells of one object come back together: a few of them are one event.'
    ),
    'Over the bag': 'One frame ahead; means over parts of the bag.',
}


def write_page(
    path: Path,
    replay: Replay,
    metrics: Mapping[str, Any],
    timing: Mapping[str, Any],
    judgements: Sequence[Judgement],
    film: bool,
    earlier: Mapping[str, Any] | None = None,
) -> None:
    """Write the page.

    Args:
        path: file to write.
        replay: for its pictures.
        metrics, timing: content of the JSON files.
        judgements: what came of `--fail-if`.
        film: whether the film was written.
        earlier: metrics of the run to stand beside this one.
    """
    both = metrics if earlier is None else with_baseline(metrics, earlier)
    parts = [_notice(metrics), _who(metrics, earlier), tiles(_heads(both)), _judged(judgements)]
    parts += _strips(replay)
    if film:
        parts.append(
            f'<h2>Film</h2><video controls loop muted src="{FILM}"></video><p>Camera, what had '
            f'been imagined for that instant 16 to 25 frames before, and the difference: '
            f'<code>{FILM}</code>, beside this page.</p>'
        )
    parts += _curves(both, timing)
    parts.append('<h2>Faults and rejections</h2>' + replay_tables.faults(metrics, earlier))
    if worst := replay_tables.worst(metrics):
        parts.append('<h2>Worst moments, 10 frames ahead, pixels that change</h2>' + worst)
    parts += ['<h2>Figures</h2>', _figures_note(), replay_tables.figures(both, earlier)]
    parts += [replay_tables.by_camera(metrics), '<h3>Memory</h3>', replay_tables.memory(metrics)]
    speed = {name: timing[name] for name in ('seconds', 'bag_seconds', 'latency_ms', 'machine')}
    parts.append('<h2>Times</h2>' + table(speed))
    name = metrics['packages'][MODEL]['name']
    path.write_text(page(f'{name} over {metrics["bag"]}', parts), encoding='utf-8')


def _notice(metrics: Mapping[str, Any]) -> str:
    lines = []
    if not metrics['complete']:
        lines.append(
            f'<b>Not complete:</b> {html.escape(metrics["error"])}. What follows is what was '
            f'measured until then, {metrics["steps"]} steps.'
        )
    if reason := not_finite(metrics):
        lines.append(
            f'<b>Not finite:</b> {reason}. Left out for all, so that all means are over the same '
            f'set: {fallen_out(metrics)}. Every condition counts as failed.'
        )
    lines += [f'<b>Left out:</b> {html.escape(what)}' for what in metrics['left_out']]
    return ''.join(f'<p>{line}</p>' for line in lines)


def _who(metrics: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> str:
    named = [
        f'<b>{who}</b>: {html.escape(one["name"])} on {html.escape(one["engine"])}'
        for who, one in metrics['packages'].items()
    ]
    named.append('<b>copy last</b>: the last frame that was seen')
    if earlier is not None:
        before, now = earlier['packages'][MODEL], metrics['packages'][MODEL]
        same = 'the same package' if before['sha256'] == now['sha256'] else 'another package'
        cut = '' if earlier['complete'] else ', a run that was not complete'
        named.append(
            f'<b>{BASELINE}</b>: {html.escape(before["name"])} ({same}) over '
            f'{html.escape(earlier["bag"])}, {earlier["steps"]} steps{cut}'
        )
    return f'<p>{"; ".join(named)}.</p>'


def _figures_note() -> str:
    return (
        '<p>Names are those that <code>--fail-if</code> takes; n is how many pictures, or cells, '
        'the mean is of. Every horizon is in <code>metrics.json</code>.</p>'
    )


def _curves(metrics: Mapping[str, Any], timing: Mapping[str, Any]) -> list[str]:
    drawn = (
        replay_plots.by_horizon(metrics['by_horizon']),
        replay_plots.free_running(metrics['free_running']),
        replay_plots.by_lag(metrics['by_lag']),
        replay_plots.over_time(metrics, timing),
    )
    return [
        f'<h2>{title}</h2><p>{text}</p>' + pictures.html_image(data, title)
        for (title, text), data in zip(CURVES.items(), drawn, strict=True)
        if data is not None
    ]


def _heads(metrics: Mapping[str, Any]) -> dict[str, str]:
    horizons, free = metrics['by_horizon'], metrics['free_running']
    heads = {
        f'steps at {metrics["rate_hz"]:g} Hz, {metrics["missing"]} without a frame': (
            f'{metrics["steps"]}'
        ),
        'PSNR 1 ahead, pixels that change': _against(metrics['one_step']['psnr']),
    }
    for ahead in ('10', '25'):
        rows = {who: row.get(ahead) for who, row in horizons['psnr'].items()}
        heads[f'PSNR {ahead} ahead, pixels that change'] = _against(rows)
    for name, text in (('delta_hold', 'held'), ('delta_shifted', 'late')):
        gain = horizons[name].get(MODEL, {}).get('10')
        heads[f'true over {text} actions, 10 ahead'] = _decibel(gain)
    for mark, count in free['counts'].items():
        if count:
            rows = {who: row.get(mark) for who, row in free['psnr'].items()}
            heads[f'PSNR {mark[:-1]} s ahead, {count} pictures'] = _against(rows)
    return heads


def _against(rows: Mapping[str, float | None]) -> str:
    text = f'{_decibel(rows.get(MODEL))} (copy of last frame {_decibel(rows.get(COPY_LAST))})'
    return text + (f', baseline {_decibel(rows[BASELINE])}' if BASELINE in rows else '')


def _decibel(value: float | None) -> str:
    return 'not measured' if value is None else f'{value:.1f} dB'


def _judged(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return ''
    lines = ''.join(f'<li>{html.escape(str(judgement))}</li>' for judgement in judgements)
    return f'<h2>Conditions</h2><ul>{lines}</ul>'


def _strips(replay: Replay) -> list[str]:
    parts, rate_hz = [], replay.contract.rate_hz
    titles: dict[int, list[str]] = {}
    strips: dict[int, Strip] = {}
    for title, strip in replay.moments.chosen().items():
        titles.setdefault(strip.number, []).append(title)
        strips[strip.number] = strip
    for number, strip in strips.items():
        found = strip.verdict.psnr_db, strip.verdict.copy_db
        text = (
            f'From {number / rate_hz:.1f} s. 10 frames ahead, on the {_percent(strip)} of pixels '
            f'that change: {_decibel(found[0])}, copy of the last frame {_decibel(found[1])}.'
        )
        title = ', '.join(titles[number])
        parts.append(_picture(title[0].upper() + title[1:], text, future_sheet(strip)))
    if parts:
        parts.insert(0, f'<h2>Re-anchored futures</h2><p>{HOW_TO_READ}</p>')
    longs = _spread(replay.marks.strips)
    if longs:
        parts.append(f'<h2>Free-running futures</h2><p>{FREELY}</p>')
    for long in longs:
        parts.append(_picture(f'From {long.number / rate_hz:.1f} s', '', long_sheet(long)))
    return parts


def _percent(strip: Strip) -> str:
    return f'{100 * strip.verdict.changed_share:.0f} %'


def _spread(strips: Sequence[LongStrip]) -> list[LongStrip]:
    """Return the first, the middle and the last."""
    places = {part * (len(strips) - 1) // (LONG_STRIPS - 1) for part in range(LONG_STRIPS)}
    return [strips[place] for place in sorted(places)] if strips else []


def _picture(title: str, text: str, sheet_HWC: ImageArray) -> str:
    name = html.escape(title)
    return f'<h3>{name}</h3><p>{text}</p>' + pictures.html_image(pictures.jpeg(sheet_HWC), name)
