"""The page of several replays: verdicts, filmstrips of every bag, one table by horizon, curves.

In: pooled figures, verdicts, and what came of each bag. Out: one self-contained HTML file that
links the page of each bag beside it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_ros.evaluation import pictures, replay_plots
from wm_ros.evaluation.fail_if import Judgement
from wm_ros.evaluation.page import page, tiles
from wm_ros.evaluation.replay_closing import warnings_of
from wm_ros.evaluation.replay_summary import Verdict
from wm_ros.evaluation.replay_tally import COPY_LAST, MODEL, SECOND

HORIZONS = ('1', '5', '10', '15', '20', '25')
STYLE = '<style>.yes{color:#2b7a3d}.no{color:#b02a37}th{padding-right:14px}</style>'
CHANGED, PERCEPTUAL = 'PSNR, changed pixels, dB', 'perceptual distance'


@dataclass(frozen=True)
class BagPart:
    """What the page shows of one bag.

    Attributes:
        name: of the bag and of its folder.
        link: its page, relative to this one; empty where there is none.
        note: one line: steps, or what went wrong.
        missed: what does not hold in this bag alone.
        strips: JPEG by title.
    """

    name: str
    link: str
    note: str
    missed: Sequence[Verdict]
    strips: Mapping[str, bytes]


def write_summary_page(
    path: Path,
    title: str,
    pooled: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    judgements: Sequence[Judgement],
    bags: Sequence[BagPart],
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: file to write.
        title: its heading.
        pooled: tables over all bags.
        verdicts: what they say.
        judgements: what came of `--fail-if`.
        bags: one part each.
        notes: what to know of the bags first.
    """
    parts = [STYLE, tiles(_heads(pooled, bags)), _notice(pooled)]
    parts += (f'<p>{html.escape(note)}</p>' for note in notes)
    parts += [_verdicts(verdicts), _judged(judgements)]
    parts += map(_bag, bags)
    parts.append(f'<h2>By horizon, all bags</h2>{_table(pooled["by_horizon"])}')
    for name, drawn in (
        ('Curves by horizon', replay_plots.by_horizon(pooled['by_horizon'])),
        ('Free-running', replay_plots.free_running(pooled['free_running'])),
    ):
        if drawn is not None:
            parts.append(f'<h2>{name}</h2>' + pictures.html_image(drawn, name))
    path.write_text(page(title, parts), encoding='utf-8')


def _heads(pooled: Mapping[str, Any], bags: Sequence[BagPart]) -> dict[str, str]:
    return {
        'bags': str(len(bags)),
        f'steps, {pooled["missing"]} without a frame': str(pooled['steps']),
        'futures of 25 frames': str(pooled['by_horizon']['anchors']),
    }


def _notice(pooled: Mapping[str, Any]) -> str:
    lines = (f'<p class="no">{html.escape(line)}</p>' for line in warnings_of(pooled))
    return ''.join(lines)


def _verdicts(found: Sequence[Verdict]) -> str:
    marks = {True: 'yes', False: 'no', None: 'no'}
    lines = (f'<li class="{marks[one.holds]}">{html.escape(str(one))}</li>' for one in found)
    return f'<ul>{"".join(lines)}</ul>'


def _judged(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return ''
    lines = ''.join(f'<li>{html.escape(str(judgement))}</li>' for judgement in judgements)
    return f'<h2>Conditions, all bags together</h2><ul>{lines}</ul>'


def _bag(bag: BagPart) -> str:
    name = html.escape(bag.name)
    head = f'<a href="{html.escape(bag.link)}">{name}</a>' if bag.link else name
    shown = (
        f'<p>{html.escape(title)}</p>' + pictures.html_image(data, html.escape(title))
        for title, data in bag.strips.items()
    )
    alone = f'<p>This bag alone:</p>{_verdicts(bag.missed)}' if bag.missed else ''
    return f'<h2>{head}</h2><p>{html.escape(bag.note)}</p>{alone}{"".join(shown)}'


def _table(horizons: Mapping[str, Any]) -> str:
    """Return the horizons as rows: model beside copy-last, and what true actions gain."""
    who = [name for name in (MODEL, SECOND, COPY_LAST) if name in horizons['psnr']]
    heads = ['frames ahead', 'futures', *(f'{CHANGED}: {_name(name)}' for name in who)]
    heads += [f'{PERCEPTUAL}: {_name(name)}' for name in who]
    heads += ['true over held actions, dB', 'true over late actions, dB']
    rows = []
    for place in HORIZONS:
        row = [place, str(horizons['changed_counts'].get(place, 0))]
        for metric, digits in (('psnr', 2), ('perceptual', 4)):
            row += [_figure(horizons[metric].get(name, {}).get(place), digits) for name in who]
        for metric in ('delta_hold', 'delta_shifted'):
            row.append(_figure(horizons[metric].get(MODEL, {}).get(place), 2))
        rows.append(row)
    return grid(heads, rows)


def grid(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table with a line of headings."""
    head = ''.join(f'<th>{html.escape(text)}</th>' for text in heads)
    lines = (
        ''.join(f'<td class="number">{html.escape(text)}</td>' for text in row) for row in rows
    )
    body = ''.join(f'<tr>{line}</tr>' for line in lines)
    return f'<table><tr>{head}</tr>{body}</table>'


def _figure(value: float | None, digits: int) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


def _name(who: str) -> str:
    return who.replace('_', ' ')
