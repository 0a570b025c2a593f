"""`make quality`: measure the shipped package on fresh episodes and write what was found.

In: model packages, a seed, a number of pairs. Out: `quality.json`, `quality.html`, PNG sheets,
and the README's table. Two worker processes of one thread each; memory does not grow with the
number of pairs.

    python -m wm_ros.evaluation.quality [--seed N] [--pairs N] [--out DIR] ...
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

from wm_ros import share
from wm_ros.backends.base import EngineUnavailable
from wm_ros.evaluation import counterfactual, horizons, machine, recall
from wm_ros.evaluation.bench import ACTION, HORIZON, RECALL, ArmSpec, Bench, Job, Result, load_arm
from wm_ros.evaluation.figures import CHECK_ARM, MAIN_ARM, Gathered, gates, quality_figures
from wm_ros.evaluation.pictures import png
from wm_ros.evaluation.quality_page import futures, markdown, put_into, reveals, write_page
from wm_ros.evaluation.recall import LeakError
from wm_ros.manifest import PackageError

PACKAGE = 'tabletop_small'
FIRST_SEED = 10_000_000  # training stays below 1,000,000
SEEDS_PER_RUN = 10_000
FULL_PAIRS = 200
LARGEST_PAIRS = 5_000
PAIRS_PER_FILM = 4
PAIRS_PER_CHECK = 8
WITH_PICTURES = 6
console = Console()


def make_jobs(seed: int, pairs: int, arms: Sequence[str], check_pairs: int) -> list[Job]:
    """Return every job of a run: recall clips of all arms, films and forks of the main arm.

    The fp32 check takes part in the first `check_pairs` clips and forks and in films to match.
    Episodes of one run never return in another.
    """
    first = FIRST_SEED + seed * SEEDS_PER_RUN

    def checked(index: int, count: int) -> tuple[str, ...]:
        return (CHECK_ARM,) if index < count else ()

    jobs = [
        Job(RECALL, kind, number, (*arms, *checked(i, check_pairs)), i < WITH_PICTURES)
        for i, (kind, number) in enumerate(recall.clip_names(first, pairs))
    ]
    films = math.ceil(pairs / PAIRS_PER_FILM)
    for i in range(films):
        kind = horizons.KINDS[i % len(horizons.KINDS)]
        check = checked(i, math.ceil(check_pairs / PAIRS_PER_FILM))
        jobs.append(Job(HORIZON, kind, first + i, (*arms, *check)))
    for i in range(pairs):
        kind = counterfactual.KINDS[i % len(counterfactual.KINDS)]
        arms_here = (*arms, *checked(i, check_pairs))
        jobs.append(Job(ACTION, kind, first + films + i, arms_here, i < WITH_PICTURES))
    return jobs


_bench: Bench | None = None


def start_worker(specs: Sequence[ArmSpec]) -> None:
    """Load the arms and the simulator of this process."""
    global _bench
    cv2.setNumThreads(1)
    _bench = Bench([load_arm(spec) for spec in specs])


def work(job: Job) -> Result:
    """Answer a job in a worker."""
    if _bench is None:
        raise RuntimeError('start_worker was not called in this process')
    return _bench.run(job)


def run_jobs(jobs: Sequence[Job], specs: Sequence[ArmSpec], workers: int) -> Iterator[Result]:
    """Yield results as they come. With 0 workers everything runs in this process."""
    if workers == 0:
        start_worker(specs)
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, context, start_worker, (list(specs),)) as pool:
        waiting: set[Future[Result]] = set()
        todo = iter(jobs)
        try:
            while True:
                while len(waiting) < 2 * workers and (job := next(todo, None)) is not None:
                    waiting.add(pool.submit(work, job))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], Gathered]:
    """Run all jobs and return the figures and the outcomes."""
    specs = [
        ArmSpec(arm, args.package if arm == MAIN_ARM else f'{args.package}_{arm}', args.backend)
        for arm in args.arms
    ]
    engine = load_arm(specs[0]).engine
    jobs = make_jobs(args.seed, args.pairs, args.arms, args.check_pairs)
    if args.check_pairs:
        specs.append(ArmSpec(CHECK_ARM, args.package, 'onnxruntime', 'fp32'))
    gathered, started = Gathered(), time.monotonic()
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(),
        console=console,
    )
    with bar:
        tasks = {
            what: bar.add_task(what, total=sum(job.what == what for job in jobs))
            for what in (RECALL, HORIZON, ACTION)
        }
        for result in run_jobs(jobs, specs, args.workers):
            gathered.add(result)
            bar.advance(tasks[result.job.what])
    gathered.sort()
    figures = quality_figures(gathered, args.seed)
    first = FIRST_SEED + args.seed * SEEDS_PER_RUN
    figures |= {
        'pairs': args.pairs,
        'commit': machine.commit(),
        'seeds': {'seed': args.seed, 'first': first, 'last': max(job.seed for job in jobs)},
    }
    figures['extras'] |= {
        'engine': engine,
        'package': args.package,
        'minutes': (time.monotonic() - started) / 60,
        'machine': f'{platform.machine()}, {os.cpu_count()} cores, {args.workers} workers',
        'gates': gates(figures),
    }
    return figures, gathered


def write(figures: dict[str, Any], gathered: Gathered, out: Path) -> str:
    """Write JSON, table, sheets and page into `out`; return the table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / 'quality.json').write_text(json.dumps(figures, indent=1) + '\n', encoding='utf-8')
    text = markdown(figures)
    (out / 'table.md').write_text(text, encoding='utf-8')
    sheets = {}
    for arm in figures['recall_2afc']:
        for lag in (250, 1500):
            cases = [o for o in gathered.recall[arm] if o.lag == lag]
            sheets[f'{arm}: reveals after {lag} frames'] = reveals(cases)
    wrong = [o for o in gathered.recall[MAIN_ARM] if o.score < 1 and o.pictures]
    if wrong:
        sheets[f'{MAIN_ARM}: not recalled'] = reveals(wrong)
    pairs = gathered.action[MAIN_ARM]
    sheets['two futures from one state'] = futures([o for o in pairs if o.visible])
    if small := [o for o in pairs if not o.visible and o.pictures]:
        sheets['two futures that differ in less than 5 percent'] = futures(small)
    for title, sheet in sheets.items():
        (out / f'{title.replace(": ", "_").replace(" ", "_")}.png').write_bytes(png(sheet))
    write_page(out / 'quality.html', figures, sheets)
    return text


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m wm_ros.evaluation.quality', description=__doc__
    )
    parser.add_argument('--seed', type=int, default=0, help='another number draws fresh episodes')
    parser.add_argument('--pairs', type=int, default=FULL_PAIRS, help='pairs per lag')
    parser.add_argument('--package', default=PACKAGE, help='name or directory')
    parser.add_argument(
        '--arms',
        nargs='+',
        default=[MAIN_ARM, 'none', 'window'],
        choices=[MAIN_ARM, 'none', 'window'],
        help='the first is the shipped one',
    )
    parser.add_argument('--backend', default='auto', help='engine of the arms')
    parser.add_argument(
        '--check-pairs', type=int, help='pairs run in fp32 on ONNX Runtime too; by default 1 of 8'
    )
    parser.add_argument('--workers', type=int, default=2, help='processes; 0 for this one alone')
    parser.add_argument('--out', type=Path, default=share.REPOSITORY / 'out' / 'quality')
    parser.add_argument(
        '--readme',
        type=Path,
        default=None,
        help='file that takes the table; by default README.md after a full run',
    )
    args = parser.parse_args(argv)
    if args.arms[0] != MAIN_ARM:
        parser.error(f'--arms starts with {args.arms[0]}, expected {MAIN_ARM}')
    if not 1 <= args.pairs <= LARGEST_PAIRS or args.seed < 0:
        parser.error(
            f'--pairs {args.pairs} --seed {args.seed}: expected 1 to {LARGEST_PAIRS} pairs, '
            'a seed from 0 on'
        )
    if args.check_pairs is None:
        args.check_pairs = math.ceil(args.pairs / PAIRS_PER_CHECK)
    if args.readme is None and args.pairs >= FULL_PAIRS:
        args.readme = share.REPOSITORY / 'README.md'
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        1 when a leak or a missing part stops it; 2 when a run of `FULL_PAIRS` or more misses a
        gate, which is named (fewer pairs measure too coarsely to decide); otherwise 0.
    """
    args = parse(argv)
    try:
        figures, gathered = measure(args)
    except (LeakError, PackageError, EngineUnavailable) as error:
        console.print(f'quality: {type(error).__name__}: {error}', style='red', markup=False)
        return 1
    text = write(figures, gathered, args.out)
    console.print(text, markup=False, soft_wrap=True)
    passed: dict[str, bool] = figures['extras']['gates']
    for name, ok in passed.items():
        console.print(f'{"passed    " if ok else "NOT passed"} {name}', style='' if ok else 'red')
    if args.readme and args.readme.is_file():
        put_into(args.readme, text)
        console.print(f'table written into {args.readme}', markup=False)
    console.print(f'look at {args.out / "quality.html"}', markup=False)
    missed = [name for name, ok in passed.items() if not ok]
    if missed and args.pairs >= FULL_PAIRS:
        console.print(f'quality: gates missed: {"; ".join(missed)}', style='red', markup=False)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
