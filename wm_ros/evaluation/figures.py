"""From outcomes to the figures of `quality.json`: means, lower bounds, gates.

In: results of all jobs. Out: plain dictionaries. Keys that others read are those of issue 2;
whatever is more stands under `extras`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wm_ros.evaluation import horizons
from wm_ros.evaluation.bench import Result
from wm_ros.evaluation.counterfactual import MASK_NOTE, VARIANTS, ForkOutcome
from wm_ros.evaluation.horizons import HorizonSample
from wm_ros.evaluation.metrics import bootstrap_lower
from wm_ros.evaluation.recall import RecallOutcome

MAIN_ARM = 'ttt'
CHECK_ARM = 'ttt_fp32'

Numbers = dict[str, dict[str, float]]


@dataclass
class Gathered:
    """All outcomes so far, by arm."""

    recall: dict[str, list[RecallOutcome]] = field(default_factory=dict)
    horizon: dict[str, list[HorizonSample]] = field(default_factory=dict)
    action: dict[str, list[ForkOutcome]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Take the outcomes of one job in."""
        for arm, outcomes in result.recall.items():
            self.recall.setdefault(arm, []).extend(outcomes)
        for arm, samples in result.horizon.items():
            self.horizon.setdefault(arm, []).extend(samples)
        for arm, forks in result.action.items():
            self.action.setdefault(arm, []).extend(forks)

    def sort(self) -> None:
        """Put the outcomes into an order that does not depend on which worker ended first.

        The bootstrap draws by position: without this, lower bounds change between equal runs.
        """
        for outcomes in self.recall.values():
            outcomes.sort(key=lambda o: (o.kind, o.seed, o.lag, o.fact))
        for samples in self.horizon.values():
            samples.sort(key=lambda s: (s.kind, s.seed, s.anchor, s.horizon))
        for forks in self.action.values():
            forks.sort(key=lambda f: (f.kind, f.seed, not f.first))


def by_arm_and(
    key: Callable[[RecallOutcome], Any],
    recall: dict[str, list[RecallOutcome]],
    value: Callable[[Sequence[RecallOutcome]], float],
) -> Numbers:
    """Return arm -> key -> value of the outcomes that share arm and key."""
    numbers: Numbers = {}
    for arm, outcomes in recall.items():
        groups: dict[Any, list[RecallOutcome]] = {}
        for outcome in outcomes:
            groups.setdefault(key(outcome), []).append(outcome)
        numbers[arm] = {str(name): value(groups[name]) for name in sorted(groups)}
    return numbers


def quality_figures(gathered: Gathered, seed: int) -> dict[str, Any]:
    """Return the measured part of `quality.json`.

    Args:
        gathered: all outcomes; the main arm must be among them.
        seed: of the bootstrap.
    """
    recall = gathered.recall
    shown = {arm: outcomes for arm, outcomes in recall.items() if arm != CHECK_ARM}
    samples = gathered.horizon[MAIN_ARM]
    visible = [outcome for outcome in gathered.action[MAIN_ARM] if outcome.visible]
    first = [outcome for outcome in gathered.action[MAIN_ARM] if outcome.first]
    extras: dict[str, Any] = {
        'recall_2afc_lower': _by_lag(shown, lambda group: _lower([o.score for o in group], seed)),
        'identify_lower': _by_lag(
            shown, lambda group: _lower([sum(o.identified) / 2 for o in group], seed)
        ),
        'commit_error': _by_lag(shown, lambda group: _mean(o.commit_errors for o in group)),
        'half_palette': _by_lag(shown, lambda group: _mean(o.half_palettes for o in group)),
        'recall_2afc_by_fact': by_arm_and(lambda o: o.fact, shown, _mean_score),
        'twin_gap_levels': _by_lag(shown, lambda group: max(o.gap for o in group)),
        'cases_beyond_reach': {
            arm: sum(o.blind for o in outcomes) for arm, outcomes in shown.items()
        },
        'psnr_whole': horizons.means(samples, 'psnr_whole'),
        'ssim_whole': horizons.means(samples, 'ssim_whole'),
        'changed_share': {
            str(h): _mean(s.changed_share for s in samples if s.horizon == h)
            for h in horizons.HORIZONS
        },
        'anchors': len(samples) // len(horizons.HORIZONS),
        **_action(visible, '', seed),
        **{
            f'action_2afc_{variant}': _mean(o.score(variant) for o in visible)
            for variant in VARIANTS[1:]
        },
        'action_2afc_from_1_percent': _fork_score(first),
        **_action(first, '_from_1_percent', seed),
        'action_mask': MASK_NOTE,
        'action_2afc_by_arm': {
            arm: _fork_score([fork for fork in forks if fork.visible])
            for arm, forks in gathered.action.items()
            if arm != CHECK_ARM
        },
    }
    if CHECK_ARM in recall:
        extras['fp32'] = _check(gathered)
    return {
        'recall_2afc': _by_lag(shown, _mean_score),
        'identify': _by_lag(shown, lambda group: _mean(o.identified for o in group)),
        'psnr': _by_contender(gathered, 'psnr'),
        'ssim': _by_contender(gathered, 'ssim'),
        'action_2afc': _fork_score(visible),
        'extras': extras,
    }


def _by_contender(gathered: Gathered, value: str) -> Numbers:
    """Return contender -> horizon -> mean; the other arms beside `model`, the main one."""
    others = [arm for arm in gathered.horizon if arm not in (MAIN_ARM, CHECK_ARM)]
    return horizons.means(gathered.horizon[MAIN_ARM], value) | {
        arm: horizons.means(gathered.horizon[arm], value)['model'] for arm in others
    }


def _check(gathered: Gathered) -> dict[str, Any]:
    """The fp32 reference and the shipped engine on the same, fewer, episodes."""
    same = {(o.kind, o.seed) for o in gathered.recall[CHECK_ARM]}
    pair = {
        CHECK_ARM: gathered.recall[CHECK_ARM],
        MAIN_ARM: [o for o in gathered.recall[MAIN_ARM] if (o.kind, o.seed) in same],
    }
    figures: dict[str, Any] = {
        'pairs': len(same),
        'recall_2afc': _by_lag(pair, _mean_score),
        'identify': _by_lag(pair, lambda group: _mean(o.identified for o in group)),
    }
    if CHECK_ARM in gathered.horizon:
        films = {(s.kind, s.seed) for s in gathered.horizon[CHECK_ARM]}
        for arm in (CHECK_ARM, MAIN_ARM):
            samples = [s for s in gathered.horizon[arm] if (s.kind, s.seed) in films]
            figures.setdefault('psnr', {})[arm] = horizons.means(samples, 'psnr')['model']
    if CHECK_ARM in gathered.action:
        forks = {(o.kind, o.seed) for o in gathered.action[CHECK_ARM]}
        figures['action_2afc'] = {
            arm: _fork_score(
                [o for o in gathered.action[arm] if o.visible and (o.kind, o.seed) in forks]
            )
            for arm in (CHECK_ARM, MAIN_ARM)
        }
    return figures


def gates(figures: dict[str, Any]) -> dict[str, bool]:
    """Return each gate of issue 2 and whether the figures pass it."""
    recall, identify = figures['recall_2afc'][MAIN_ARM], figures['identify'][MAIN_ARM]
    extras = figures['extras']
    lower = extras['recall_2afc_lower'][MAIN_ARM]
    error, half = extras['commit_error'][MAIN_ARM], extras['half_palette'][MAIN_ARM]
    model, copy = figures['psnr']['model'], figures['psnr']['copy_last']
    passed = {
        f'recall 2AFC at lag {lag}: mean >= 0.90, lower bound >= 0.85': recall[lag] >= 0.90
        and lower[lag] >= 0.85
        for lag in ('250', '1500')
    }
    passed['identification at lag 250 >= 0.80'] = identify['250'] >= 0.80
    passed |= {
        f'commit error at lag {lag} at most half the smallest palette distance': error[lag]
        <= half[lag]
        for lag in error
    }
    passed['PSNR at horizon 1 not below copy-last'] = model['1'] >= copy['1']
    passed |= {
        f'PSNR at horizon {horizon} above copy-last': model[horizon] > copy[horizon]
        for horizon in ('5', '10', '25')
    }
    passed['action 2AFC at 10 frames >= 0.90'] = figures['action_2afc'] >= 0.90
    return passed


def _by_lag(
    recall: dict[str, list[RecallOutcome]], value: Callable[[Sequence[RecallOutcome]], float]
) -> Numbers:
    return by_arm_and(lambda outcome: outcome.lag, recall, value)


def _mean(values: Iterable[Any]) -> float:
    return float(np.mean(list(values)))


def _mean_score(outcomes: Sequence[RecallOutcome]) -> float:
    return _mean(outcome.score for outcome in outcomes)


def _fork_score(outcomes: Sequence[ForkOutcome]) -> float:
    return _mean(outcome.score() for outcome in outcomes)


def _action(outcomes: Sequence[ForkOutcome], suffix: str, seed: int) -> dict[str, Any]:
    """Return lower bound and number of pairs, and score and pairs by kind of episode."""
    groups: dict[str, list[ForkOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.kind, []).append(outcome)
    return {
        f'action_2afc{suffix}_lower': _lower([o.score() for o in outcomes], seed),
        f'action_2afc{suffix}_by_kind': {kind: _fork_score(groups[kind]) for kind in groups},
        f'action_pairs{suffix}': len(outcomes),
        f'action_pairs{suffix}_by_kind': {kind: len(groups[kind]) for kind in groups},
    }


def _lower(scores: Sequence[float], seed: int) -> float:
    return bootstrap_lower(scores, np.random.default_rng(seed))
