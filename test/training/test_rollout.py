"""The rollout loss: it scores what is imagined, and reaches all that led to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from training.cups import CupsWorld
from training.recipes import TeacherStage
from training.rollout import rollout_loss, with_rollout
from training.shards import Shards, write_shards
from wm_ros.config import ModelConfig

CONFIG = ModelConfig(
    action_width=3,
    image_size=32,
    latent_channels=4,
    tokenizer_width=8,
    patch=1,
    width=32,
    layers=2,
    heads=2,
    writer_width=32,
    memory_heads=2,
    key_width=8,
    value_width=8,
    change_std=0.5,
)
STAGE = TeacherStage(
    clips=2,
    frames=40,
    loss_frames=3,
    noisy_share=0.0,
    dropped=0.0,
    rollout=4,
    rollout_share=0.5,
)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    """Clips in which every number moves as the first command says, beside a camera's noise."""
    torch.manual_seed(0)
    write_shards(tmp_path, CupsWorld(), Autoencoder(CONFIG), seeds=range(3), frames=100)
    rng = np.random.default_rng(0)
    actions = rng.choice([-1.0, 1.0], (300, 3)).astype(np.float32)
    moved = np.concatenate([[0], 0.3 * np.cumsum(actions[:-1, 0])]).reshape(-1, 1, 1, 1)
    noise = 0.05 * rng.standard_normal((300, *CONFIG.latent_shape))
    (moved + noise).astype(np.float16).tofile(tmp_path / 'latents.f16')
    actions.tofile(tmp_path / 'actions.f32')
    return Shards([tmp_path], CONFIG.latent_shape, 3)


def score(model: LatentWorldModel, shards: Shards, stage: TeacherStage = STAGE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return rollout_loss(model, shards, stage, (1.0,), np.random.default_rng(1), generator)


def test_an_untrained_model_scores_what_holding_the_last_frame_costs(shards: Shards) -> None:
    drawn = shards.sample(
        np.random.default_rng(1), clips=2, frames=40, loss_frames=3, event_share=0.0, ahead=4
    )
    clip = torch.arange(2).unsqueeze(1)
    seen = drawn.latents_BTCHW[clip, drawn.frames_BR]
    costs = []
    for i in range(1, 5):
        off = (seen - drawn.latents_BTCHW[clip, drawn.frames_BR + i]) / CONFIG.change_std
        moved = off.square().mean(2)
        weight = 0.1 + 0.9 * moved / (1 + moved)
        costs.append(((moved + 1 / 9).sqrt() * weight).sum() / weight.sum())
    torch.testing.assert_close(score(LatentWorldModel(CONFIG), shards), sum(costs) / 4)


def test_the_gradient_of_a_later_frame_reaches_the_first_prediction(shards: Shards) -> None:
    model = LatentWorldModel(CONFIG)
    nn.init.normal_(model.denoiser.out.weight, std=0.1)
    seen = []
    predict = model.predict

    def spy(*args: object, **kwargs: object) -> torch.Tensor:
        latent = predict(*args, **kwargs)
        latent.retain_grad()
        seen.append(latent)
        return latent

    model.predict = spy
    score(model, shards).backward()
    assert len(seen) == 4
    own, all_of_it = seen[-1].grad.norm(), seen[0].grad.norm()
    assert all_of_it > 1.5 * own, 'the first frame answers for those after it as well'
    for name in ('key', 'value', 'beta'):
        assert getattr(model.writer, name).weight.grad.abs().max() > 0


def test_training_on_it_learns_to_imagine(shards: Shards) -> None:
    torch.manual_seed(0)
    model = LatentWorldModel(CONFIG)
    before = score(model, shards).item()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(60):
        optimiser.zero_grad()
        generator = torch.Generator().manual_seed(step)
        rng = np.random.default_rng(step)
        rollout_loss(model, shards, STAGE, (1.0,), rng, generator).backward()
        optimiser.step()
    after = score(model, shards).item()
    assert after < 0.7 * before, f'{before} -> {after}'


def test_a_stage_without_a_share_is_as_it_was(shards: Shards) -> None:
    loss, model = torch.tensor(2.0), LatentWorldModel(CONFIG)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    off = replace(STAGE, rollout=0, rollout_share=0.0)
    assert with_rollout(loss, model, shards, off, (1.0,), rng, generator) is loss
    on = with_rollout(loss, model, shards, STAGE, (1.0,), rng, generator)
    assert on != loss
    with pytest.raises(ValueError, match='rollout'):
        replace(STAGE, rollout=0)
