"""TTT memory: one matrix per head, written once per frame by one closed-form descent step.

A write is one full-batch gradient step on 1/2 sum_j beta_j |S k_j - v_j|^2 (the frame-wise delta
rule; gamma = 1):

    S_t = S_{t-1} + (V_t - S_{t-1} K_t) P_t
    P_t = e_t B_t K_t^T
    e_t = eta / max(1, |K_t B_t K_t^T|_F)

The Frobenius bound keeps every eigenvalue of e_t K_t B_t K_t^T in [0, 1], so the state cannot
diverge. Sources: DexWorldModel (2604.16484) for the role of the state, gated delta rule
(2412.06464) for the step.

Axes: B batch, T frames, H heads, W write tokens of a frame (Nw), N tokens, R frames whose state
is read, Dk, Dv. This file knows keys and values only; where they come from is the writer's
business (`writer.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def write_coefficients(keys_BTHWDk: Tensor, beta_BTHW: Tensor, eta_H: Tensor) -> Tensor:
    """Return P = e B K^T, shape [B, T, H, W, Dk]: what the residual of a frame is multiplied with.

    Args:
        keys_BTHWDk: unit-norm keys.
        beta_BTHW: write strength of each token, in (0, 1).
        eta_H: step size of each head, in (0, 1).
    """
    gram = keys_BTHWDk @ keys_BTHWDk.transpose(-1, -2)
    weighted = gram.square() * beta_BTHW.unsqueeze(-1) * beta_BTHW.unsqueeze(-2)
    # |K B K^T|_F^2 = sum_ij beta_i beta_j (k_i . k_j)^2; the floor of 1 keeps weak writes weak.
    norm = weighted.sum((-1, -2)).clamp_min(1.0).sqrt()
    step = eta_H / norm
    return keys_BTHWDk * (beta_BTHW * step.unsqueeze(-1)).unsqueeze(-1)


def write(
    state_BHDvDk: Tensor, keys_BHWDk: Tensor, values_BHWDv: Tensor, coefficients_BHWDk: Tensor
) -> Tensor:
    """Write one frame: S + (V - S K) P. Returns a new state; matmuls only, no autograd needed."""
    recalled = keys_BHWDk @ state_BHDvDk.transpose(-1, -2)
    residual = values_BHWDv - recalled
    return state_BHDvDk + residual.transpose(-1, -2) @ coefficients_BHWDk


def scan_naive(keys: Tensor, values: Tensor, coefficients: Tensor, frames_BR: Tensor) -> Tensor:
    """Write T frames one after the other from an empty state and return the states after
    `frames_BR`.

    Args:
        keys: [B, T, H, W, Dk]; values: [B, T, H, W, Dv]; coefficients: [B, T, H, W, Dk], zero
            where nothing is written.
        frames_BR: int64 frame indices, per clip.

    Returns:
        [B, R, H, Dv, Dk], float32.
    """
    batch, frames, heads, _, key_width = keys.shape
    state = keys.new_zeros(batch, heads, values.shape[-1], key_width)
    states = []
    for t in range(frames):
        state = write(state, keys[:, t], values[:, t], coefficients[:, t])
        states.append(state)
    stacked = torch.stack(states, 1)
    return stacked[torch.arange(batch).unsqueeze(1), frames_BR]


def scan_fast(keys: Tensor, values: Tensor, coefficients: Tensor, frames_BR: Tensor) -> Tensor:
    """Same as `scan_naive` with a hand-written reverse pass: about twice as fast, gradients
    exact.
    """
    out: Tensor = _Scan.apply(keys, values, coefficients, frames_BR)  # type: ignore[no-untyped-call]
    return out


def _time_first(x: Tensor) -> Tensor:
    """[B, T, H, W, D] -> [T, B * H, W, D], contiguous."""
    batch, frames, heads, tokens, width = x.shape
    return x.permute(1, 0, 2, 3, 4).reshape(frames, batch * heads, tokens, width).contiguous()


def _batch_first(x: Tensor, batch: int) -> Tensor:
    """Inverse of `_time_first`."""
    frames, rows, tokens, width = x.shape
    return x.view(frames, batch, rows // batch, tokens, width).permute(1, 0, 2, 3, 4)


class _Scan(torch.autograd.Function):
    """The recurrence over frames. Keeps every state; gathers and scatters only the frames that
    are read.
    """

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, values: Tensor, coefficients: Tensor, frames_BR: Tensor
    ) -> Tensor:
        batch, frames, heads = keys.shape[:3]
        key, value, coefficient = _time_first(keys), _time_first(values), _time_first(coefficients)
        rows, key_width, value_width = batch * heads, keys.shape[-1], values.shape[-1]
        states = keys.new_zeros(frames + 1, rows, value_width, key_width)
        residual = torch.empty_like(value)
        for t in range(frames):
            torch.baddbmm(value[t], key[t], states[t].transpose(1, 2), alpha=-1, out=residual[t])
            torch.baddbmm(
                states[t], residual[t].transpose(1, 2), coefficient[t], out=states[t + 1]
            )
        ctx.save_for_backward(key, coefficient, residual, states, frames_BR)
        clip = torch.arange(batch).unsqueeze(1)
        return states[1:].view(frames, batch, heads, value_width, key_width)[frames_BR, clip]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        key, coefficient, residual, states, frames_BR = ctx.saved_tensors
        frames, rows, _, _ = key.shape
        batch = frames_BR.shape[0]
        # The frames at which a gradient enters, and for which clips.
        entries: dict[int, list[tuple[int, int]]] = {}
        for b, row in enumerate(frames_BR.tolist()):
            for r, t in enumerate(row):
                entries.setdefault(t, []).append((b, r))
        grad_key, grad_coefficient = torch.empty_like(key), torch.empty_like(coefficient)
        grad_value = torch.empty_like(residual)
        grad = torch.zeros_like(states[0])
        by_clip = grad.view(batch, rows // batch, *grad.shape[1:])
        for t in range(frames - 1, -1, -1):
            for b, r in entries.get(t, ()):
                by_clip[b] += grads[0][b, r]
            # S_t = S + R^T P with R = V - K S^T.
            torch.bmm(coefficient[t], grad.transpose(1, 2), out=grad_value[t])
            torch.bmm(residual[t], grad, out=grad_coefficient[t])
            torch.bmm(grad_value[t], states[t], out=grad_key[t])
            grad.baddbmm_(grad_value[t].transpose(1, 2), key[t], alpha=-1)
        return (
            _batch_first(grad_key.neg_(), batch),
            _batch_first(grad_value, batch),
            _batch_first(grad_coefficient, batch),
            None,
        )
