"""`make demo-plan`, `make bench-plan`: goal pictures reached closed loop, in numbers and pictures.

World model and planner are processes of their own (`plan_goals.py`). The planner sees pictures and
costs only. Beside it: the same planner with as many random candidates and no search, holding
still, and the same search with the simulator in the place of the model. `memory` goals are asked
of `ttt` and of `none`.

Before that, on the real clock: how many candidate steps a second the node answers and what that
does to the camera's stream (`plan_load.py`).

What is finished is kept in `kept/`: a second call goes on where the first was cut, unless
packages, code or the planner's settings have changed. `--fresh` begins anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wm_ros.config import PlannerConfig
from wm_ros.evaluation import gate, machine, plan_page
from wm_ros.evaluation.plan_oracle import HOLD
from wm_ros.evaluation.plan_results import cells, gates, success, write
from wm_ros.model_package import ModelPackage, PackageError
from wm_ros.nodes import plan_load
from wm_ros.nodes.plan_agenda import WIDTH, Bench, Shelves, collect, jobs_of
from wm_ros.nodes.plan_jobs import JobFailed, ended_by_signal, run_side_by_side
from wm_ros.nodes.processes import ProcessFailed
from wm_ros.planning.errors import QueryError
from wm_ros.sim.goals import TASKS

DEMO = {'free': 4, 'push': 4, 'memory': 2}
BENCH = {'free': 15, 'push': 15, 'memory': 20}
SEARCHES, DEMO_SEARCHES = ('cem', 'mppi', 'random'), ('cem', 'random')
# What `--planner` may change: how hard it searches, and so does the oracle.
KNOBS = {
    'candidates': int,
    'rounds': int,
    'finalists': int,
    'final_draws': int,
    'margin': float,
    'searches': int,
}


def run(bench: Bench, console: Console) -> int:
    """Run what is left, write summary and report; return the exit status: 2 for a missed gate.

    Raises:
        JobFailed, ProcessFailed: something failed; the rest was ended.
    """
    begun_s = time.monotonic()
    bench.out.mkdir(parents=True, exist_ok=True)
    for name in ('summary.json', 'report.html'):
        (bench.out / name).unlink(missing_ok=True)
    package = ModelPackage.load(bench.paths['ttt'])
    made_of = bench.made_of
    shelves = Shelves.open(bench, made_of)
    kept, earlier = shelves.of('ttt'), len(collect(bench, shelves))
    if earlier:
        text = f'{earlier} episodes of an earlier call are kept (ARGS=--fresh begins anew)'
        console.print(text, highlight=False)
    load = kept.load(bench.load_s)
    load_of_earlier_call = load is not None
    if load is None:
        load = plan_load.measure(bench.out, str(package.path), bench.load_s, console)
        kept.add_load(bench.load_s, load)
    run_side_by_side(jobs_of(bench, shelves), WIDTH)
    episodes = collect(bench, shelves)
    summary = {
        'success': success(episodes),
        'cells': cells(episodes),
        'episodes': sum(episode.planner != HOLD for episode in episodes),
        'episodes_of_earlier_calls': earlier,
        'wall_s': round(time.monotonic() - begun_s, 1),
        **load,
        'load_of_earlier_call': load_of_earlier_call,
        'goals': dict(bench.goals),
        'first_goal': bench.first,
        'package': package.name,
        'made_of': made_of,
        'provenance': package.manifest.provenance.to_dict(),
        'machine': machine.describe(),
    }
    found = gates(summary)
    write(bench.out / 'summary.json', summary, found, episodes)
    (bench.out / 'report.html').write_text(plan_page.page_of(summary, found, episodes))
    show(summary, found, bench.out, console)
    return 2 if gate.missed(found) else 0


def show(
    summary: Mapping[str, Any], found: Sequence[gate.Gate], out: Path, console: Console
) -> None:
    """Print success by task and planner, the gates, and where to look."""
    for task, planners in summary['cells'].items():
        text = ', '.join(
            f'{planner} {cell["reached"]} of {cell["episodes"]} '
            f'({cell["low"]:.0%} to {cell["high"]:.0%})'
            for planner, cell in planners.items()
        )
        console.print(f'{task}: {text}', highlight=False, soft_wrap=True)
    gate.show(found, console)
    console.print(f'  {out / "report.html"}\n  {out / "summary.json"}', highlight=False)
    if missed := gate.missed(found):
        console.print(f'gates missed: {"; ".join(missed)}', style='red', soft_wrap=True)


def parse(arguments: list[str] | None) -> Bench:
    """Return what the command line asks for; it ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('out/plan'))
    parser.add_argument('--package', default='tabletop_small', help='directory or shipped name')
    parser.add_argument('--without', default='tabletop_small_none', help='without a long memory')
    parser.add_argument('--demo', action='store_true', help='10 goals, one search')
    parser.add_argument('--goals', default='', help='other numbers of goals: free=4,push=4')
    parser.add_argument('--searches', default='', help='other searches: cem,mppi,random')
    parser.add_argument('--first', type=int, default=300, help='number of the first goal')
    parser.add_argument('--load-s', type=float, default=20.0, help='length of the load test')
    parser.add_argument('--planner', default='', help='its parameters: candidates=32,rounds=2')
    parser.add_argument('--fresh', action='store_true', help='forget what was finished earlier')
    given = parser.parse_args(arguments)
    goals, searches = (DEMO, DEMO_SEARCHES) if given.demo else (BENCH, SEARCHES)
    settings = dict[str, Any]()
    try:
        if given.goals:
            goals = {task: int(count) for task, count in pairs(given.goals, TASKS)}
        for name, value in pairs(given.planner, KNOBS):
            settings[name] = KNOBS[name](value)
        PlannerConfig(**settings)
        if given.searches:
            searches = tuple(given.searches.split(','))
        if unknown := set(searches) - set(SEARCHES):
            raise ValueError(f'{", ".join(sorted(unknown))}: expected {", ".join(SEARCHES)}')
    except ValueError as error:
        parser.error(str(error))
    return Bench(
        given.out.resolve(),
        given.package,
        given.without,
        goals,
        given.first,
        searches,
        given.load_s,
        settings,
        given.fresh,
    )


def pairs(text: str, names: Collection[str]) -> list[tuple[str, str]]:
    """Return the pairs of `a=1,b=2`.

    Raises:
        ValueError: an unknown name, or no value.
    """
    found = [part.partition('=') for part in text.split(',') if part]
    for name, _, value in found:
        if name not in names or not value:
            raise ValueError(f'{name}={value}: expected name=value of {", ".join(names)}')
    return [(name, value) for name, _, value in found]


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit status 1 when a part is missing or a process fails, 2 for a gate."""
    bench = parse(arguments)
    try:
        with ended_by_signal():
            return run(bench, Console())
    except (JobFailed, PackageError, ProcessFailed, QueryError, TimeoutError) as error:
        print(f'plan: {error}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    raise SystemExit(main())
