"""The figures of a replay by name: `psnr`, `psnr@25`, `psnr@30s`, `recall@250`.

In: the content of `metrics.json`. Out: single figures, and tables of them: a row is a name that
`--fail-if` takes, a column a contender. The one place that knows which metric is measured where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wm_ros.evaluation.replay_free import SECONDS
from wm_ros.evaluation.replay_futures import HORIZON
from wm_ros.evaluation.replay_horizons import BY_FRAME, BY_MARK, MARKS
from wm_ros.evaluation.replay_lags import EDGES, NAMES, bucket_of
from wm_ros.evaluation.replay_marks import METRICS as BY_SECONDS
from wm_ros.evaluation.replay_one_step import METRICS as ONE_STEP
from wm_ros.evaluation.replay_tally import (
    BASELINE,
    COPY_LAST,
    HOLD_LAST,
    MODEL,
    SECOND,
    SHIFTED,
)

RECALL = 'recall'
KNOWN = tuple(dict.fromkeys((*ONE_STEP, *BY_FRAME, *BY_MARK, *BY_SECONDS, RECALL)))
AHEAD = tuple(str(horizon) for horizon in range(1, HORIZON + 1))
AT_MARKS = tuple(map(str, MARKS))
LATER = tuple(f'{seconds}s' for seconds in SECONDS)
LAGS = tuple(map(str, (*EDGES[1:], EDGES[-1] + 1)))  # one of each bucket
OF_ALL_PIXELS = ('psnr_whole', 'ssim_whole', 'perceptual_whole', 'sharpness', 'motion', 'drift')


@dataclass(frozen=True)
class Row:
    """One named figure.

    Attributes:
        name: as a condition names it.
        values: contender -> value; None where it was not measured.
        count: how many pictures, or cells, it is the mean of.
    """

    name: str
    values: Mapping[str, float | None]
    count: int


def places_of(metric: str) -> tuple[str, ...]:
    """Return where a metric is measured: one frame ahead (empty), frames or seconds ahead, or for
    `recall` one lag of each bucket.
    """
    if metric == RECALL:
        return LAGS
    frames = AHEAD if metric in BY_FRAME else AT_MARKS if metric in BY_MARK else ()
    one_step = ('',) if metric in ONE_STEP else ()
    return (*one_step, *frames, *(LATER if metric in BY_SECONDS else ()))


def bounds_of(metric: str, place: str) -> tuple[str, ...]:
    """Return which other contenders a metric is measured for at a place that `places_of` names."""
    gains = metric in ('delta_hold', 'delta_shifted')
    wrong = (HOLD_LAST, SHIFTED) if metric == 'psnr' and place in AHEAD else ()
    return (*(() if gains else (COPY_LAST,)), SECOND, BASELINE, *wrong)


def not_finite(metrics: Mapping[str, Any], *, baseline: bool = False) -> str:
    """Return which outputs were not finite, in words; empty for none.

    Args:
        metrics: content of `metrics.json`, or of several pooled.
        baseline: whether an earlier run's model counts too.
    """
    found = {
        who: one['not_finite']
        for who, one in metrics['packages'].items()
        if one['not_finite'] and (baseline or who != BASELINE)
    }
    return ', '.join(f'{count} outputs of {who} were not finite' for who, count in found.items())


def fallen_out(metrics: Mapping[str, Any]) -> str:
    """Return in words what is left out of all means, since an output was not finite."""
    names = {
        'one_step': 'pictures one ahead',
        'by_horizon': 'futures',
        'free_running': 'free runs',
    }
    return ', '.join(f'{metrics[part]["not_finite"]} {name}' for part, name in names.items())


def values_of(metrics: Mapping[str, Any], metric: str, place: str) -> Mapping[str, float | None]:
    """Return contender -> value of a figure."""
    found: Mapping[str, Any]
    if metric == RECALL:
        lags, bucket = metrics['by_lag'], bucket_of(int(place))
        found = {} if lags is None else lags['distinct'][bucket]
        return {who: value for who, value in found.items() if who != 'cells'}
    if not place:
        found = metrics['one_step'][metric]
        return dict(found)
    part = 'free_running' if place in LATER else 'by_horizon'
    return {who: row.get(place) for who, row in metrics[part][metric].items()}


def figure(metrics: Mapping[str, Any], metric: str, place: str, who: str = MODEL) -> float | None:
    """Return one figure of one contender; None where it was not measured."""
    found = values_of(metrics, metric, place).get(who)
    return None if found is None else float(found)


def count_of(metrics: Mapping[str, Any], metric: str, place: str) -> int:
    """Return how many pictures, or cells, a figure is the mean of."""
    whole = metric in OF_ALL_PIXELS
    if metric == RECALL:
        lags = metrics['by_lag']
        return 0 if lags is None else int(lags['distinct'][bucket_of(int(place))]['cells'])
    if not place:
        return int(metrics['one_step']['frames' if whole else 'changed_frames'])
    part = 'free_running' if place in LATER else 'by_horizon'
    return int(metrics[part]['counts' if whole else 'changed_counts'][place])


def tables(metrics: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return title -> rows; horizons at four marks, and nothing that was measured nowhere."""
    lags = dict(zip(LAGS, NAMES, strict=True))
    found = {
        'One frame ahead': [_row(metrics, metric, '') for metric in ONE_STEP],
        'Re-anchored, frames ahead': [
            _row(metrics, metric, place) for metric in (*BY_FRAME, *BY_MARK) for place in AT_MARKS
        ],
        'Free-running, seconds ahead': [
            _row(metrics, metric, place) for metric in BY_SECONDS for place in LATER
        ],
        'What comes back, by frames since last seen': [
            _row(metrics, RECALL, place, f' ({name} frames)') for place, name in lags.items()
        ],
    }
    return {title: [row for row in rows if _measured(row)] for title, rows in found.items()}


def _row(metrics: Mapping[str, Any], metric: str, place: str, note: str = '') -> Row:
    name = f'{metric}@{place}' if place else metric
    values = values_of(metrics, metric, place)
    return Row(name + note, values, count_of(metrics, metric, place))


def _measured(row: Row) -> bool:
    return any(value is not None for value in row.values.values())
