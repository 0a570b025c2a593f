"""The page of a replay: pictures first, then curves, worst moments, the film and all figures.

In: a replay and the content of its JSON files. Out: one self-contained HTML file; the film lies
beside it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wm_ros.evaluation import pictures, replay_plots
from wm_ros.evaluation.fail_if import Judgement
from wm_ros.evaluation.page import page, table, tiles
from wm_ros.evaluation.replay import Replay
from wm_ros.evaluation.replay_marks import LongStrip
from wm_ros.evaluation.replay_strips import future_sheet, long_sheet
from wm_ros.evaluation.replay_tally import COPY_LAST, MODEL

FILM = 'side_by_side.mp4'
LONG_STRIPS = 3
NOT_LISTED = ('over_time', 'worst')  # drawn, and in the JSON file


def write_page(
    path: Path,
    replay: Replay,
    metrics: Mapping[str, Any],
    timing: Mapping[str, Any],
    judgements: Sequence[Judgement],
    film: bool,
) -> None:
    """Write the page.

    Args:
        path: file to write.
        replay: for its pictures.
        metrics, timing: content of the JSON files.
        judgements: what came of `--fail-if`.
        film: whether the film was written.
    """
    parts = [_notice(metrics), _who(metrics), tiles(_heads(metrics)), _judged(judgements)]
    parts += _strips(replay)
    if film:
        parts.append(
            f'<h2>Film</h2><video controls loop muted src="{FILM}"></video><p>camera | imagined '
            f'16 to 25 frames before | difference: <code>{FILM}</code></p>'
        )
    lags = replay_plots.by_lag(metrics['by_lag'])
    for title, drawn in (
        ('By horizon, re-anchored', replay_plots.by_horizon(metrics['by_horizon'])),
        ('Free-running', replay_plots.free_running(metrics['free_running'])),
        ('What comes back, by frames since last seen', lags),
        ('Over the bag', replay_plots.over_time(metrics, timing)),
    ):
        if drawn is not None:
            parts.append(f'<h2>{title}</h2>' + pictures.html_image(drawn, title))
    parts.append(_worst(metrics['worst']))
    listed = {name: value for name, value in metrics.items() if name not in NOT_LISTED}
    parts.append('<h2>All figures</h2>' + table(listed))
    speed = {name: timing[name] for name in ('seconds', 'bag_seconds', 'latency_ms', 'machine')}
    parts.append('<h2>Times</h2>' + table(speed))
    name = metrics['packages'][MODEL]['name']
    path.write_text(page(f'{name} over {metrics["bag"]}', parts), encoding='utf-8')


def _notice(metrics: Mapping[str, Any]) -> str:
    if metrics['complete']:
        return ''
    return (
        f'<p><b>Not complete:</b> {html.escape(metrics["error"])}. What follows is what was '
        f'measured until then, {metrics["steps"]} steps.</p>'
    )


def _who(metrics: Mapping[str, Any]) -> str:
    named = (
        f'<b>{who}</b>: {html.escape(one["name"])} on {html.escape(one["engine"])}'
        for who, one in metrics['packages'].items()
    )
    return f'<p>{"; ".join(named)}; <b>copy last</b>: the last frame that was seen</p>'


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
            heads[f'PSNR {mark} ahead, {count} anchors'] = _against(rows)
    return heads


def _against(rows: Mapping[str, float | None]) -> str:
    return f'{_decibel(rows.get(MODEL))} (copy of last frame {_decibel(rows.get(COPY_LAST))})'


def _decibel(value: float | None) -> str:
    return 'not measured' if value is None else f'{value:.1f} dB'


def _judged(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return ''
    lines = ''.join(f'<li>{html.escape(str(judgement))}</li>' for judgement in judgements)
    return f'<h2>Conditions</h2><ul>{lines}</ul>'


def _strips(replay: Replay) -> list[str]:
    parts = []
    for title, strip in replay.moments.chosen().items():
        found = strip.verdict.psnr_db, strip.verdict.copy_db
        text = f'{title}: 10 ahead {_decibel(found[0])}, copy of last frame {_decibel(found[1])}'
        parts.append(_picture(text, pictures.png(future_sheet(strip))))
    for long in _spread(replay.marks.strips):
        parts.append(_picture('free-running', pictures.png(long_sheet(long))))
    return parts


def _spread(strips: Sequence[LongStrip]) -> list[LongStrip]:
    """Return the first, the middle and the last."""
    places = {part * (len(strips) - 1) // (LONG_STRIPS - 1) for part in range(LONG_STRIPS)}
    return [strips[place] for place in sorted(places)] if strips else []


def _picture(title: str, data: bytes) -> str:
    return f'<h2>{html.escape(title)}</h2>' + pictures.html_image(data, html.escape(title))


def _worst(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ''
    listed = {f'step {row["step"]}': {k: v for k, v in row.items() if k != 'step'} for row in rows}
    return '<h2>Worst moments, 10 frames ahead, pixels that change</h2>' + table(listed)
