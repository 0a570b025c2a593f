"""Run a recipe from nothing to a package.

    python -m training.main tiny|tabletop|baselines|real|compare [--work DIR] [--packages DIR] ...

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
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from training.compare import compare
from training.recipes import TABLETOP, TINY, baseline, real_recipe
from training.run import GateError, Run, console
from wm_ros import share
from wm_ros.config import ARMS
from wm_ros.contract import StreamContract
from wm_ros.model_package import MANIFEST, PackageError

ARTEFACTS = share.REPOSITORY / 'training' / 'artefacts'
BASELINES = ('none', 'window')
HELD_OUT = 'episode_001'  # what `make demo-real` plays


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


def run_real(args: argparse.Namespace) -> None:
    """Train and export a small model from a robot's own bags."""
    bags = practice_bags(args.bags, args.hold_out)
    recipe = real_recipe(StreamContract.load(args.contract))
    run = Run(
        recipe,
        work=args.work,
        artefacts=args.work / 'artefacts',
        contract=args.contract,
        bags=bags,
        workers=1,
        packages=args.packages,
        command=args.command,
    )
    if args.fresh:
        run.forget()
    model = run.train()
    console.print('package:', run.export(model, name=recipe.name, shared_tokenizer=None))


def practice_bags(folder: Path, hold_out: str | None) -> list[Path]:
    """Return the bag folders to train on, in order of their names.

    Args:
        folder: holds one folder per bag.
        hold_out: names kept apart, comma separated; None for the project's own choice, which is
            of its own bags only.

    Raises:
        FileNotFoundError: no such folder, a name that is not in it, nothing left.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of bags; give one with --bags')
    if hold_out is None:
        hold_out = HELD_OUT if folder.resolve() == share.g1_bottle().resolve() else ''
    held_out = {name.strip() for name in hold_out.split(',')} - {''}
    bags = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    if unknown := sorted(held_out - set(bags)):
        raise FileNotFoundError(
            f'--hold-out {", ".join(unknown)}: not in {folder}, which has {", ".join(bags)}'
        )
    kept = [path for name, path in bags.items() if name not in held_out]
    if not kept:
        raise FileNotFoundError(f'{folder}: no bag folders to train on')
    console.print('held out:', ', '.join(sorted(held_out)) or 'nothing')
    return kept


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
    parser.add_argument('what', choices=('tiny', 'tabletop', 'baselines', 'real', 'compare'))
    parser.add_argument(
        '--work',
        type=Path,
        default=Path('out/train'),
        help='scratch folder (shards, running state)',
    )
    parser.add_argument('--packages', type=Path, default=None, help='where the package goes')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--workers', type=int, default=2, help='processes that render')
    parser.add_argument('--fresh', action='store_true', help='start from nothing')
    parser.add_argument('--bags', type=Path, default=share.g1_bottle())
    parser.add_argument(
        '--contract', type=Path, default=share.REPOSITORY / 'contracts' / 'g1_bottle.yaml'
    )
    parser.add_argument(
        '--hold-out',
        metavar='NAMES',
        help='real: bag folders kept apart, comma separated (default: none, '
        f"{HELD_OUT} of the project's own bags)",
    )
    parser.add_argument(
        '--arm', choices=ARMS, default='ttt', help='tabletop, compare: which memory'
    )
    parser.add_argument(
        '--teacher', type=Path, help='compare: artefact of a teacher (default: the last one kept)'
    )
    asked = f'python -m training.main {shlex.join(sys.argv[1:])}'
    parser.add_argument('--command', default=asked, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fresh and args.what == 'compare':
        parser.error('--fresh: compare trains no teacher and forgets none')
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    shipped = share.REPOSITORY / 'packages'
    args.packages = args.packages or (
        shipped if args.what in ('tabletop', 'baselines') else args.work / 'packages'
    )
    if args.what == 'tiny':
        run_tiny(args)
    elif args.what == 'tabletop':
        run_tabletop(args, args.arm)
    elif args.what == 'baselines':
        run_baselines(args)
    elif args.what == 'compare':
        run_compare(args)
    else:
        run_real(args)


if __name__ == '__main__':
    try:
        main()
    except GateError as error:
        raise SystemExit(f'gate: {error}') from error
    except (FileNotFoundError, PackageError) as error:
        raise SystemExit(str(error)) from error
