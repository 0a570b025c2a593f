"""Run a recipe from nothing to a package.

    python -m training.main tiny|tabletop|baselines|real|fine-tune|compare [--work DIR] ...

The artefact of every stage lies under `training/artefacts/<recipe>/` or the work folder, and a
stage whose artefact still holds is not run again: a run that was cut off goes on where it was,
and a changed recipe is trained from the first stage that it touches. `--fresh` starts from
nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from training.compare import compare
from training.origin import ARTEFACTS, OriginError
from training.own_robot import DEMO_WORK, HELD_OUT, run_fine_tune, run_real
from training.recipes import TABLETOP, TINY, baseline
from training.run import GateError, Run, console
from wm_ros import share
from wm_ros.backends import EngineUnavailable, require_onnxruntime
from wm_ros.bag import BagError
from wm_ros.config import ARMS
from wm_ros.contract_fields import ContractError
from wm_ros.model_package import MANIFEST, PackageError

BASELINES = ('none', 'window')
EXPORTING = ('tabletop', 'baselines', 'real', 'fine-tune')


def run_tiny(args: argparse.Namespace) -> None:
    """Train the fixture and hold its gate; what CI runs."""
    run = Run(
        TINY,
        work=args.work,
        artefacts=args.work / 'artefacts',
        contract=None,
        bags=[],
        workers=1,
        packages=args.packages,
        command=args.command,
    )
    run.forget()
    started = time.monotonic()
    model = run.train()
    lags = run.recall(model, run.tokenizer())
    mean = float(np.mean(list(lags.values())))
    minutes = (time.monotonic() - started) / 60
    summary = {
        'recall_2afc': lags,
        'mean': mean,
        'gate': 0.62,
        'minutes': round(minutes, 2),
        'recipe': asdict(TINY),
    }
    (args.work / TINY.name / 'summary.json').write_text(json.dumps(summary, indent=1))
    console.print(
        f'train-tiny: student 2AFC by lag {lags}, mean {mean:.3f}, {minutes:.1f} minutes'
    )
    if mean <= 0.62:
        raise GateError(f'mean 2AFC over lags 48 to 256 is {mean:.3f}, the gate is 0.62')


def tabletop(args: argparse.Namespace, arm: str) -> Run:
    """Return the run of the shipped model, or of a baseline of the same size.

    Raises:
        FileNotFoundError: a baseline, and no package whose tokenizer it shares.
    """
    shared = args.packages / TABLETOP.name / MANIFEST
    if arm != 'ttt' and not shared.exists():
        raise FileNotFoundError(
            f'{shared}: no package whose tokenizer the baseline {arm!r} could share; '
            'run `make train` first'
        )
    return Run(
        TABLETOP if arm == 'ttt' else baseline(TABLETOP, arm),
        work=args.work,
        artefacts=ARTEFACTS,
        contract=share.REPOSITORY / 'contracts' / 'tabletop.yaml',
        bags=[],
        workers=args.workers,
        packages=args.packages,
        command=args.command,
    )


def run_tabletop(args: argparse.Namespace, arm: str) -> None:
    """Train and export one arm."""
    run = tabletop(args, arm)
    name, shared = TABLETOP.name, None
    if arm != 'ttt':
        name, shared = f'{TABLETOP.name}_{arm}', args.packages / TABLETOP.name
    if shared:
        run.check_shared(shared)
    if args.fresh:
        run.forget()
    model = run.train()
    console.print('package:', run.export(model, name=name, shared_tokenizer=shared))


def run_baselines(args: argparse.Namespace) -> None:
    """Train `none` and `window` at once, each on its share of the threads: two small models on a
    thread each are done sooner than one after the other on two.
    """
    shared = tabletop(args, BASELINES[0])
    shared.check_shared(args.packages / TABLETOP.name)
    shared.shards(shared.tokenizer())  # before two processes want them
    threads = str(max(1, args.threads // len(BASELINES)))
    command = [sys.executable, '-m', 'training.main', 'tabletop', f'--work={args.work}']
    command += [f'--packages={args.packages}', f'--workers={args.workers}', '--threads', threads]
    command += ['--fresh'] * args.fresh + [f'--command={args.command}']
    console.print('curves:', *(f'{shared.work}/{arm}.*.jsonl' for arm in BASELINES))
    # Two live progress bars would write over each other.
    environment = {**os.environ, 'TERM': 'dumb'}
    arms = [subprocess.Popen([*command, '--arm', arm], env=environment) for arm in BASELINES]
    try:
        failed = [arm for arm, process in zip(BASELINES, arms, strict=True) if process.wait()]
    finally:
        for process in arms:
            process.terminate()
            process.wait()
    if failed:
        raise SystemExit(f'baselines: {", ".join(failed)} failed, see above')


def run_compare(args: argparse.Namespace) -> None:
    """Distil one finished teacher in both ways and judge the samplers of 1, 2 and 4 passes."""
    run = tabletop(args, args.arm)
    teacher = args.teacher or run.last_teacher()
    console.print('teacher:', teacher)
    compare(run, teacher)


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep what is freed: a training step frees gigabytes that the next
    one takes again, and faulting those pages in anew was 30 % of a long step (0.83 -> 0.58 s).
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:  # glibc's own; other C libraries are left as they are
        never_map, trim_threshold = (-4, 0), (-1, -1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
        mallopt(*never_map)
        mallopt(*trim_threshold)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=tuple(RUNS))
    work = f'scratch folder (shards, running state; default out/train, of real {DEMO_WORK})'
    parser.add_argument('--work', type=Path, help=work)
    parser.add_argument('--packages', type=Path, default=None, help='where the package goes')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--workers', type=int, default=2, help='processes that render')
    parser.add_argument('--fresh', action='store_true', help='start from nothing')
    _own_robot_arguments(parser)
    parser.add_argument(
        '--arm', choices=ARMS, default='ttt', help='tabletop, compare: which memory'
    )
    parser.add_argument(
        '--teacher', type=Path, help='compare: artefact of a teacher (default: the last one kept)'
    )
    asked = f'python -m training.main {shlex.join(sys.argv[1:])}'
    parser.add_argument('--command', default=asked, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if (args.what == 'fine-tune') != bool(args.origin):
        parser.error('--from: what fine-tune, and nothing else, goes on from')
    if not args.effort > 0:
        parser.error(f'--effort {args.effort:g}: expected above 0')
    if args.fresh and args.what == 'compare':
        parser.error('--fresh: compare trains no teacher and forgets none')
    if args.what in EXPORTING:  # hours later an export checks itself with it
        require_onnxruntime('export')
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    args.work = args.work or (DEMO_WORK if args.what == 'real' else Path('out/train'))
    shipped = share.REPOSITORY / 'packages'
    args.packages = args.packages or (
        shipped if args.what in ('tabletop', 'baselines') else args.work / 'packages'
    )
    RUNS[args.what](args)


def _own_robot_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what only `real` and `fine-tune` read."""
    add = parser.add_argument
    add(
        '--bags',
        type=Path,
        nargs='+',
        default=[share.g1_bottle()],
        help='bags to learn from, or folders of them',
    )
    add('--contract', type=Path, default=share.REPOSITORY / 'contracts' / 'g1_bottle.yaml')
    add(
        '--hold-out',
        metavar='NAMES',
        help='bags kept apart, comma separated (default: none, '
        f"{HELD_OUT} of the project's own bags)",
    )
    add('--name', default='', help="of the package (default: the contract's)")
    add('--quick', action='store_true', help='real: a small model, in ten minutes')
    add('--effort', type=float, default=1.0, help='times the steps of the recipe (default 1)')
    add('--from', dest='origin', metavar='NAME', help='fine-tune: artefacts to go on from')
    add('--tokenizer-only', action='store_true', help='fine-tune: world model from nothing')
    add('--train-tokenizer', action='store_true', help='fine-tune: train the tokenizer on')


RUNS: dict[str, Callable[[argparse.Namespace], None]] = {
    'tiny': lambda args: run_tiny(args),
    'tabletop': lambda args: run_tabletop(args, args.arm),
    'baselines': lambda args: run_baselines(args),
    'real': lambda args: run_real(args),
    'fine-tune': lambda args: run_fine_tune(args),
    'compare': lambda args: run_compare(args),
}


if __name__ == '__main__':
    try:
        main()
    except GateError as error:
        raise SystemExit(f'gate: {error}') from error
    except (
        FileNotFoundError,
        PackageError,
        BagError,
        ContractError,
        OriginError,
        EngineUnavailable,
    ) as error:
        raise SystemExit(str(error)) from error
