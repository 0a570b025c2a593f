"""The quality run for people: the README's table, its place in a file, a page with examples.

In: the figures of `quality.json` and some outcomes with pictures. Out: Markdown, HTML, PNG.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import pictures
from wm_ros.evaluation.counterfactual import ForkOutcome
from wm_ros.evaluation.figures import MAIN_ARM
from wm_ros.evaluation.page import page, table, tiles
from wm_ros.evaluation.recall import RecallOutcome

BEGIN, END = '<!-- quality:begin -->', '<!-- quality:end -->'
ROWS = ('truth', 'twin', 'prediction', 'for the twin')
COLOURS = {
    'ttt': '#0b6e99',
    'window': '#e08e0b',
    'none': '#777777',
    'tokenizer': '#bbbbbb',
    'copy_last': '#c0504d',
}


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables: recall by lag, sharpness by horizon, action, how measured."""
    recall, extras = figures['recall_2afc'], figures['extras']
    lags = list(recall[MAIN_ARM])
    lines = [
        'Recall of a hidden colour by frames since it was last seen, '
        f'{figures["pairs"]} pairs per lag (0.5 is chance; in brackets the lower bound):',
        '',
        '| 2AFC | ' + ' | '.join(lags) + ' |',
        '|---' * (len(lags) + 1) + '|',
    ]
    for arm in recall:
        bound = extras['recall_2afc_lower'][arm]
        cells = [
            f'{recall[arm][lag]:.3f}' + (f' ({bound[lag]:.3f})' if arm == MAIN_ARM else '')
            for lag in lags
        ]
        lines.append(f'| {arm} | ' + ' | '.join(cells) + ' |')
    right = figures['identify'][MAIN_ARM]
    lines.append(
        f'| {MAIN_ARM}, right colour of 6 | '
        + ' | '.join(f'{right[lag]:.3f}' for lag in lags)
        + ' |'
    )
    error, half = extras['commit_error'][MAIN_ARM], extras['half_palette'][MAIN_ARM]
    lines.append(
        f'| {MAIN_ARM}, commit error / half palette | '
        + ' | '.join(f'{error[lag]:.3f} / {half[lag]:.3f}' for lag in lags)
        + ' |'
    )
    ahead = list(figures['psnr']['model'])
    lines += [
        '',
        'PSNR in dB / SSIM of frames imagined with the true actions, on pixels that change:',
        '',
        '| frames ahead | ' + ' | '.join(ahead) + ' |',
        '|---' * (len(ahead) + 1) + '|',
    ]
    others = [arm for arm in recall if arm != MAIN_ARM and arm in figures['psnr']]
    for name, title in (
        ('tokenizer', 'tokenizer alone (ceiling)'),
        ('model', MAIN_ARM),
        *zip(others, others, strict=True),
        ('copy_last', 'copy of the last frame'),
    ):
        psnr, ssim = figures['psnr'][name], figures['ssim'][name]
        lines.append(
            f'| {title} | ' + ' | '.join(f'{psnr[h]:.1f} / {ssim[h]:.2f}' for h in ahead) + ' |'
        )
    lines += [
        '',
        'Nearer its own future of two that differ in 5 % of the frame or more, 10 frames ahead: '
        f'{figures["action_2afc"]:.3f} (lower bound {extras["action_2afc_lower"]:.3f}; '
        f'{_by_kind(extras, "")}; last command held {extras["action_2afc_hold_last"]:.3f}, '
        f'commands 5 frames late {extras["action_2afc_shifted"]:.3f}{_other_arms(extras)}). '
        'Of the first two of each episode that differ in 1 % or more: '
        f'{extras["action_2afc_from_1_percent"]:.3f} '
        f'({_by_kind(extras, "_from_1_percent")}).',
    ]
    if 'fp32' in extras:
        check = extras['fp32']
        both = ', '.join(
            f'{lag}: {check["recall_2afc"]["ttt_fp32"][lag]:.3f} / '
            f'{check["recall_2afc"][MAIN_ARM][lag]:.3f}'
            for lag in lags
        )
        lines.append(
            f'Recall in fp32 on ONNX Runtime / as shipped, on the same {check["pairs"]} pairs: '
            f'{both}.'
        )
    lines += [
        '',
        f'Measured by `make quality`: {extras["engine"]}, commit {figures["commit"]}, '
        f'{extras["machine"]}.',
    ]
    return '\n'.join(lines) + '\n'


def _other_arms(extras: dict[str, Any]) -> str:
    """Return the action test of the other arms, as text."""
    scores = extras['action_2afc_by_arm']
    return ''.join(f', {arm} {scores[arm]:.3f}' for arm in scores if arm != MAIN_ARM)


def _by_kind(extras: dict[str, Any], suffix: str) -> str:
    """Return the action test by kind of episode, as text: score of how many pairs."""
    pairs = extras[f'action_pairs{suffix}_by_kind']
    scores = extras[f'action_2afc{suffix}_by_kind']
    return ', '.join(f'{kind} {scores[kind]:.3f} of {pairs[kind]} pairs' for kind in scores)


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the two markers of a file.

    Raises:
        ValueError: the file has not got both markers, in order.
    """
    content = path.read_text(encoding='utf-8')
    head, begin, rest = content.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'{path} has no place for the table: expected {BEGIN} ... {END}')
    path.write_text(f'{head}{BEGIN}\n{text}{END}{tail}', encoding='utf-8')


def reveals(outcomes: Sequence[RecallOutcome], columns: int = 8) -> ImageArray:
    """Return one sheet: truth, twin and both predictions of some cases, one per column."""
    chosen = [outcome for outcome in outcomes if outcome.pictures][:columns]
    if not chosen:
        raise ValueError('no outcome has pictures')
    rows = {name: [outcome.pictures[at] for outcome in chosen] for at, name in enumerate(ROWS)}
    captions = [f'{o.fact} {o.lag}: {o.score:g}' for o in chosen]
    return pictures.sheet(rows, captions)


def futures(outcomes: Sequence[ForkOutcome], columns: int = 6) -> ImageArray:
    """Return one sheet: both futures of some forks and both predictions, one fork per column."""
    chosen = [outcome for outcome in outcomes if outcome.pictures][:columns]
    if not chosen:
        raise ValueError('no outcome has pictures')
    names = ('future A', 'future B', 'under A', 'under B')
    rows = {name: [outcome.pictures[at] for outcome in chosen] for at, name in enumerate(names)}
    return pictures.sheet(rows, [f'{o.kind}: {o.score():g}' for o in chosen])


def draw_recall(figures: dict[str, Any]) -> bytes:
    """Return 2AFC and identification over the lag, one line per arm, as PNG."""
    figure = Figure(figsize=(10, 3.4))
    for axis, key, chance, title in zip(
        figure.subplots(1, 2),
        ('recall_2afc', 'identify'),
        (0.5, 1 / 6),
        ('nearer its own truth of two', 'right colour of six'),
        strict=True,
    ):
        for arm, values in figures[key].items():
            axis.plot(
                [int(lag) for lag in values],
                list(values.values()),
                'o-',
                label=arm,
                color=COLOURS.get(arm, '#555555'),
            )
        axis.axhline(chance, color='#bbbbbb', lw=1, ls='--')
        axis.set(xscale='log', ylim=(0, 1.03), xlabel='frames since last seen', title=title)
        ticks = [int(lag) for lag in figures[key][MAIN_ARM]]
        axis.set_xticks(ticks, [str(tick) for tick in ticks], rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend()
    return pictures.figure_png(figure)


def draw_horizons(figures: dict[str, Any]) -> bytes:
    """Return PSNR over the horizon on changed pixels and the whole frame, as PNG."""
    figure = Figure(figsize=(10, 3.4))
    sources = (figures['psnr'], figures['extras']['psnr_whole'])
    for axis, psnr, title in zip(
        figure.subplots(1, 2), sources, ('pixels that change', 'whole frame'), strict=True
    ):
        for name in psnr:
            axis.plot(
                [int(h) for h in psnr[name]],
                list(psnr[name].values()),
                'o-',
                color=COLOURS[MAIN_ARM if name == 'model' else name],
                label=MAIN_ARM if name == 'model' else name.replace('_', ' '),
            )
        axis.set(xlabel='frames ahead', ylabel='PSNR, dB', title=title)
        axis.grid(alpha=0.3)
        axis.legend()
    return pictures.figure_png(figure)


def write_page(path: Path, figures: dict[str, Any], sheets: dict[str, ImageArray]) -> None:
    """Write the self-contained page: example pictures first, then curves, gates and all figures.

    Args:
        path: file to write.
        figures: content of `quality.json`.
        sheets: heading -> picture.
    """
    recall = figures['recall_2afc'][MAIN_ARM]
    heads = {f'2AFC at lag {lag}': f'{recall[lag]:.3f}' for lag in recall}
    heads['action 2AFC'] = f'{figures["action_2afc"]:.3f}'
    parts = [tiles(heads)]
    for title, sheet in sheets.items():
        parts.append(
            f'<h2>{html.escape(title)}</h2>' + pictures.html_image(pictures.png(sheet), title)
        )
    parts.append('<h2>Recall</h2>' + pictures.html_image(draw_recall(figures), 'recall over lag'))
    parts.append('<h2>Sharpness</h2>' + pictures.html_image(draw_horizons(figures), 'PSNR'))
    passed = {
        name: 'passed' if ok else 'NOT passed' for name, ok in figures['extras']['gates'].items()
    }
    parts.append('<h2>Gates</h2>' + table(passed))
    parts.append('<h2>All figures</h2>' + table(figures))
    path.write_text(page('wm_ros quality', parts), encoding='utf-8')
