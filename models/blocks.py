"""Blocks of the trunk: attention inside the frame, memory read, MLP, all under adaLN.

Attention is two matmuls and a softmax: on CPUs with AMX the fused kernel's bf16 backward is
slower.

Axes: B rows, N tokens, D width, H heads, Dk Dv of the memory, M stored tokens of the window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_ros.config import ModelConfig


def rms(x: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square over the last axis, in float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: layer norm without parameters, then scale and shift from the condition ([B, D])."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Attention(nn.Module):
    """Full softmax attention over the tokens of one frame, with RMS-normalised q and k."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.zeros(heads))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the attended tokens, [B, N, D]."""
        rows, tokens, width = x_BND.shape
        q, k, v = (
            self.qkv(x_BND).view(rows, tokens, 3 * self.heads, -1).transpose(1, 2).chunk(3, 1)
        )
        q = (rms(q, 1e-6) * self.log_scale.exp().view(-1, 1, 1)).to(v.dtype)
        k = rms(k, 1e-6).to(v.dtype)
        weights = torch.softmax(
            (q @ k.transpose(-1, -2)).float() * (width // self.heads) ** -0.5, -1
        )
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).reshape(rows, tokens, width))


class MemoryRead(nn.Module):
    """Ask the memory with one query per token. Every arm reads through the same parameters.

    `ttt`: y = S q. `window`: softmax over the stored keys and values. `none`: y = 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        heads, read = config.memory_heads, config.memory_heads * config.value_width
        self.query = nn.Linear(config.width, heads * config.key_width)
        self.gate = nn.Linear(config.width, read)
        self.out = nn.Linear(read, config.width)
        self.alpha = nn.Parameter(torch.tensor(0.3))
        self.log_sharpness = nn.Parameter(torch.full((heads,), 1.5))
        self.age_bias = nn.Parameter(torch.zeros(heads, config.window))

    def forward(self, x_BND: Tensor, memory: dict[str, Tensor]) -> Tensor:
        """Return what the tokens recall, [B, N, D], to be added to them."""
        config = self.config
        rows, tokens, _ = x_BND.shape
        query = self.query(x_BND).float().view(rows, tokens, config.memory_heads, config.key_width)
        query = F.normalize(query.transpose(1, 2), dim=-1, eps=1e-6)
        if config.arm == 'ttt':
            recalled = query @ memory['fast_weights'].transpose(-1, -2)
        elif config.arm == 'window':
            recalled = self._window(query, memory)
        else:
            recalled = query.new_zeros(rows, config.memory_heads, tokens, config.value_width)
        recalled = rms(recalled, 1e-4).transpose(1, 2).reshape(rows, tokens, -1)
        gated = recalled * F.silu(self.gate(x_BND).float())
        return torch.tanh(self.alpha) * self.out(gated.to(x_BND.dtype))

    def _window(self, query_BHNDk: Tensor, memory: dict[str, Tensor]) -> Tensor:
        config = self.config
        rows, heads = query_BHNDk.shape[0], config.memory_heads
        slots = config.window * config.write_tokens
        key = memory['keys'].reshape(rows, slots, heads, config.key_width).transpose(1, 2)
        value = memory['values'].reshape(rows, slots, heads, config.value_width).transpose(1, 2)
        filled = (
            memory['filled'].unsqueeze(-1).expand(-1, -1, config.write_tokens).reshape(rows, slots)
        )
        bias = (
            self.age_bias.unsqueeze(-1).expand(-1, -1, config.write_tokens).reshape(heads, slots)
        )
        score = query_BHNDk @ key.transpose(-1, -2) * self.log_sharpness.exp().view(-1, 1, 1)
        score = score + bias.unsqueeze(1) - 1e4 * (1 - filled).view(rows, 1, 1, slots)
        # A token that holds nothing (value 0) takes the place of an empty window.
        return torch.softmax(score, -1) @ (value * filled.view(rows, 1, slots, 1))


class Block(nn.Module):
    """adaLN -> attention inside the frame -> memory read -> MLP."""

    def __init__(self, config: ModelConfig, reads: bool) -> None:
        super().__init__()
        width = config.width
        self.modulation = nn.Linear(width, 6 * width)
        self.attention = Attention(width, config.heads)
        self.read = MemoryRead(config) if reads else None
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BND: Tensor, condition_BD: Tensor, memory: dict[str, Tensor]) -> Tensor:
        """Return the tokens after this block."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(condition_BD).chunk(
            6, -1
        )
        x = x_BND + (1 + gate.unsqueeze(1)) * self.attention(modulate(x_BND, shift, scale))
        if self.read is not None:
            x = x + self.read(modulate(x, shift, scale), memory)
        hidden = F.gelu(self.up(modulate(x, shift_mlp, scale_mlp)), approximate='tanh')
        return x + (1 + gate_mlp.unsqueeze(1)) * self.down(hidden)
