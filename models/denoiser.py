"""The denoiser: a small DiT that turns noise into the next latent, given two past latents,
actions and memory.

Flow time t in [0, 1], t = 0 data, t = 1 noise: x_t = (1 - t) x_0 + t eps; the output is v = eps
- x_0. The two previous latents enter as channels, so the short window costs no token.

Axes: B rows, C H W latent, N tokens, D width, A action.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks import Block, modulate
from wm_ros.config import ModelConfig

ACTION_OCTAVES = 4


def time_features(t_B: Tensor, width: int) -> Tensor:
    """Sines and cosines of the flow time at geometric frequencies 1 .. 1000, [B, width]."""
    steps = torch.arange(width // 2, device=t_B.device, dtype=torch.float32) / (width // 2 - 1)
    angle = t_B.float().unsqueeze(-1) * torch.exp(steps * math.log(1000.0))
    return torch.cat([angle.sin(), angle.cos()], -1)


def action_features(action_BA: Tensor) -> Tensor:
    """The action with sines and cosines of pi, 2 pi, 4 pi, 8 pi times it, [B, A * 9].

    A command in [-1, 1] spans the picture; a layer on the bare number is too smooth to tell where
    in it the hand goes.
    """
    action = action_BA.float()
    angles = [math.pi * 2.0**octave * action for octave in range(ACTION_OCTAVES)]
    return torch.cat(
        [action, *(angle.sin() for angle in angles), *(angle.cos() for angle in angles)], -1
    )


class Denoiser(nn.Module):
    """v(x_t, t; x^{i-1}, x^{i-2}, a^{i-2}, a^{i-1}, memory) for one frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, cell = config.width, config.latent_channels * config.patch**2
        self.embed = nn.Linear(3 * cell, width)
        self.position = nn.Parameter(torch.randn(config.tokens, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        features = 2 * config.action_width * (1 + 2 * ACTION_OCTAVES)
        self.action = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        # What an action means differs from place to place: each token has its own reading of it.
        self.place = nn.Linear(width, config.tokens * width)
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)
        self.blocks = nn.ModuleList(
            Block(config, reads=i > 0 or config.layers == 1) for i in range(config.layers)
        )
        self.last = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, cell)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x_BCHW: Tensor,
        t_B: Tensor,
        past_B2CHW: Tensor,
        actions_B2A: Tensor,
        memory: dict[str, Tensor],
    ) -> Tensor:
        """Return the velocity, float32 [B, C, H, W].

        Args:
            x_BCHW: noisy latent of the frame to predict.
            t_B: flow time of each row.
            past_B2CHW: the last latent and the one before.
            actions_B2A: the action that led to the last frame, and the one in force from it on.
            memory: the memory's tensors (`ModelConfig.memory_specs`); only what the arm reads is
                used.
        """
        config, patch = self.config, self.config.patch
        stacked = torch.cat([x_BCHW, past_B2CHW.flatten(1, 2)], 1)
        tokens = F.pixel_unshuffle(stacked, patch).flatten(2).transpose(1, 2)
        action = self.action(action_features(actions_B2A.flatten(1)))
        placed = self.place(F.silu(action)).view(-1, config.tokens, config.width)
        x = self.embed(tokens) + self.position + placed
        condition = F.silu(self.time(time_features(t_B, 64)) + action)
        for block in self.blocks:
            x = block(x, condition, memory)
        shift, scale = self.last(condition).chunk(2, -1)
        v = self.out(modulate(x, shift, scale)).transpose(1, 2)
        side = config.latent_size // patch
        return F.pixel_shuffle(v.reshape(v.shape[0], -1, side, side), patch).float()
