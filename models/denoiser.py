"""The denoiser: a small DiT that turns noise into the next latent, given two past latents,
actions and memory.

Flow time t in [0, 1], t = 0 data, t = 1 noise: x_t = (1 - t) x_0 + t eps; the output is v = eps
- x_0. The two previous latents enter as channels, so the short window costs no token. Where a
frame is mostly the one before (a camera), the network learns what is left to say
(`around_last`).

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


def around_last(
    f_BCHW: Tensor, x_BCHW: Tensor, t_B: Tensor, last_BCHW: Tensor, change_std: float
) -> Tensor:
    """The velocity of a network that begins with the last frame: f = 0 is the posterior mean
    under x_0 ~ N(last, change_std^2), and f has the size of 1 where that holds.

    Preconditioning after Karras et al. (2206.00364, section 5), written for flow matching and
    around the last frame instead of zero: with D = (1 - t)^2 s^2 + t^2,
    v = (x_t - (1 - t) last) (t - (1 - t) s^2) / D - last + s / sqrt(D) f, finite at t = 0.

    Args:
        f_BCHW: the network's output.
        x_BCHW: x_t.
        t_B: flow times.
        last_BCHW: the latent before.
        change_std: s, of a latent's entries around those of the latent before; above 0.
    """
    t, variance = t_B.view(-1, 1, 1, 1), change_std**2
    spread = (1 - t).square() * variance + t.square()
    straight = (x_BCHW - (1 - t) * last_BCHW) * (t - (1 - t) * variance) / spread
    return straight - last_BCHW + change_std * spread.rsqrt() * f_BCHW


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
        features += config.action_width * (config.action_gain > 0)
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
        features = action_features(actions_B2A.flatten(1))
        if config.action_gain:  # joints move by a hundredth of their range from frame to frame
            change_BA = config.action_gain * (actions_B2A[:, 1] - actions_B2A[:, 0]).float()
            features = torch.cat([features, change_BA], -1)
        action = self.action(features)
        placed = self.place(F.silu(action)).view(-1, config.tokens, config.width)
        x = self.embed(tokens) + self.position + placed
        condition = F.silu(self.time(time_features(t_B, 64)) + action)
        for block in self.blocks:
            x = block(x, condition, memory)
        shift, scale = self.last(condition).chunk(2, -1)
        v = self.out(modulate(x, shift, scale)).transpose(1, 2)
        side = config.latent_size // patch
        v = F.pixel_shuffle(v.reshape(v.shape[0], -1, side, side), patch).float()
        if config.change_std:
            v = around_last(v, x_BCHW, t_B, past_B2CHW[:, 0], config.change_std)
        return v
