"""Stage 2: the few-step student. Causal consistency distillation, or ODE regression at the
student's own steps.

The writer is frozen, so teacher and student keep the same memory and only the way from noise to
frame changes.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from models.world_model import LatentWorldModel
from training.losses import consistency_loss, draw_rows, ode_loss, shift_time
from training.optimise import Schedule, optimise
from training.recipes import StudentStage
from training.rollout import with_rollout
from training.shards import Shards


def distil(
    teacher: LatentWorldModel,
    shards: Shards,
    stage: StudentStage,
    *,
    sampler_steps: tuple[float, ...],
    work: Path,
    seed: int,
) -> LatentWorldModel:
    """Return the student: the moving average of a copy of the teacher.

    Raises:
        ValueError: a sampler step that is not on the consistency grid would never be trained
            exactly.
    """
    grid = shift_time(torch.linspace(1, 0, stage.grid + 1), stage.shift)
    for step in sampler_steps:
        if stage.method == 'cd' and (grid - step).abs().min() > 1e-3:
            raise ValueError(
                f'sampler step {step} is not on the grid {[round(t, 4) for t in grid.tolist()]}'
            )
    teacher.eval().requires_grad_(False)
    student, target = copy.deepcopy(teacher), copy.deepcopy(teacher)
    trained = list(student.denoiser.parameters())
    for parameter in trained:
        parameter.requires_grad_(True)

    def loss(rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        with torch.autocast('cpu', torch.bfloat16):
            with torch.no_grad():
                rows = draw_rows(teacher, shards, stage, rng, generator)
            if stage.method == 'cd':
                value = consistency_loss(
                    student, target, teacher, rows, grid, stage.at_noise, generator
                )
            else:
                value = ode_loss(
                    student, teacher, rows, sampler_steps, stage.solver_steps, generator
                )
            return with_rollout(value, student, shards, stage, sampler_steps, rng, generator)

    schedule = Schedule(stage.steps, stage.rate, warm_up=20, floor=0.1, decay=0.0, ema=stage.ema)
    averaged = optimise(
        student,
        loss,
        schedule,
        name=f'{teacher.config.arm}.{stage.name}',
        work=work,
        seed=seed,
        made_of={'stage': asdict(stage), 'shards': shards.made_of},
        average=target,
        trained=trained,
    )
    assert isinstance(averaged, LatentWorldModel)
    return averaged


@torch.inference_mode()
def few_step_error(
    model: LatentWorldModel,
    reference: LatentWorldModel,
    shards: Shards,
    stage: StudentStage,
    steps: tuple[float, ...],
    noise_mode: str = 'deterministic',
    reference_steps: int = 32,
    seed: int = 1,
) -> float:
    """Mean squared x_0 distance between `model` in len(steps) passes and the reference's fine
    ODE solution from the same first noise.
    """
    generator = torch.Generator().manual_seed(seed)
    clean = replace(stage, noisy_share=0.0, dropped=0.0, ahead=0, skill_ahead=0, depths=1)
    rows = draw_rows(reference, shards, clean, np.random.default_rng(seed), generator)
    shape = (len(rows.target_CHW), len(steps), *rows.target_CHW.shape[1:])
    noise = torch.randn(shape, generator=generator)
    fine = tuple(1 - i / reference_steps for i in range(reference_steps))
    goal = reference.predict(rows.action_A, noise, rows.memory, fine)
    found = model.predict(rows.action_A, noise, rows.memory, steps, noise_mode)
    return float((found - goal).square().mean())
