"""Conditions under which a replay counts as failed, in a small language of their own.

In: text such as `psnr@25 < copy_last` and the content of `metrics.json`. Out: whether it holds. A
figure that was not measured counts as failed: a gate that cannot be judged is not passed. So does
every condition where an output of a package was not finite: what is left is no fair sample.

    CONDITION  METRIC [@PLACE] OP BOUND
    METRIC     psnr psnr_whole ssim ssim_whole perceptual perceptual_whole
               delta_hold delta_shifted sharpness motion drift recall
    PLACE      none: one frame ahead. 1 .. 25: frames ahead, re-anchored (ssim and perceptual
               have 1, 5, 10, 25). 5s 10s 30s 60s: free-running. For recall: frames since
               last seen.
    OP         < <= > >=
    BOUND      NUMBER, or [NUMBER *] WHO
    WHO        copy_last (not for delta_...), second (--compare), baseline (--baseline);
               for psnr at 1 .. 25 also hold_last and shifted

`psnr`, `ssim` and `perceptual` are on the pixels that changed; `recall@250` is the PSNR of
distinct cells that come back 250 frames after they were last seen. docs/replay.md says more.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wm_ros.evaluation.replay_figures import (
    KNOWN,
    RECALL,
    bounds_of,
    figure,
    not_finite,
    places_of,
)
from wm_ros.evaluation.replay_lags import EDGES, bucket_of
from wm_ros.evaluation.replay_tally import BASELINE, COPY_LAST, HOLD_LAST, SECOND, SHIFTED

WHO = (COPY_LAST, SECOND, BASELINE, HOLD_LAST, SHIFTED)
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    '<=': operator.le,
    '>=': operator.ge,
    '<': operator.lt,
    '>': operator.gt,
}
NUMBER = r'[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?'
SHAPE = re.compile(
    r'\s*(?P<metric>[a-z_]+)(?:@(?P<place>\w+))?\s*(?P<op><=|>=|<|>)\s*'
    rf'(?:(?:(?P<factor>{NUMBER})\s*\*\s*)?(?P<who>[a-z_]+)|(?P<number>{NUMBER}))\s*'
)


class ConditionError(ValueError):
    """A condition that cannot be read; the text says what is known."""


@dataclass(frozen=True)
class Condition:
    """One condition. `who` is None for a bound that is the number `factor` itself."""

    text: str
    metric: str
    place: str
    op: str
    factor: float
    who: str | None


@dataclass(frozen=True)
class Judgement:
    """What came of a condition. `value` and `bound` are None where they were not measured;
    `reason` says why it failed whatever they are, empty where it was judged by them.
    """

    text: str
    value: float | None
    bound: float | None
    failed: bool
    reason: str = ''

    def __str__(self) -> str:
        reason = f', and {self.reason}' if self.reason else ''
        if self.value is None or self.bound is None:
            return f'FAILED {self.text}: not measured{reason}'
        word = 'FAILED' if self.failed else 'passed'
        return f'{word} {self.text}: {self.value:g} against {self.bound:g}{reason}'


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionError: not of this language, or a metric that no run measures there, or not for
            that contender.
    """
    found = SHAPE.fullmatch(text)
    if found is None:
        raise ConditionError(
            f'condition {text!r}: expected METRIC[@PLACE] OP BOUND, such as '
            f'"psnr@25 < copy_last" or "perceptual@5 > 0.9*copy_last"; '
            f'metrics: {", ".join(KNOWN)}; operators: {" ".join(OPERATORS)}; '
            f'bounds: a number, or [number*] one of {", ".join(WHO)}'
        )
    metric, place = found['metric'], found['place'] or ''
    _check(text, metric, place)
    who = found['who']
    if who is not None and who not in WHO:
        raise ConditionError(f'condition {text!r}: {who} is none of {", ".join(WHO)}')
    if who is not None and who not in (known := bounds_of(metric, place)):
        at = f'{metric}@{place}' if place else metric
        raise ConditionError(
            f'condition {text!r}: {at} is not measured for {who}; known are {", ".join(known)}'
        )
    factor = float(found['number'] or found['factor'] or 1.0)
    return Condition(text, metric, place, found['op'], factor, who)


def _check(text: str, metric: str, place: str) -> None:
    if metric not in KNOWN:
        raise ConditionError(f'condition {text!r}: metric {metric} is none of {", ".join(KNOWN)}')
    if metric == RECALL:
        if not place.isdecimal() or bucket_of(int(place)) is None:
            raise ConditionError(
                f'condition {text!r}: known are recall@250 and any other whole number of frames '
                f'from {EDGES[0]} on'
            )
    elif place not in places_of(metric):
        listed = ', '.join(f'{metric}@{one}' if one else metric for one in places_of(metric))
        raise ConditionError(f'condition {text!r}: known are {listed}')


def judge(condition: Condition, metrics: Mapping[str, Any]) -> Judgement:
    """Hold a condition against what was measured, a baseline included where it names one; where
    an output was not finite it has failed.
    """
    value = figure(metrics, condition.metric, condition.place)
    bound: float | None = condition.factor
    if condition.who is not None:
        other = figure(metrics, condition.metric, condition.place, condition.who)
        bound = None if other is None else condition.factor * other
    reason = not_finite(metrics, baseline=condition.who == BASELINE)
    if value is None or bound is None:
        return Judgement(condition.text, value, bound, True, reason)
    failed = bool(reason) or OPERATORS[condition.op](value, bound)
    return Judgement(condition.text, value, bound, failed, reason)
