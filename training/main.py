"""Run a recipe stage by stage: shards -> tokenizer -> teacher(s) -> student -> package.

    python -m training.main tiny|tabletop|baselines|real [--out DIR] [--work DIR] ...

Every stage ends in an artefact under `training/artefacts/<recipe>/`, and a stage whose artefact
is there is not run again: a run that was cut off goes on where it was. `--fresh` starts from
nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from export.to_onnx import export_package
from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from training import checkpoint
from training.distil import distil, few_step_error
from training.probe import ProbeClip, collect, recall_2afc
from training.recipes import TABLETOP, TINY, Recipe, TeacherStage, real_recipe
from training.shards import Shards, write_shards
from training.teacher import train_teacher
from training.tokenizer import psnr, round_to_half, train_tokenizer
from training.world import World
from training.worlds import make_world
from wm_ros.contract import StreamContract

ARTEFACTS = Path(__file__).parent / 'artefacts'
REPOSITORY = Path(__file__).parent.parent
PRACTICE_SEED, PROBE_SEED, TOKENIZER_SEED = 0, 900_000, 800_000
console = Console()


class GateError(RuntimeError):
    """A model that has not begun to remember by the time it should have: stop, do not polish
    it.
    """


class Run:
    """One arm of one recipe: where its files are, and its stages in order."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        work: Path,
        artefacts: Path,
        contract: Path | None,
        bags: list[Path],
        workers: int,
        packages: Path,
    ) -> None:
        self.recipe, self.work, self.artefacts = (
            recipe,
            work / recipe.name,
            artefacts / recipe.name,
        )
        self.world: World = make_world(recipe, contract, bags)
        self.contract = StreamContract.load(contract) if contract else None
        self.workers, self.packages = workers, packages
        self.arm = recipe.model.arm
        self._probes: list[ProbeClip] | None = None

    def meta(self, stage: str, **figures: object) -> dict[str, object]:
        """What an artefact says of itself."""
        return {
            'recipe': self.recipe.name,
            'stage': stage,
            'commit': checkpoint.commit(),
            'command': 'python -m training.main ' + ' '.join(sys.argv[1:]),
            'torch': str(torch.__version__),
            **figures,
        }

    def tokenizer(self) -> Autoencoder:
        """Stage 0, or its artefact."""
        path, stage = self.artefacts / 'tokenizer.pt', self.recipe.tokenizer
        autoencoder = Autoencoder(self.recipe.model)
        if path.exists():
            checkpoint.load(path).load_into(autoencoder)
        else:
            seeds, clip_frames = range(self.world.clips), 0
            if not self.world.clips:
                clip_frames = min(500, self.recipe.practice_frames)
                seeds = range(TOKENIZER_SEED, TOKENIZER_SEED + -(-stage.frames // clip_frames))
            images = np.concatenate(
                [self.world.practice(seed, clip_frames).images_THWC for seed in seeds]
            )
            # Unseen where clips are endless; of a folder of bags it is one of the training clips.
            check = self.world.practice(PROBE_SEED, clip_frames).images_THWC
            started = time.monotonic()
            autoencoder = train_tokenizer(
                self.recipe.model, images, stage, work=self.work, seed=self.recipe.seed
            )
            figures = {
                'psnr_db': round(psnr(autoencoder, check), 2),
                'seconds': round(time.monotonic() - started),
            }
            console.print('tokenizer', figures)
            checkpoint.save(
                path, autoencoder, self.recipe.model, self.meta('tokenizer', **figures)
            )
        return autoencoder.eval().requires_grad_(False)

    def shards(self, autoencoder: Autoencoder) -> Shards:
        """Practice clips as latents, in the work folder."""
        recipe = self.recipe
        folder = self.work / 'shards'
        clips = self.world.clips or recipe.practice_clips
        write_shards(
            folder,
            self.world,
            autoencoder,
            seeds=range(PRACTICE_SEED, PRACTICE_SEED + clips),
            frames=recipe.practice_frames,
            workers=self.workers,
        )
        return Shards(folder, recipe.model.latent_shape, recipe.model.action_width)

    def probes(self, autoencoder: Autoencoder, count: int) -> list[ProbeClip]:
        """Recall probes, made once."""
        if self._probes is None and self.recipe.probe_clips == 0:
            self._probes = []
        if self._probes is None:
            self._probes = collect(self.world, autoencoder, range(PROBE_SEED, PROBE_SEED + count))
        return self._probes

    @property
    def path(self) -> Path:
        """The arm's artefact: the newest stage only."""
        return self.artefacts / f'{self.arm}.pt'

    def reached(self) -> str:
        """Name of the stage that the arm's artefact holds, or ''."""
        return str(checkpoint.load(self.path).meta['stage']) if self.path.exists() else ''

    def recall(self, model: nn.Module, autoencoder: Autoencoder, count: int) -> dict[int, float]:
        """2AFC by lag on the probes; empty where the world has none."""
        clips = self.probes(autoencoder, count)
        assert isinstance(model, LatentWorldModel)
        return (
            recall_2afc(
                model, autoencoder, clips, self.recipe.sampler_steps, self.recipe.noise_mode
            )
            if clips
            else {}
        )

    def train(self) -> LatentWorldModel:
        """Run all stages that are not done and return the student."""
        recipe = self.recipe
        autoencoder = self.tokenizer()
        torch.manual_seed(recipe.seed)
        model = LatentWorldModel(recipe.model)
        stages = [*(stage.name for stage in recipe.teachers), 'student']
        done = self.reached()
        if done:
            checkpoint.load(self.path).load_into(model)
        for position, name in enumerate(stages):
            if done and position <= stages.index(done):
                continue
            shards = self.shards(autoencoder)
            started = time.monotonic()
            model.train().requires_grad_(True)
            figures: dict[str, object] = {}
            if name == 'student':
                teacher = model
                model = distil(
                    teacher,
                    shards,
                    recipe.student,
                    sampler_steps=recipe.sampler_steps,
                    work=self.work,
                    seed=recipe.seed + position,
                )
                figures['teacher_error'] = few_step_error(
                    teacher, teacher, shards, recipe.student, recipe.sampler_steps
                )
                figures['student_error'] = few_step_error(
                    model, teacher, shards, recipe.student, recipe.sampler_steps
                )
            else:
                stage = recipe.teachers[position]
                model = train_teacher(
                    model,
                    shards,
                    stage,
                    work=self.work,
                    seed=recipe.seed + position,
                    on_step=self.gate(stage, autoencoder),
                )
            round_to_half(model)
            figures['seconds'] = round(time.monotonic() - started)
            figures['recall_2afc'] = self.recall(model, autoencoder, recipe.probe_clips)
            console.print(self.arm, name, figures)
            checkpoint.save(self.path, model, recipe.model, self.meta(name, **figures))
        return model.eval().requires_grad_(False)

    def gate(
        self, stage: TeacherStage, autoencoder: Autoencoder
    ) -> Callable[[int, float, nn.Module], None]:
        """Return a check that stops a teacher which has not begun to recall after
        `gate_minutes`.
        """
        passed = [stage.gate_minutes <= 0 or self.arm != 'ttt']

        def check(step: int, seconds: float, model: nn.Module) -> None:
            if passed[0] or (seconds < 60 * stage.gate_minutes and step < stage.steps):
                return
            lags = self.recall(model, autoencoder, self.recipe.probe_clips)
            shown = min(lags, key=lambda lag: abs(lag - 128))
            if lags[shown] <= stage.gate_2afc:
                raise GateError(
                    f'2AFC at lag {shown} is {lags[shown]:.3f} after {seconds / 60:.0f} minutes '
                    f'and {step} steps, the gate is {stage.gate_2afc}: no memory yet'
                )
            console.print(f'gate passed at step {step}: 2AFC by lag', lags)
            passed[0] = True

        return check

    def export(self, model: LatentWorldModel, *, name: str, shared_tokenizer: Path | None) -> Path:
        """Write the model package."""
        assert self.contract is not None
        meta = checkpoint.load(self.path).meta
        out = self.packages / name
        export_package(
            model,
            self.tokenizer(),
            out,
            name=name,
            contract=self.contract.to_dict(),
            sampler={
                'steps': list(self.recipe.sampler_steps),
                'noise': self.recipe.noise_mode,
                'noise_draws': 1
                if self.recipe.noise_mode == 'deterministic'
                else len(self.recipe.sampler_steps),
            },
            renderer=getattr(self.world, 'renderer', None),
            provenance={
                'command': str(meta['command']),
                'commit': str(meta['commit']),
                'date': time.strftime('%Y-%m-%d'),
            },
            tokenizer_package=shared_tokenizer,
        )
        return out


def run_tiny(args: argparse.Namespace) -> None:
    """Train the fixture and hold its gate; what CI runs."""
    shutil.rmtree(args.work / TINY.name, ignore_errors=True)
    run = Run(
        TINY,
        work=args.work,
        artefacts=args.work / 'artefacts',
        contract=None,
        bags=[],
        workers=1,
        packages=args.packages,
    )
    shutil.rmtree(run.artefacts, ignore_errors=True)
    started = time.monotonic()
    model = run.train()
    lags = run.recall(model, run.tokenizer(), TINY.probe_clips)
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
        shutil.rmtree(run.work, ignore_errors=True)
        run.path.unlink(missing_ok=True)
        if arm == 'ttt':
            (run.artefacts / 'tokenizer.pt').unlink(missing_ok=True)
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
