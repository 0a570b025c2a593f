"""One arm of one recipe, stage by stage: shards -> tokenizer -> teachers -> student -> package.

Every stage ends in an artefact that says what it was made of: the stage's numbers, what it saw,
and the stage before it. A stage is not run again while that still holds; where it does not, the
stage and all after it are made anew, and the run says why.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from export import artefact
from export.to_onnx import check_tokenizer, export_package
from models.autoencoder import Autoencoder
from models.rounding import round_to_fp16
from models.world_model import LatentWorldModel
from training.composing import train_compositor
from training.distil import distil, few_step_error
from training.fingerprint import digest, stale, weights_digest
from training.optimise import running_state
from training.origin import Origin, take
from training.probe import ProbeClip, collect, recall_2afc
from training.recipes import Recipe, Stage, StudentStage, TeacherStage, TokenizerStage
from training.shards import Shards, shards_made_of, write_shards
from training.teacher import train_teacher
from training.tokenizer import reconstruction_psnr_db, train_tokenizer
from training.world import SKILL_SEED, render_pool
from training.worlds import make_world
from wm_ros.contract import StreamContract
from wm_ros.evaluation import practised
from wm_ros.evaluation.machine import commit
from wm_ros.manifest import PackageError, Sampler
from wm_ros.model_package import ModelPackage

PRACTICE_SEED, PROBE_SEED, TOKENIZER_SEED = 0, 900_000, 800_000
# Tracked files that training itself writes.
WRITTEN = ('training/artefacts', 'packages')
# What a stage is judged by leaves its weights as they are.
JUDGED_BY = ('gate_minutes', 'gate_2afc')
# Newer than the committed artefacts: at 0 a stage is what it was before there was such a number.
OFF_AT_ZERO = ('action_noise', 'edges', 'variation', 'rollout', 'rollout_share')
console = Console(soft_wrap=True)


class GateError(RuntimeError):
    """A model that has not begun to remember by the time it should have: stop, do not polish
    it.
    """


class Run:
    """One arm of one recipe: where its files are, and its stages in order.

    Attributes:
        work: scratch folder of the recipe: shards, running states, curves, `stages/`.
        path: the arm's artefact, its newest stage only. That of `ttt` is made to be committed;
            a baseline's stays in the work folder.
        command: what the user has asked for; artefacts and package repeat it.
        origin: what a fine-tuned model begins with; None from nothing.
    """

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
        command: str,
        origin: Origin | None = None,
    ) -> None:
        self.recipe, self.arm = recipe, recipe.model.arm
        self.work, self.artefacts = work / recipe.name, artefacts / recipe.name
        self.path = (self.artefacts if self.arm == 'ttt' else self.work) / f'{self.arm}.pt'
        self.world = make_world(recipe, contract, bags)
        self.contract = StreamContract.load(contract) if contract else None
        self.workers, self.packages, self.command = workers, packages, command
        self.bags, self.origin = bags, origin
        self._probes: list[ProbeClip] | None = None

    def kept(self, stage: str) -> Path:
        """Where a stage's artefact is kept after the next one has taken its place."""
        return self.work / 'stages' / f'{self.arm}.{stage}.pt'

    def last_teacher(self) -> Path:
        """Return the artefact of the last teacher, or the arm's newest one where that is a
        teacher: a clone has no work folder.

        Raises:
            FileNotFoundError: neither is there.
        """
        teachers = [stage.name for stage in self.recipe.teachers]
        if (kept := self.kept(teachers[-1])).exists():
            return kept
        found = 'is not there'
        if self.path.exists():
            if (stage := artefact.load(self.path).meta['stage']) in teachers:
                return self.path
            found = f'holds the stage {stage!r}'
        raise FileNotFoundError(
            f'{kept} is not there and {self.path} {found}: train the arm {self.arm!r} here, which '
            'keeps its teachers in the work folder (`make train`), or give one with --teacher'
        )

    def forget(self) -> None:
        """Remove what this arm has made, so that it starts from nothing; what a baseline shares
        with `ttt`, tokenizer and shards, goes with `ttt` only.
        """
        for path in (*self.work.glob(f'{self.arm}.*'), *self.work.glob(f'stages/{self.arm}.*')):
            path.unlink()
        self.path.unlink(missing_ok=True)
        if self.arm == 'ttt':
            shutil.rmtree(self.work / 'shards', ignore_errors=True)
            own = (self.artefacts / 'tokenizer.pt', self.artefacts / practised.FILE)
            for path in (*self.work.glob('tokenizer.*'), *own):
                path.unlink(missing_ok=True)

    @cached_property
    def start(self) -> artefact.Artefact | None:
        """What the first stage goes on from: nothing for `ttt` (but for an `origin`), its last
        teacher or student for a baseline, whose parameters are the same.

        Raises:
            FileNotFoundError: a baseline, and no artefact of `ttt`, or one of an earlier stage.
        """
        if self.arm == 'ttt':
            return self.origin.world_model if self.origin else None
        path, wanted = self.artefacts / 'ttt.pt', self.recipe.goes_on_from
        found = artefact.load(path)
        if (stage := found.meta['stage']) not in wanted:
            raise FileNotFoundError(
                f'{path} holds the stage {stage!r}; the baseline {self.arm!r} goes on from '
                f'{" or ".join(map(repr, wanted))}: train `ttt` to the end first (`make train`)'
            )
        return found

    def check_shared(self, tokenizer_package: Path) -> None:
        """Refuse a baseline that could not begin, or not share the package's tokenizer when it
        is done.

        Raises:
            FileNotFoundError: `ttt` is not trained to the end.
            PackageError: the package is not whole, or has another tokenizer.
        """
        assert self.start is not None, 'a baseline'
        check_tokenizer(self.tokenizer(), ModelPackage.load(tokenizer_package))

    def meta(self, stage: str, **figures: object) -> dict[str, object]:
        """What an artefact says of itself."""
        return {
            'recipe': self.recipe.name,
            'stage': stage,
            'command': self.command,
            'commit': commit(besides=WRITTEN),
            'date': time.strftime('%Y-%m-%d'),
            'torch': str(torch.__version__),
            **figures,
        }

    def tokenizer(self) -> Autoencoder:
        """Stage 0, or its artefact; every arm of a recipe has the same one."""
        path, stage, model = (
            self.artefacts / 'tokenizer.pt',
            self.recipe.tokenizer,
            self.recipe.model,
        )
        autoencoder = Autoencoder(model)
        clip_frames = 0 if self.world.clips else min(500, self.recipe.practice_frames)
        made_of = {
            'stage': numbers(stage),
            'model': [model.image_size, model.latent_channels, model.tokenizer_width],
            'world': self.world.made_of(),
            'clip_frames': clip_frames,
            'seed': self.recipe.seed,
        }
        if self.origin:
            self.origin.tokenizer.load_into(autoencoder)
            made_of['from'] = weights_digest(autoencoder)
            if not self.origin.train_tokenizer:  # it is what it is, whatever it will see
                made_of = {'from': made_of['from']}
        why = f'{path}: no such artefact'
        if path.exists():
            kept = artefact.load(path)
            if not (why := stale(kept.meta.get('made_of'), made_of)):
                kept.load_into(autoencoder)
                return autoencoder.eval().requires_grad_(False)
            why = f'{path} is not used: {why}'
        if self.arm != 'ttt':
            raise FileNotFoundError(
                f'{why}; the baseline {self.arm!r} shares the tokenizer of `ttt`: train that first'
            )
        if self.origin and not self.origin.train_tokenizer:
            console.print('tokenizer: taken from', self.origin.folder)
            artefact.save(path, autoencoder, model, self.meta('tokenizer', made_of=made_of))
            return autoencoder.eval().requires_grad_(False)
        console.print('tokenizer starts:', why)
        seeds = range(self.world.clips) or range(
            TOKENIZER_SEED, TOKENIZER_SEED + -(-stage.frames // max(1, clip_frames))
        )
        if self.world.clips:  # at hand: nothing is rendered; the tokenizer varies them by itself
            recorded = seeds[: len(seeds) // (1 + self.recipe.variants)]
            images = np.concatenate([self.world.practice(s, 0).images_THWC for s in recorded])
        else:
            with render_pool(self.workers) as pool:
                clips = pool.map(self.world.practice, seeds, repeat(clip_frames))
                images = np.concatenate([clip.images_THWC for clip in clips])
        # Unseen where clips are endless; of a folder of bags it is one of the training clips.
        check = self.world.practice(PROBE_SEED, clip_frames).images_THWC
        started = time.monotonic()
        autoencoder = train_tokenizer(
            model,
            images,
            stage,
            work=self.work,
            seed=self.recipe.seed,
            start=autoencoder if self.origin else None,
        )
        figures = {
            'psnr_db': round(reconstruction_psnr_db(autoencoder, check), 2),
            'seconds': round(time.monotonic() - started),
        }
        console.print('tokenizer', figures)
        meta = self.meta('tokenizer', made_of=made_of, **figures)
        artefact.save(path, autoencoder, model, meta)
        running_state(self.work, 'tokenizer').unlink(missing_ok=True)
        return autoencoder.eval().requires_grad_(False)

    def practice_parts(self, position: int | None) -> list[dict[str, Any]]:
        """Return the parts of the practice clips that the stage at a position draws from; all
        where there is none.
        """
        counts = (self.world.clips,) if self.world.clips else self.recipe.practice_clips
        stages = self.recipe.stages[: None if position is None else position + 1]
        seeds = _parts(PRACTICE_SEED, counts[: len(stages)])
        if position is None or stages[-1].skill_share:
            # A baseline has fewer stages, and what `ttt` has practised in all of its own.
            skilled = sum(stage.skill_share > 0 for stage in stages)
            seen = None if self.recipe.goes_on_from else skilled
            seeds += _parts(SKILL_SEED, self.recipe.skill_clips[:seen])
        return [{'seeds': part, 'frames': self.recipe.practice_frames} for part in seeds]

    def shards(self, autoencoder: Autoencoder, position: int | None = None) -> Shards:
        """Practice clips of a stage (all by default) as latents, in the work folder; shared by
        all arms.
        """
        model, folders = self.recipe.model, []
        for part in self.practice_parts(position):
            folder = self.work / 'shards' / f'from_{part["seeds"].start}'
            write_shards(folder, self.world, autoencoder, workers=self.workers, **part)
            folders.append(folder)
        return Shards(folders, model.coded_shape, model.action_width)

    def stages(self, autoencoder: Autoencoder) -> dict[str, dict[str, Any]]:
        """Return what each stage is made of, in order; each names the one that it goes on from."""
        recipe, before = self.recipe, digest(self.start.meta) if self.start else ''
        plan: dict[str, dict[str, Any]] = {}
        for position, stage in enumerate(recipe.stages):
            decisive = numbers(stage)
            shards = [
                shards_made_of(self.world, autoencoder, **part)
                for part in self.practice_parts(position)
            ]
            if isinstance(stage, StudentStage):
                decisive['sampler_steps'] = list(recipe.sampler_steps)
            made_of = {
                'stage': decisive,
                'model': recipe.model.to_dict(),
                'seed': recipe.seed + position,
                'shards': digest(shards),
                'from': before,
            }
            plan[stage.name] = made_of
            before = digest(made_of)
        if recipe.compositor:
            plan[recipe.compositor.name] = {
                'stage': asdict(recipe.compositor),
                'model': recipe.model.to_dict(),
                'seed': recipe.seed + len(recipe.stages),
                'from': before,
                'noise_mode': recipe.noise_mode,
            }
        return plan

    def probes(self, autoencoder: Autoencoder) -> list[ProbeClip]:
        """Recall probes, made once; none where the world has none."""
        if self._probes is None:
            seeds = range(PROBE_SEED, PROBE_SEED + self.recipe.probe_clips)
            self._probes = collect(self.world, autoencoder, seeds, self.workers)
        return self._probes

    def recall(self, model: nn.Module, autoencoder: Autoencoder) -> dict[int, float]:
        """2AFC by lag on the probes; empty where the world has none."""
        assert isinstance(model, LatentWorldModel)
        steps, noise_mode = self.recipe.sampler_steps, self.recipe.noise_mode
        return recall_2afc(model, autoencoder, self.probes(autoencoder), steps, noise_mode)

    def _resume(self, plan: dict[str, dict[str, Any]], model: LatentWorldModel) -> int:
        """Load the furthest artefact that still holds and return how many stages are done."""
        names, found = list(plan), [(0, self.path)]
        for path in (self.path, *map(self.kept, names)):
            if not path.exists():
                continue
            meta = artefact.load(path).meta
            if (name := str(meta['stage'])) not in plan:
                console.print(f'{path} is not used: the recipe has no stage {name!r}')
            elif why := stale(meta.get('made_of'), plan[name]):
                console.print(f'{path} is not used, {name} is trained anew: {why}')
            else:
                found.append((names.index(name) + 1, path))
        done, path = max(found, key=lambda item: item[0])
        if done:
            artefact.load(path).load_into(model)
            if path != self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self.path)
        return done

    def train(self) -> LatentWorldModel:
        """Run all stages that are not done and return the student. Which bags it and what it began
        with have practised is kept beside the artefacts.
        """
        seen = practised.practised_of(self.bags, self.origin.folder if self.origin else None)
        before = practised.Practised()
        if any(self.artefacts.glob('*.pt')):  # of a run before: they stay until others are there
            before = practised.read(self.artefacts)
        practised.keep(self.artefacts, seen.joined(before))
        model = self._train()
        practised.keep(self.artefacts, seen)
        return model

    def _train(self) -> LatentWorldModel:
        recipe = self.recipe
        autoencoder = self.tokenizer()
        torch.manual_seed(recipe.seed)
        model = LatentWorldModel(recipe.model)
        if self.start and not self.origin:
            self.start.load_into(model)
        elif self.start and (left := take(self.start, model)):
            console.print('not taken over, begun afresh:', '; '.join(left))
        plan = self.stages(autoencoder)
        done = self._resume(plan, model)
        for position, stage in list(enumerate(recipe.stages))[done:]:
            shards = self.shards(autoencoder, position)
            self._tell_left_out(stage, shards)
            made_of = plan[stage.name]
            started = time.monotonic()
            figures: dict[str, object] = {}
            model.train().requires_grad_(True)
            if isinstance(stage, StudentStage):
                teacher, steps = model, recipe.sampler_steps
                model = distil(
                    teacher,
                    shards,
                    stage,
                    sampler_steps=steps,
                    work=self.work,
                    seed=made_of['seed'],
                )
                for name, judged in (('teacher_error', teacher), ('student_error', model)):
                    figures[name] = few_step_error(judged, teacher, shards, stage, steps)
            else:
                model = train_teacher(
                    model,
                    shards,
                    stage,
                    work=self.work,
                    seed=made_of['seed'],
                    on_step=self.gate(stage, autoencoder),
                )
            round_to_fp16(model)
            figures['seconds'] = round(time.monotonic() - started)
            figures['recall_2afc'] = self.recall(model, autoencoder)
            self._keep(model, stage.name, made_of, figures)
        if (last := recipe.compositor) and done <= len(recipe.stages):
            started = time.monotonic()
            model = train_compositor(
                model,
                autoencoder,
                self.world,
                last,
                sampler_steps=recipe.sampler_steps,
                noise_mode=recipe.noise_mode,
                work=self.work,
                seed=plan[last.name]['seed'],
            )
            round_to_fp16(model)
            self._keep(
                model, last.name, plan[last.name], {'seconds': round(time.monotonic() - started)}
            )
        return model.eval().requires_grad_(False)

    def _keep(
        self,
        model: LatentWorldModel,
        stage: str,
        made_of: dict[str, Any],
        figures: dict[str, object],
    ) -> None:
        """Save what a stage has made, and remove its running state."""
        console.print(self.arm, stage, figures)
        meta = self.meta(stage, made_of=made_of, **figures)
        for path in (self.kept(stage), self.path):
            artefact.save(path, model, self.recipe.model, meta)
        running_state(self.work, f'{self.arm}.{stage}').unlink(missing_ok=True)

    def _tell_left_out(self, stage: Stage, shards: Shards) -> None:
        """Say where windows are shorter than a stage's, and which clips are too short for them."""
        if (window := shards.window(stage.frames)) < stage.frames:
            console.print(
                f'{stage.name}: windows of {window} frames, not {stage.frames}: four fifths of '
                'all frames lie in clips as long as that'
            )
        short = np.flatnonzero(shards.too_short(stage.frames))
        if not len(short):
            return
        names = getattr(self.world, 'clip_names', range(len(shards.lengths)))
        told = ', '.join(f'{names[clip]} ({shards.lengths[clip]} frames)' for clip in short)
        console.print(
            f'{stage.name} never draws {len(short)} of {len(shards.lengths)} clips, shorter than '
            f'its windows: {told}'
        )

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
            lags = self.recall(model, autoencoder)
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
        """Write the model package, unless the one in place was made of the same: another manifest
        refuses saved memories.
        """
        assert self.contract is not None
        path, tokenizer = self.packages / name, self.tokenizer()
        meta = artefact.load(self.path).meta
        sampler = Sampler(self.recipe.sampler_steps, self.recipe.noise_mode)
        renderer = getattr(self.world, 'renderer', None)
        weights = digest([weights_digest(model), weights_digest(tokenizer)])
        wanted = (name, weights, self.recipe.model, self.contract, sampler, renderer)
        if wanted == _made_of(path):
            console.print(f'{path} holds these weights already: left as it is')
            return path
        export_package(
            model,
            tokenizer,
            path,
            name=name,
            contract=self.contract.to_dict(),
            sampler=sampler.to_dict(),
            renderer=renderer,
            provenance={
                'command': str(meta['command']),
                'commit': str(meta['commit']),
                'date': str(meta.get('date', time.strftime('%Y-%m-%d'))),
                'weights': weights,
            },
            tokenizer_package=shared_tokenizer,
        )
        return path


def numbers(stage: TokenizerStage | Stage) -> dict[str, Any]:
    """Return the numbers that decide what a stage learns."""
    return {
        name: value
        for name, value in asdict(stage).items()
        if name not in JUDGED_BY and (value or name not in OFF_AT_ZERO)
    }


def _parts(first: int, counts: tuple[int, ...]) -> list[range]:
    """Return consecutive ranges of seeds of the given lengths, empty ones left out."""
    ends = [first + sum(counts[: i + 1]) for i in range(len(counts))]
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True) if count]


def _made_of(package: Path) -> tuple[Any, ...] | None:
    """Return what `Run.export` has made a package of; None where there is no whole one."""
    try:
        told = ModelPackage.load(package).manifest
    except PackageError:
        return None
    weights = told.provenance.weights
    return told.name, weights, told.model, told.contract, told.sampler, told.renderer
