"""`make bench`: what a frame, a planner's question and a long session cost on this machine.

In: model packages and engines. Out: tables on the terminal, `bench.json`, `bench.png`. Under four
minutes on two cores, also on busy ones.

    python -m wm_ros.evaluation.speed [--quick] [--package NAME] [--engines ...] [--threads N] ...
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from wm_ros import share
from wm_ros.backends import EngineUnavailable
from wm_ros.evaluation import machine
from wm_ros.evaluation.contest import QUICK, Plan, measure
from wm_ros.evaluation.runners import ENGINES, load_runners
from wm_ros.evaluation.speed_page import draw, notes, tables
from wm_ros.evaluation.stopwatch import process_clock
from wm_ros.manifest import PackageError
from wm_ros.model_package import ModelPackage, find_package

PACKAGE = 'tabletop_small'
BASELINES = ('none', 'window')
BAR_STEPS = 40
console = Console()


def find_arms(package: str) -> tuple[list[ModelPackage], list[str]]:
    """Load a package and the baselines beside it.

    Returns:
        What is there, the package itself first, and the names of the baselines that are not.

    Raises:
        PackageError: the package is not there, or one of them is damaged.
    """
    found, absent = [ModelPackage.load(find_package(package))], []
    for arm in BASELINES:
        name = f'{package}_{arm}'
        try:
            path = find_package(name)
        except PackageError:
            absent.append(name)
        else:
            found.append(ModelPackage.load(path))
    return found, absent


def run(args: argparse.Namespace, command: str) -> dict[str, Any]:
    """Load, measure and return what goes into `bench.json`."""
    plan = QUICK if args.quick else Plan()
    began_ns, load_before = process_clock()[0], machine.load()
    packages, absent = find_arms(args.package)
    console.print(f'[dim]loading {len(packages)} packages into the engines[/dim]')
    runners, refused = load_runners(packages, args.engines, args.threads, process_clock)
    # A thread that draws would be in the CPU times: the bars are drawn between rounds.
    columns = (TextColumn('{task.description:>12}'), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False) as bars:
        tasks = {part: bars.add_task(part) for part in ('frames', 'candidates', 'long session')}

        def advance(part: str, done: int, rounds: int) -> None:
            if done % max(1, rounds // BAR_STEPS) == 0:
                bars.update(tasks[part], completed=done, total=rounds, refresh=True)

        figures = measure(runners, plan, process_clock, machine.rss_bytes, advance)
    return {
        'command': command,
        'commit': machine.commit(),
        'machine': machine.describe(),
        'load': {'before': load_before, 'after': machine.load()},
        'seconds': round((process_clock()[0] - began_ns) / 1e9, 1),
        'threads': args.threads,
        'plan': asdict(plan),
        'packages': {p.name: {'arm': p.model.arm, 'sha256': p.sha256} for p in packages},
        'packages_not_here': absent,
        'engines_not_here': refused,
        **figures,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='python -m wm_ros.evaluation.speed', description=__doc__)
    parser.add_argument('--quick', action='store_true', help='fewer rounds, 400 frames')
    parser.add_argument(
        '--package', default=PACKAGE, help='name or directory; its baselines are taken too'
    )
    parser.add_argument(
        '--engines',
        nargs='+',
        default=list(ENGINES),
        metavar='KIND:PRECISION',
        help='the first that runs here is the reference, the last runs the long session',
    )
    parser.add_argument('--threads', type=int, default=1, help='of each engine')
    parser.add_argument('--out', type=Path, default=share.REPOSITORY / 'out' / 'bench')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 when a package or every engine is missing, otherwise 0."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    try:
        figures = run(args, shlex.join(['python', '-m', 'wm_ros.evaluation.speed', *argv]))
    except (PackageError, EngineUnavailable, ValueError) as error:
        console.print(f'bench: {type(error).__name__}: {error}', style='red', markup=False)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'bench.json').write_text(json.dumps(figures, indent=1) + '\n', encoding='utf-8')
    (args.out / 'bench.png').write_bytes(draw(figures))
    for table in tables(figures):
        console.print(table)
    console.print(notes(figures), markup=False, soft_wrap=True)
    console.print(f'look at {args.out / "bench.png"}', markup=False, soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
