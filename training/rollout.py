"""Rollout loss: what is imagined several frames on, held against what was recorded.

Flow matching asks for one frame at a time. A camera's frame differs from the last one by its noise
and by a fraction of a pixel of motion, so a robot's bags end before that says what an action does
(docs/log.md). Here the error of ten imagined frames reaches every prediction on the way:
backpropagation through time, as recurrent video models are trained (e.g. Finn et al., 1605.07157).

Axes: B clips, T frames, R rows, C H W latent, A action.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.world_model import LatentWorldModel
from training.losses import history, shaken
from training.recipes import Stage
from training.shards import Shards

STILL = 0.1  # weight of a cell in which nothing moves


def with_rollout(
    loss: Tensor,
    model: LatentWorldModel,
    shards: Shards,
    stage: Stage,
    steps: tuple[float, ...],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Tensor:
    """Return a stage's loss with its share of `rollout_loss`, where it asks for that."""
    share = stage.rollout_share
    if not share:
        return loss
    return (1 - share) * loss + share * rollout_loss(model, shards, stage, steps, rng, generator)


def rollout_loss(
    model: LatentWorldModel,
    shards: Shards,
    stage: Stage,
    steps: tuple[float, ...],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Tensor:
    """Distance of imagined frames to the recorded ones, with gradient through all that led to
    them.

    Every row imagines `stage.rollout` frames as a fork would. What one frame tells of a motion
    drowns in the camera's noise; over ten it adds up. |d| rather than d^2 where a cell is far off:
    a mean of futures is a blur. A cell counts by how far it has moved since the last frame that
    was seen, recorded or imagined: where nothing moves there is noise, nine cells of ten.

    Args:
        steps: flow times of a prediction's passes (`LatentWorldModel.predict`).

    Returns:
        Weighted mean over rows, frames and cells of the root mean square over channels, in units
        of `change_std` where that is on, softened below a third of it.
    """
    batch = shards.sample(
        rng,
        clips=stage.clips,
        frames=stage.frames,
        loss_frames=stage.loss_frames,
        event_share=0.0,
        ahead=stage.rollout,
    )
    batch = shaken(batch, stage.action_noise, generator)
    seen, gate = history(batch, stage.noisy_share, stage.noise_level, stage.dropped, generator)
    long = model.states_at(seen, batch.actions_BTA, gate, batch.frames_BR)
    memory = model.memory_at(seen, batch.actions_BTA, long, batch.frames_BR)
    clip = torch.arange(len(batch.frames_BR)).repeat_interleave(batch.frames_BR.shape[1])
    frame, unit = batch.frames_BR.flatten(), model.config.change_std or 1.0
    seen_RCHW = batch.latents_BTCHW[clip, frame]
    total = torch.zeros(())
    for i in range(stage.rollout):
        action = batch.actions_BTA[clip, frame + i]
        noise = torch.randn(len(frame), 1, *batch.latents_BTCHW.shape[2:], generator=generator)
        latent = model.predict(action, noise, memory, steps)
        true = batch.latents_BTCHW[clip, frame + i + 1]
        off, moved, imagined = (
            difference.square().mean(1) / unit**2
            for difference in (latent - true, true - seen_RCHW, (latent - seen_RCHW).detach())
        )
        moved = torch.maximum(moved, imagined)
        weight = STILL + (1 - STILL) * moved / (1 + moved)
        total = total + ((off + 1 / 9).sqrt() * weight).mean() / weight.mean()
        with torch.autocast('cpu', enabled=False):
            memory = model.write(latent, action, torch.ones(len(frame)), memory)
    return total / stage.rollout
