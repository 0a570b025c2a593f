"""Run a recipe from nothing to a package.

    python -m training.main tiny|tabletop|baselines|real [--out DIR] [--work DIR] ...

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
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from training.recipes import TABLETOP, TINY, TeacherStage, real_recipe
from training.run import GateError, Run, console
from wm_ros.contract import StreamContract

ARTEFACTS = Path(__file__).parent / 'artefacts'
REPOSITORY = Path(__file__).parent.parent


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


def run_tabletop(args: argparse.Namespace, arm: str = 'ttt') -> None:
    """Train and export the shipped model, or a baseline of the same size."""
    recipe = TABLETOP.for_arm(arm)
    if arm != 'ttt':
        recipe = replace(
            recipe, teachers=tuple(baseline_stage(stage) for stage in recipe.teachers)
        )
    run = Run(
        recipe,
        work=args.work,
        artefacts=ARTEFACTS,
        contract=REPOSITORY / 'contracts' / 'tabletop.yaml',
        bags=[],
        workers=args.workers,
        packages=args.packages,
    )
    if args.fresh:
        run.forget()
    model = run.train()
    name = recipe.name if arm == 'ttt' else f'{recipe.name}_{arm}'
    shared = None if arm == 'ttt' else args.packages / recipe.name
    console.print('package:', run.export(model, name=name, shared_tokenizer=shared))


def baseline_stage(stage: TeacherStage) -> TeacherStage:
    """A baseline's version of a stage: same steps and loss rows, clips no longer than what its
    memory can use.
    """
    return replace(stage, frames=min(stage.frames, 128), gate_minutes=0)


def run_real(args: argparse.Namespace) -> None:
    """Train and export a small model from a robot's own bags."""
    held_out = set(args.hold_out.split(',')) if args.hold_out else set()
    if not args.bags.is_dir():
        raise SystemExit(f'{args.bags}: no such folder of bags; give one with --bags')
    recipe = real_recipe(StreamContract.load(args.contract))
    bags = sorted(
        path for path in args.bags.iterdir() if path.is_dir() and path.name not in held_out
    )
    if not bags:
        raise SystemExit(f'{args.bags}: no bag folders to train on')
    run = Run(
        recipe,
        work=args.work,
        artefacts=args.work / 'artefacts',
        contract=args.contract,
        bags=bags,
        workers=1,
        packages=args.packages,
    )
    model = run.train()
    console.print('package:', run.export(model, name=recipe.name, shared_tokenizer=None))


def default_bags() -> Path:
    """Where the real-robot bags lie: $WM_ROS_G1_BOTTLE, or beside the checkout."""
    beside = REPOSITORY.parent / 'shared' / 'data' / 'g1_bottle'
    return Path(os.environ.get('WM_ROS_G1_BOTTLE', beside))


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
    parser.add_argument('what', choices=('tiny', 'tabletop', 'baselines', 'real'))
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
    parser.add_argument('--bags', type=Path, default=default_bags())
    parser.add_argument(
        '--contract', type=Path, default=REPOSITORY / 'contracts' / 'g1_bottle.yaml'
    )
    parser.add_argument(
        '--hold-out', default='episode_001', help='bag folders kept apart, comma separated'
    )
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    shipped = REPOSITORY / 'packages'
    args.packages = args.packages or (
        shipped if args.what in ('tabletop', 'baselines') else args.work / 'packages'
    )
    if args.what == 'tiny':
        run_tiny(args)
    elif args.what == 'tabletop':
        run_tabletop(args)
    elif args.what == 'baselines':
        for arm in ('none', 'window'):
            run_tabletop(args, arm)
    else:
        run_real(args)


if __name__ == '__main__':
    try:
        main()
    except GateError as error:
        raise SystemExit(f'gate: {error}') from error
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
