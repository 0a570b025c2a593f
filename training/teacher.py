"""Stage 1: the teacher. Flow matching under teacher forcing, loss on sampled frames, full
gradient through the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.world_model import LatentWorldModel
from training.losses import draw_rows, flow_loss, sample_time
from training.optimise import Schedule, optimise
from training.recipes import TeacherStage
from training.rollout import with_rollout
from training.shards import Shards


def train_teacher(
    model: LatentWorldModel,
    shards: Shards,
    stage: TeacherStage,
    *,
    work: Path,
    seed: int,
    on_step: Callable[[int, float, torch.nn.Module], None] | None = None,
) -> LatentWorldModel:
    """Train `model` on windows of the shards and return its moving average."""

    def loss(rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        with torch.autocast('cpu', torch.bfloat16):
            rows = draw_rows(model, shards, stage, rng, generator)
            t = sample_time(len(rows.target_CHW), stage.shift, stage.at_noise, generator)
            value = flow_loss(model, rows, t, generator, stage.change_weight)
            return with_rollout(value, model, shards, stage, (1.0,), rng, generator)

    schedule = Schedule(stage.steps, stage.rate, stage.warm_up, ema=stage.ema)
    averaged = optimise(
        model,
        loss,
        schedule,
        name=f'{model.config.arm}.{stage.name}',
        work=work,
        seed=seed,
        made_of={'stage': asdict(stage), 'shards': shards.made_of},
        on_step=on_step,
    )
    assert isinstance(averaged, LatentWorldModel)
    return averaged
