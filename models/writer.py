"""The light writer: what a frame leaves in memory, from its clean latent and the action that led
to it.

Shallow on purpose: observing must stay cheap, and a training clip of a thousand frames must stay
affordable. It does not read the state, so facts that move unseen are beyond it.

Axes: M any leading frames (batch, or batch x time flattened), W write tokens, H memory heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ttt_memory import write_coefficients
from wm_ros.config import ModelConfig


class Writer(nn.Module):
    """Clean latent and action -> keys, values and write strengths of one frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        groups = int(config.write_tokens**0.5)
        if groups * groups != config.write_tokens or config.latent_size % groups:
            raise ValueError(
                f'write_tokens {config.write_tokens} does not tile '
                f'{config.latent_size} cells a side'
            )
        self.group = config.latent_size // groups
        width, heads = config.writer_width, config.memory_heads
        self.embed = nn.Linear(config.latent_channels * self.group**2, width)
        self.action = nn.Sequential(
            nn.Linear(config.action_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.position = nn.Parameter(torch.randn(config.write_tokens, width) * 0.02)
        self.mix = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        self.norm = nn.LayerNorm(width)
        self.write_position = nn.Parameter(torch.randn(config.write_tokens, width) * 0.02)
        self.key = nn.Linear(width, heads * config.key_width)
        self.value = nn.Linear(width, heads * config.value_width)
        self.beta = nn.Linear(width, heads)
        nn.init.zeros_(self.beta.bias)
        self.eta_logit = nn.Parameter(torch.zeros(heads))

    def forward(self, latent_MCHW: Tensor, action_MA: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys [M, H, W, Dk] (unit norm), values [M, H, W, Dv], coefficients P [M, H, W,
        Dk], float32.
        """
        config, group = self.config, self.group
        cells = F.pixel_unshuffle(latent_MCHW, group).flatten(2).transpose(1, 2)
        x = self.embed(cells) + self.position + self.action(action_MA).unsqueeze(1)
        x = x + self.mix(x)
        x = self.norm(x) + self.write_position
        rows, tokens, heads = x.shape[0], config.write_tokens, config.memory_heads
        key = self.key(x).float().view(rows, tokens, heads, config.key_width).transpose(1, 2)
        value = self.value(x).float().view(rows, tokens, heads, config.value_width).transpose(1, 2)
        beta = torch.sigmoid(self.beta(x).float()).transpose(1, 2)
        key = F.normalize(key, dim=-1, eps=1e-6)
        coefficient = write_coefficients(key, beta, torch.sigmoid(self.eta_logit.float()))
        return key, value, coefficient
