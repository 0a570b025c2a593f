"""What `wm replay` says when it is done: a dozen lines for the terminal.

In: the content of the JSON files. Out: lines of text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wm_ros.evaluation.fail_if import Judgement
from wm_ros.evaluation.replay_figures import fallen_out, not_finite
from wm_ros.evaluation.replay_horizons import MARKS
from wm_ros.evaluation.replay_tally import COPY_LAST


def closing(
    metrics: Mapping[str, Any],
    timing: Mapping[str, Any],
    judgements: Sequence[Judgement],
    report: Path,
    figures: Path,
) -> list[str]:
    """Return the lines.

    Args:
        metrics: content of `metrics.json`, with a baseline in it where there is one.
        timing: content of `timing.json`.
        judgements: what came of `--fail-if`.
        report, figures: files to look at.
    """
    rows, marks = metrics['by_horizon']['psnr'], metrics['free_running']['counts'].items()
    named = [*metrics['packages'], COPY_LAST]
    lines = [
        f'{metrics["steps"]} steps ({timing["bag_seconds"]} s) in {timing["seconds"]} s, '
        f'{metrics["by_horizon"]["anchors"]} re-anchored futures, free-running pictures by mark: '
        + ', '.join(f'{mark} {count}' for mark, count in marks),
        *(f'{who}: {_decibels(rows.get(who, {}))}' for who in named),
        *_counts(metrics['by_horizon']['changed_counts']),
        *_faults(metrics['faults']),
        *warnings_of(metrics),
        *map(str, judgements),
    ]
    lines += [f'left out: {what}' for what in metrics['left_out']]
    if metrics['error'] is not None:
        lines.append(f'not complete: {metrics["error"]}')
    return [*lines, f'look at {report}; all figures: {figures}']


def warnings_of(metrics: Mapping[str, Any]) -> list[str]:
    """Say it where outputs were not finite, of one bag or of several pooled."""
    reason = not_finite(metrics)
    return [f'{reason}; left out for all: {fallen_out(metrics)}'] if reason else []


def _decibels(row: Mapping[str, float | None]) -> str:
    found = [(mark, row.get(str(mark))) for mark in MARKS]
    known = [f'{mark} ahead {value:.2f} dB' for mark, value in found if value is not None]
    return 'PSNR of pixels that change: ' + (', '.join(known) or 'not measured')


def _counts(changed: Mapping[str, int]) -> list[str]:
    """Say it where the means are not over equally many pictures."""
    marks = {mark: changed[str(mark)] for mark in MARKS}
    if len(set(marks.values())) == 1:
        return []
    listed = ', '.join(f'{mark} ahead {count}' for mark, count in marks.items())
    return [f'pictures in which something changes: {listed}']


def _faults(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    names = ', '.join(fault['fault'] for fault in found['faults'])
    return [f'faults put into the bag: {names}']
