"""`make demo-plan`, `make bench-plan`: goal pictures reached closed loop, in numbers and pictures.

World model and planner are processes of their own; this one is the robot (the table-top in
lockstep, `stage.py`) and the judge. The planner sees pictures and costs only. Beside it: the same
planner with as many random candidates and no search, holding still, and the same search with the
simulator
in the place of the model. `memory` goals are asked of `ttt` and of `none`.

Then, on the real clock: how many candidate steps a second the node answers and what that does to
the camera's stream (`plan_load.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from wm_ros.evaluation import gate, machine, plan_page
from wm_ros.evaluation.plan_oracle import run_beside
from wm_ros.evaluation.plan_results import Episode, gates, success, write
from wm_ros.model_package import ModelPackage, PackageError, find_package
from wm_ros.nodes import plan_load
from wm_ros.nodes.judge import Judge
from wm_ros.nodes.processes import NodeProcess, ProcessFailed, private_domain
from wm_ros.nodes.stage import StageTimeout
from wm_ros.sim.goals import make_goal

DEMO = {'free': 4, 'push': 4, 'memory': 2}
BENCH = {'free': 15, 'push': 15, 'memory': 20}
SEARCHES = {'free': ('cem', 'mppi', 'random'), 'push': ('cem', 'mppi', 'random')}
DEMO_SEARCHES = ('cem', 'random')


@dataclass(frozen=True)
class Bench:
    """What to run: goals per task from number `first` on, searches per task, where to write;
    `without` is the package without a long memory.
    """

    out: Path
    package: str
    without: str
    goals: Mapping[str, int]
    first: int
    searches: Mapping[str, Sequence[str]]
    load_s: float


@dataclass(frozen=True)
class Part:
    """Goals of one task, each pursued with every search; `label` names the planner where there is
    one search.
    """

    task: str
    count: int
    first: int
    searches: tuple[str, ...]
    label: str = ''


def run_part(judge: Judge, part: Part, console: Console) -> list[Episode]:
    """Pursue the goals of one part.

    Raises:
        ProcessFailed: the planner gave a goal up.
    """
    episodes = []
    for number in range(part.first, part.first + part.count):
        goal = make_goal(part.task, number, judge.stage.table)
        for search in part.searches:
            judge.play_past(goal)
            before, started_s = judge.stage.picture(), time.monotonic()
            start_m = goal.distance(judge.stage.state)
            result = judge.pursue(goal, search, goal.number)
            if not result.success:
                raise ProcessFailed(
                    f'the planner gave up {goal.task} {goal.number}: '
                    f'{result.error_code} {result.message}'
                )
            state = judge.stage.state
            episode = Episode(
                goal.task,
                goal.number,
                part.label or search,
                goal.reached(state),
                start_m,
                goal.distance(state),
                result.skills,
                result.queries,
                result.candidate_steps,
                time.monotonic() - started_s,
                before,
                judge.stage.picture(),
                goal.pictures_GHWC,
            )
            console.print(episode.line(), highlight=False, soft_wrap=True)
            episodes.append(episode)
    return episodes


def run_ros(package: str, parts: Sequence[Part], logs: Path) -> list[Episode]:
    """Start world model and planner on a domain of their own and pursue goals with them.

    Raises:
        ProcessFailed, StageTimeout: a part of it fails.
    """
    loaded, console = ModelPackage.load(package), Console()
    episodes = []
    with private_domain() as environment, ExitStack() as stack:
        os.environ.update(environment)
        nodes = [
            stack.enter_context(NodeProcess(node, logs / f'{node}.log', environment, given))
            for node, given in (
                ('world_model', {'package': package, 'use_sim_time': True}),
                ('planner', {'use_sim_time': True}),
            )
        ]
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        judge = Judge(loaded.model.image_size)
        try:
            judge.ready()
            for part in parts:
                episodes += run_part(judge, part, console)
        finally:
            judge.close()
            rclpy.try_shutdown()
            for node in nodes:
                node.check()
        for node in reversed(nodes):
            node.stop()
    return episodes


def pursue_all(bench: Bench) -> list[Episode]:
    """Pursue every goal with every planner. What does not touch each other runs side by side:
    lockstep does not care how long anything takes.
    """
    path = str(find_package(bench.package))
    without = str(find_package(bench.without)) if bench.goals.get('memory') else ''
    memory = Part('memory', bench.goals.get('memory', 0), bench.first, ('cem',), 'ttt')
    runs: dict[str, list[Part]] = {}
    for task, searches in bench.searches.items():
        for search in searches:
            part = Part(task, bench.goals[task], bench.first, (search,))
            runs.setdefault(search, []).append(part)
    beside = [(task, bench.first + i) for task, count in bench.goals.items() for i in range(count)]
    with ProcessPoolExecutor(2, mp_context=get_context('spawn')) as pool:
        jobs = [
            pool.submit(run_ros, path, parts, bench.out / 'logs' / search)
            for search, parts in runs.items()
        ]
        jobs.append(pool.submit(run_beside, path, beside))
        if memory.count:
            for package, part in ((path, memory), (without, replace(memory, label='none'))):
                logs = bench.out / 'logs' / part.label
                jobs.append(pool.submit(run_ros, package, [part], logs))
        return [episode for job in jobs for episode in job.result()]


def run(bench: Bench, console: Console) -> int:
    """Run everything, write summary and report; return the exit status: 2 for a missed gate."""
    bench.out.mkdir(parents=True, exist_ok=True)
    for name in ('summary.json', 'report.html'):
        (bench.out / name).unlink(missing_ok=True)
    package = ModelPackage.load(find_package(bench.package))
    load = plan_load.measure(bench.out, str(package.path), bench.load_s, console)
    episodes = pursue_all(bench)
    summary = {
        'success': success(episodes),
        'episodes': sum(episode.planner != 'hold_still' for episode in episodes),
        **load,
        'goals': dict(bench.goals),
        'first_goal': bench.first,
        'package': package.name,
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
    for task, shares in summary['success'].items():
        text = ', '.join(f'{planner} {share:.0%}' for planner, share in shares.items())
        console.print(f'{task}: {text}', highlight=False)
    gate.show(found, console)
    console.print(f'  {out / "report.html"}\n  {out / "summary.json"}', highlight=False)
    if missed := gate.missed(found):
        console.print(f'gates missed: {"; ".join(missed)}', style='red', soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit status 1 when a part is missing or a process fails, 2 for a gate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('out/plan'))
    parser.add_argument('--package', default='tabletop_small', help='directory or shipped name')
    parser.add_argument('--without', default='tabletop_small_none', help='without a long memory')
    parser.add_argument('--demo', action='store_true', help='10 goals, one search')
    parser.add_argument('--goals', default='', help='other numbers of goals: free=4,push=4')
    parser.add_argument('--first', type=int, default=100, help='number of the first goal')
    parser.add_argument('--load-s', type=float, default=20.0, help='length of the load test')
    given = parser.parse_args(arguments)
    goals = DEMO if given.demo else BENCH
    if given.goals:
        pairs = (pair.split('=') for pair in given.goals.split(','))
        goals = {task: int(count) for task, count in pairs}
    searches = {
        task: DEMO_SEARCHES if given.demo else SEARCHES[task] for task in goals if task in SEARCHES
    }
    bench = Bench(
        given.out.resolve(),
        given.package,
        given.without,
        goals,
        given.first,
        searches,
        given.load_s,
    )
    try:
        return run(bench, Console())
    except (PackageError, ProcessFailed, StageTimeout, ValueError) as error:
        print(f'plan: {error}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    raise SystemExit(main())
