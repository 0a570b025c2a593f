"""Several bags through one package: a folder for each, and `index.html` and `summary.json` over
all of them.

In: an order and bags. Out: files, lines on the console. A bag that cannot be used does not cost
the others theirs: it is named in the summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from wm_ros.bag import BagError
from wm_ros.evaluation import pictures, replay_result, replay_run
from wm_ros.evaluation.fail_if import judge
from wm_ros.evaluation.replay_closing import warnings_of
from wm_ros.evaluation.replay_figures import not_finite
from wm_ros.evaluation.replay_run import DONE, FAILED, INCOMPLETE, REPORT, Order
from wm_ros.evaluation.replay_strips import future_sheet
from wm_ros.evaluation.replay_summary import Verdict, pool, verdicts
from wm_ros.evaluation.replay_summary_page import BagPart, write_summary_page
from wm_ros.evaluation.replay_tally import MODEL

SUMMARY, INDEX = 'summary.json', 'index.html'
FORMAT = 3  # 2: `not_finite` of packages, bags and every part; 3: `verdicts` of every bag
SHOWN = ('typical', 'most in motion (1)', 'worst (1)')  # of each bag


@dataclass(frozen=True)
class _Replayed:
    """One bag: what came of it, or why nothing did."""

    name: str
    done: replay_run.Done | None
    error: str | None

    @property
    def steps(self) -> int:
        return self.done.metrics['steps'] if self.done else 0

    @property
    def not_finite(self) -> int:
        """Outputs of the package under test that were not finite."""
        return self.done.metrics['packages'][MODEL]['not_finite'] if self.done else 0

    @property
    def verdicts(self) -> list[Verdict]:
        """Of this bag alone."""
        return verdicts(pool([self.done.metrics])) if self.done else []


def run_several(
    order: Order,
    bags: Mapping[str, Path],
    out: Path,
    *,
    notes: Sequence[str] = (),
    console: Console | None = None,
) -> int:
    """Replay every bag and gather what came of them.

    Args:
        order: as for one bag; its `bag` is not used, its conditions are judged on all bags
            together.
        bags: name -> bag; the folder of a bag in `out` has its name.
        out: folder, made if missing.
        notes: what to know of these bags before believing the figures; for page and summary.
        console: to print to.

    Returns:
        0; 1 where a bag could not be read, or in part only; 2 where a condition holds.

    Raises:
        BagError: none of the bags can be used.
        PackageError, EngineUnavailable, ContractError, ConditionError, OSError: as
            `replay_run.perform`.
    """
    console = console or Console()
    replay_run.require_named(order)
    stale = [out / SUMMARY, out / INDEX]
    stale += [path for name in bags for path in replay_run.files_of(out / name)]
    found = []
    for number, (name, bag) in enumerate(bags.items(), 1):
        _print(console, f'bag {number} of {len(bags)}: {name}')
        one = replace(order, bag=bag, conditions=())
        found.append(_replay(one, name, out / name, console, stale))
        stale = [] if found[-1].done else stale
    metrics = [one.done.metrics for one in found if one.done]
    if not metrics:
        raise BagError('; '.join(str(one.error) for one in found))
    pooled = pool(metrics)
    told = verdicts(pooled)
    judgements = [judge(condition, pooled) for condition in order.conditions]
    packages = metrics[0]['packages']
    title = f'{packages[MODEL]["name"]} over {len(bags)} bags'
    summary = _summary(found, packages, pooled, told) | {'notes': list(notes)}
    (out / SUMMARY).write_text(replay_result.text(summary))
    missed = _missed(found)
    parts = [_part(one, missed[one.name]) for one in found]
    write_summary_page(out / INDEX, title, pooled, told, judgements, parts, notes)
    alone = [f'{name} alone {verdict}' for name, lost in missed.items() for verdict in lost]
    lines = [*warnings_of(pooled), *map(str, told), *alone, *map(str, judgements)]
    for line in (*lines, f'look at {out / INDEX}'):
        _print(console, line)
    if any(one.error for one in found):
        return INCOMPLETE
    return FAILED if any(judgement.failed for judgement in judgements) else DONE


def forget(out: Path) -> None:
    """Remove what an earlier `run_several` wrote into a folder, and nothing else: its bags may
    have been others.
    """
    bags = [path for path in out.iterdir() if path.is_dir()] if out.is_dir() else []
    for folder in bags:
        replay_run.remove(replay_run.files_of(folder))
        if not any(folder.iterdir()):
            folder.rmdir()
    replay_run.remove((out / SUMMARY, out / INDEX))


def _replay(
    order: Order, name: str, out: Path, console: Console, stale: Sequence[Path]
) -> _Replayed:
    """Replay one bag; `stale` are the files of an earlier run, removed once it can be used."""
    try:
        done = replay_run.perform(order, out, console=console, stale=stale)
    except BagError as error:
        _print(console, f'not used: {error}')
        return _Replayed(name, None, str(error))
    return _Replayed(name, done, done.metrics['error'])


def _summary(
    found: Sequence[_Replayed],
    packages: Mapping[str, Any],
    pooled: Mapping[str, Any],
    told: Sequence[Verdict],
) -> dict[str, Any]:
    """Return the content of `summary.json`: no time of day and no duration."""
    return {
        'format': FORMAT,
        'complete': not any(one.error for one in found),
        'packages': {
            who: {key: one[key] for key in ('name', 'sha256', 'engine')} | pooled['packages'][who]
            for who, one in packages.items()
        },
        'bags': [
            {
                'name': one.name,
                'steps': one.steps,
                'not_finite': one.not_finite,
                'error': one.error,
                'verdicts': _told(one.verdicts),
            }
            for one in found
        ],
        'verdicts': _told(told),
        'pooled': pooled,
    }


def _told(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    return [{'question': one.question, 'holds': one.holds, 'detail': one.detail} for one in found]


def _missed(found: Sequence[_Replayed]) -> dict[str, list[Verdict]]:
    """Return by bag the verdicts that do not hold in it; none where one bag is all there is."""
    alone = sum(one.done is not None for one in found) < 2
    return {
        one.name: [] if alone else [told for told in one.verdicts if told.holds is False]
        for one in found
    }


def _part(one: _Replayed, missed: Sequence[Verdict]) -> BagPart:
    if one.done is None:
        return BagPart(one.name, '', f'not used: {one.error}', [], {})
    note = f'{one.steps} steps, {one.done.metrics["by_horizon"]["anchors"]} futures'
    if reason := not_finite(one.done.metrics):
        note += f'; {reason}'
    if one.error:
        note += f'; not complete: {one.error}'
    strips = {
        title: pictures.jpeg(future_sheet(strip))
        for title, strip in one.done.strips.items()
        if title in SHOWN
    }
    return BagPart(one.name, f'{one.name}/{REPORT}', note, missed, strips)


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
