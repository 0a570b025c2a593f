"""Several replays as one: the figures of all bags together, and what they say of the package.

In: the content of `metrics.json` of each bag. Out: the same tables over all bags, each mean
weighted by how many frames, futures or cells it was made of, so long bags count for more; and
verdicts. In a bag all contenders are measured on the same set, so one weight serves them all.
Knows neither files nor pictures. Ratios of sums (sharpness, motion, drift) are averaged by frames
here, as their sums are not in the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay_figures import not_finite
from wm_ros.evaluation.replay_futures import HORIZON
from wm_ros.evaluation.replay_horizons import BY_FRAME, BY_MARK, MARKS
from wm_ros.evaluation.replay_lags import KINDS, NAMES
from wm_ros.evaluation.replay_marks import METRICS as BY_SECONDS
from wm_ros.evaluation.replay_one_step import METRICS as ONE_STEP
from wm_ros.evaluation.replay_tally import COPY_LAST, MODEL, Tally, rounded

FROM = 5  # frames ahead from which a model is asked to be better than a copy
CHANGED = ('psnr', 'ssim', 'perceptual', 'delta_hold', 'delta_shifted')  # on what changed
Place = tuple[str, float | None]  # frames ahead, and a gain there


@dataclass(frozen=True)
class Verdict:
    """What was asked of the package, whether it holds (None: not measured), and by how much."""

    question: str
    holds: bool | None
    detail: str

    def __str__(self) -> str:
        word = {True: 'yes', False: 'NO', None: 'not measured'}[self.holds]
        return f'{self.question}: {word}' + (f' ({self.detail})' if self.detail else '')


def pool(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tables of all bags together, in the form of one `metrics.json`."""
    return {
        'steps': sum(one['steps'] for one in found),
        'missing': sum(one['missing'] for one in found),
        'packages': {
            who: {'not_finite': sum(one['packages'][who]['not_finite'] for one in found)}
            for who in found[0]['packages']
        },
        'one_step': _one_step([one['one_step'] for one in found]),
        'by_horizon': _by_horizon([one['by_horizon'] for one in found]),
        'free_running': _free_running([one['free_running'] for one in found]),
        'by_lag': _by_lag([one['by_lag'] for one in found if one['by_lag'] is not None]),
    }


def verdicts(pooled: Mapping[str, Any]) -> list[Verdict]:
    """Return whether the package beats a copy of the last frame from 5 frames on, on what changed
    and to the eye of a network, and whether the true actions beat held and late ones. None holds
    where an output was not finite: what is left is no fair sample.
    """
    horizons, reason = pooled['by_horizon'], not_finite(pooled)
    every = [str(h) for h in range(FROM, HORIZON + 1)]
    marks = [str(h) for h in MARKS if h >= FROM]
    return [
        _verdict(
            f'beats copy-last from {FROM} frames on, PSNR of what changes',
            _gains(horizons['psnr'], every, 1),
            'dB',
            reason,
        ),
        _verdict(
            f'beats copy-last from {FROM} frames on, perceptual distance of the same',
            _gains(horizons['perceptual'], marks, -1),
            'of distance',
            reason,
        ),
        *(
            _verdict(f'true actions beat {word} ones', _row(horizons[name], every), 'dB', reason)
            for word, name in (('held', 'delta_hold'), ('late', 'delta_shifted'))
        ),
    ]


def _gains(rows: Mapping[str, Any], places: Sequence[str], sign: int) -> list[Place]:
    """Return by how much the model is better than the copy, place by place."""
    model, copy = rows.get(MODEL, {}), rows.get(COPY_LAST, {})
    known = ((place, model.get(place), copy.get(place)) for place in places)
    return [(at, None if a is None or b is None else sign * (a - b)) for at, a, b in known]


def _row(rows: Mapping[str, Any], places: Sequence[str]) -> list[Place]:
    return [(place, rows.get(MODEL, {}).get(place)) for place in places]


def _verdict(question: str, gains: Sequence[Place], unit: str, reason: str) -> Verdict:
    known = [(gain, place) for place, gain in gains if gain is not None]
    if not known:
        return Verdict(question, None, reason)
    least, place = min(known, key=lambda item: item[0])
    detail = f'least at {place} ahead: {least:+.3g} {unit}'
    if reason:
        return Verdict(question, False, f'{reason}; of what is left {detail}')
    return Verdict(question, least > 0, detail)


class _Pool:
    """Weighted means, one metric at a time."""

    def __init__(self) -> None:
        self.tally = Tally()

    def add(self, metric: str, rows: Mapping[str, Any], weights: Mapping[str, int]) -> None:
        """Add who -> place -> mean of one bag, with place -> how much it was made of."""
        for who, row in rows.items():
            for place, mean in row.items():
                if mean is not None and weights[place]:
                    weight = weights[place]
                    self.tally.add(metric, who, place, mean * weight, weight)


def _one_step(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pooled = _Pool()
    for one in found:
        for metric in ONE_STEP:
            weight = one['changed_frames' if metric in CHANGED else 'frames']
            rows = {who: {'': mean} for who, mean in one[metric].items()}
            pooled.add(metric, rows, {'': weight})
    tables = {metric: pooled.tally.table(metric, ['']) for metric in ONE_STEP}
    return {
        'frames': sum(one['frames'] for one in found),
        'changed_frames': sum(one['changed_frames'] for one in found),
        'not_finite': sum(one['not_finite'] for one in found),
        **{metric: {who: row[''] for who, row in rows.items()} for metric, rows in tables.items()},
    }


def _by_horizon(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pooled = _Pool()
    frames = [str(h) for h in range(1, HORIZON + 1)]
    for one in found:
        for metric in (*BY_FRAME, *BY_MARK):
            pooled.add(metric, one[metric], one[_counted_by(metric)])
    return {
        'anchors': sum(one['anchors'] for one in found),
        'anchors_broken_off': sum(one['anchors_broken_off'] for one in found),
        'not_finite': sum(one['not_finite'] for one in found),
        'counts': _sums([one['counts'] for one in found], frames),
        'changed_counts': _sums([one['changed_counts'] for one in found], frames),
        **{metric: pooled.tally.table(metric, frames) for metric in BY_FRAME},
        **{metric: pooled.tally.table(metric, MARKS) for metric in BY_MARK},
    }


def _counted_by(metric: str) -> str:
    return 'changed_counts' if metric in CHANGED else 'counts'


def _free_running(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pooled = _Pool()
    places = list(dict.fromkeys(place for one in found for place in one['counts']))
    for one in found:
        for metric in BY_SECONDS:
            pooled.add(metric, one[metric], one[_counted_by(metric)])
    tables = {metric: pooled.tally.table(metric, places) for metric in BY_SECONDS}
    counts = {
        name: _sums([one[name] for one in found], places) for name in ('counts', 'changed_counts')
    }
    return {'not_finite': sum(one['not_finite'] for one in found), **counts, **tables}


def _by_lag(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Join buckets by their mean squared errors, as they were made."""
    if not found:
        return None
    return {kind: {n: _bucket([one[kind][n] for one in found]) for n in NAMES} for kind in KINDS}


def _bucket(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tally = Tally()
    for one in found:
        for who, value_db in one.items():
            if who != 'cells' and value_db is not None:
                error = 10 ** (-value_db / 10)
                tally.add('error', who, '', error * one['cells'], one['cells'])
    means = {
        who: rounded(pixels.decibel(tally.mean('error', who))) for who in tally.contenders('error')
    }
    return {'cells': sum(one['cells'] for one in found), **means}


def _sums(found: Sequence[Mapping[str, int]], places: Sequence[str]) -> dict[str, int]:
    return {place: sum(one.get(place, 0) for one in found) for place in places}
