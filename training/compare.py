"""Two ways to distil, side by side: consistency distillation and ODE regression from one finished
teacher, with the same windows, rows, steps, rate and average. Only the loss differs.

Both are trained for every flow time that is asked of them here: the consistency grid holds them
all, and the regression takes those of the longest sampler. The writer is frozen in both, so the
three models read the same memories.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from export import artefact
from models.world_model import LatentWorldModel
from training.distil import distil, few_step_error
from training.losses import shift_time
from training.optimise import running_state
from training.probe import recall_2afc
from training.recipes import StudentStage
from training.run import Run, console

METHODS = ('cd', 'ode')
PASSES = (1, 2, 4)
NOISE_MODES = ('deterministic', 'fresh')


def samplers(stage: StudentStage) -> list[tuple[float, ...]]:
    """Return flow times of 1, 2 and 4 passes, evenly spread over the cells of the grid."""
    if stage.grid % max(PASSES):
        raise ValueError(f'a grid of {stage.grid} cells: expected a multiple of {max(PASSES)}')
    return [
        tuple(
            round(t, 6) for t in shift_time(torch.linspace(1, 0, n + 1), stage.shift)[:-1].tolist()
        )
        for n in PASSES
    ]


def compare(run: Run, teacher_path: Path) -> dict[str, Any]:
    """Distil the teacher both ways, judge all three, write `compare.json` into the work folder
    and print a table.

    Returns:
        `models.<teacher|cd|ode>.<passes>.<noise>` -> `error`, the mean squared distance to the
        teacher's fine ODE solution (with fresh noise a sample that is as good lies elsewhere:
        compare it between models only), and `recall_2afc` by lag with its mean.

    Raises:
        ValueError: no teacher of this recipe.
    """
    recipe, found = run.recipe, artefact.load(teacher_path)
    teachers = [stage.name for stage in recipe.teachers]
    if found.config != recipe.model or found.meta['stage'] not in teachers:
        raise ValueError(
            f'{teacher_path} holds {found.meta["stage"]!r} of arm {found.config.arm!r}: expected '
            f'one of {", ".join(teachers)} of arm {run.arm!r} in the shapes of {recipe.name}'
        )
    teacher = LatentWorldModel(recipe.model).eval().requires_grad_(False)
    found.load_into(teacher)
    autoencoder = run.tokenizer()
    shards = run.shards(autoencoder)
    every = samplers(recipe.student)
    models, seconds, work = {'teacher': teacher}, {}, run.work / 'compare'
    for method in METHODS:
        started = time.monotonic()
        models[method] = distil(
            teacher,
            shards,
            replace(recipe.student, method=method, name=f'student_{method}'),
            sampler_steps=every[-1],
            work=work,
            seed=recipe.seed + len(teachers),
        ).eval()
        seconds[method] = round(time.monotonic() - started)
    result: dict[str, Any] = {
        **run.meta('compare', teacher=str(teacher_path), teacher_stage=found.meta['stage']),
        'settings': asdict(recipe.student) | {'method': METHODS, 'name': 'student'},
        'seconds': seconds,
        'samplers': dict(zip(PASSES, every, strict=True)),
        'probe_clips': recipe.probe_clips,
        'models': {name: {passes: {} for passes in PASSES} for name in models},
    }
    for name, model in models.items():
        for passes, steps in zip(PASSES, every, strict=True):
            for noise in NOISE_MODES[: 1 if passes == 1 else 2]:  # one pass has one draw anyway
                lags = recall_2afc(model, autoencoder, run.probes(autoencoder), steps, noise)
                result['models'][name][passes][noise] = {
                    'error': few_step_error(model, teacher, shards, recipe.student, steps, noise),
                    'recall_2afc': lags,
                    'mean': float(np.mean(list(lags.values()))) if lags else None,
                }
    path = run.work / 'compare.json'
    path.write_text(json.dumps(result, indent=1) + '\n')
    for method in METHODS:
        running_state(work, f'{run.arm}.student_{method}').unlink(missing_ok=True)
    console.print(_table(result['models']))
    console.print('written:', path)
    return result


def _table(models: dict[str, Any]) -> Table:
    table = Table('model', 'passes', 'noise', 'distance to ODE', '2AFC mean', '2AFC by lag')
    for name, by_passes in models.items():
        for passes, by_noise in by_passes.items():
            for noise, row in by_noise.items():
                lags = '  '.join(
                    f'{lag}: {value:.2f}' for lag, value in row['recall_2afc'].items()
                )
                mean = '-' if row['mean'] is None else f'{row["mean"]:.3f}'
                table.add_row(name, str(passes), noise, f'{row["error"]:.4f}', mean, lags)
    return table
