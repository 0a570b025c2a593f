"""Conditions under which a replay counts as failed, in a small language of their own.

In: text such as `psnr@25 < copy_last` and the content of `metrics.json`. Out: whether it holds. A
figure that was not measured counts as failed: a gate that cannot be judged is not passed.

    CONDITION  METRIC [@PLACE] OP BOUND
    METRIC     psnr psnr_whole ssim perceptual delta_hold delta_shifted
               sharpness motion drift recall
    PLACE      none: one frame ahead. 1 .. 25: frames ahead, re-anchored (ssim and perceptual
               have 1, 5, 10, 25). 5s 10s 30s 60s: free-running. For recall: frames since
               last seen.
    OP         < <= > >=
    BOUND      NUMBER, or [NUMBER *] WHO
    WHO        copy_last, second (--compare), hold_last or shifted

`psnr` is on the pixels that changed; `recall@250` the PSNR of distinct cells that come back 250
frames after they were last seen.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wm_ros.evaluation.replay_free import SECONDS
from wm_ros.evaluation.replay_futures import HORIZON
from wm_ros.evaluation.replay_horizons import BY_FRAME, BY_MARK, MARKS
from wm_ros.evaluation.replay_lags import bucket_of
from wm_ros.evaluation.replay_marks import METRICS as BY_SECONDS
from wm_ros.evaluation.replay_one_step import METRICS as ONE_STEP
from wm_ros.evaluation.replay_tally import COPY_LAST, HOLD_LAST, MODEL, SECOND, SHIFTED

RECALL = 'recall'
WHO = (COPY_LAST, SECOND, HOLD_LAST, SHIFTED)
KNOWN = tuple(dict.fromkeys((*ONE_STEP, *BY_FRAME, *BY_MARK, *BY_SECONDS, RECALL)))
PLACES = tuple(f'{seconds}s' for seconds in SECONDS)
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
    """What came of a condition. `value` and `bound` are None where they were not measured."""

    text: str
    value: float | None
    bound: float | None
    failed: bool

    def __str__(self) -> str:
        if self.value is None or self.bound is None:
            return f'FAILED {self.text}: not measured'
        word = 'FAILED' if self.failed else 'passed'
        return f'{word} {self.text}: {self.value:g} against {self.bound:g}'


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionError: not of this language, or a metric that does not exist there.
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
    factor = float(found['number'] or found['factor'] or 1.0)
    return Condition(text, metric, place, found['op'], factor, who)


def _check(text: str, metric: str, place: str) -> None:
    if metric not in KNOWN:
        raise ConditionError(f'condition {text!r}: metric {metric} is none of {", ".join(KNOWN)}')
    places = _places(metric)
    if metric == RECALL and place.isdecimal() and bucket_of(int(place)) is not None:
        return
    if place not in places or metric == RECALL:
        listed = ', '.join(f'{metric}@{one}' if one else metric for one in places)
        raise ConditionError(f'condition {text!r}: known are {listed}')


def _places(metric: str) -> tuple[str, ...]:
    if metric == RECALL:
        return ('25', '250', '1500 (any number of frames from 25 on)')
    frames = range(1, HORIZON + 1) if metric in BY_FRAME else MARKS
    ahead = tuple(map(str, frames)) if metric in (*BY_FRAME, *BY_MARK) else ()
    one_step = ('',) if metric in ONE_STEP else ()
    return (*one_step, *ahead, *(PLACES if metric in BY_SECONDS else ()))


def judge(condition: Condition, metrics: Mapping[str, Any]) -> Judgement:
    """Hold a condition against what was measured."""
    value = _figure(metrics, condition, MODEL)
    bound: float | None = condition.factor
    if condition.who is not None:
        other = _figure(metrics, condition, condition.who)
        bound = None if other is None else condition.factor * other
    if value is None or bound is None:
        return Judgement(condition.text, value, bound, True)
    return Judgement(condition.text, value, bound, OPERATORS[condition.op](value, bound))


def _figure(metrics: Mapping[str, Any], condition: Condition, who: str) -> float | None:
    metric, place = condition.metric, condition.place
    found: Any
    if metric == RECALL:
        lags = metrics['by_lag']
        found = None if lags is None else lags['distinct'][bucket_of(int(place))].get(who)
    elif not place:
        found = metrics['one_step'][metric].get(who)
    else:
        part = 'free_running' if place in PLACES else 'by_horizon'
        found = metrics[part][metric].get(who, {}).get(place)
    return None if found is None else float(found)
