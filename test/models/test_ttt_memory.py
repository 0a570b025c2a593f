"""The TTT memory: fast = naive, a write is the descent step it claims to be, and nothing
diverges.
"""

import pytest
import torch
from torch import Tensor

from models.ttt_memory import scan_fast, scan_naive, write, write_coefficients


def parts(
    dtype: torch.dtype = torch.float64, batch: int = 2, frames: int = 7
) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(3)
    heads, tokens, key_width, value_width = 3, 4, 8, 5
    keys = torch.randn(batch, frames, heads, tokens, key_width, generator=g, dtype=dtype)
    keys = torch.nn.functional.normalize(keys, dim=-1)
    values = torch.randn(batch, frames, heads, tokens, value_width, generator=g, dtype=dtype)
    beta = torch.rand(batch, frames, heads, tokens, generator=g, dtype=dtype)
    eta = torch.rand(heads, generator=g, dtype=dtype)
    return keys, values, beta, eta


def test_fast_scan_equals_naive_in_output_and_gradient() -> None:
    keys, values, beta, eta = parts()
    at = torch.tensor([[0, 3, 3, 6], [1, 2, 5, 6]])
    results = []
    for scan in (scan_naive, scan_fast):
        leaves = [x.clone().requires_grad_(True) for x in (keys, values, beta, eta)]
        states = scan(
            leaves[0], leaves[1], write_coefficients(leaves[0], leaves[2], leaves[3]), at
        )
        weight = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states)
        (states * weight).sum().backward()
        results.append((states, *(leaf.grad for leaf in leaves)))
    for naive, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, naive, rtol=1e-10, atol=1e-12)


def test_write_is_one_descent_step_on_the_reconstruction_loss() -> None:
    keys, values, beta, eta = parts(batch=1, frames=1)
    key, value, strength = keys[:, 0], values[:, 0], beta[:, 0]
    state = torch.randn(
        1, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    leaf = state.clone().requires_grad_(True)
    error = key @ leaf.transpose(-1, -2) - value
    (0.5 * strength.unsqueeze(-1) * error.square()).sum().backward()
    gram = key.transpose(-1, -2) @ (strength.unsqueeze(-1) * key)
    step = eta / gram.flatten(2).norm(dim=-1).clamp_min(1)
    expected = state - step.view(1, 3, 1, 1) * leaf.grad
    torch.testing.assert_close(
        write(state, key, value, write_coefficients(key, strength, eta)), expected
    )


def test_zero_coefficients_leave_the_state_bitwise() -> None:
    keys, values, _, _ = parts(torch.float32)
    state = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    after = write(state, keys[:, 0], values[:, 0], torch.zeros_like(keys[:, 0]))
    assert torch.equal(after, state)


@pytest.mark.parametrize('same_frame', [False, True])
def test_state_stays_bounded_over_ten_thousand_frames(same_frame: bool) -> None:
    g = torch.Generator().manual_seed(0)
    state = torch.zeros(1, 2, 8, 16)
    largest = 0.0
    key = torch.nn.functional.normalize(torch.randn(1, 2, 16, 16, generator=g), dim=-1)
    value = torch.randn(1, 2, 16, 8, generator=g)
    for _ in range(10_000):
        if not same_frame:
            key = torch.nn.functional.normalize(torch.randn(1, 2, 16, 16, generator=g), dim=-1)
            value = torch.randn(1, 2, 16, 8, generator=g)
        coefficients = write_coefficients(key, torch.ones(1, 2, 16), torch.ones(2))
        state = write(state, key, value, coefficients)
        largest = max(largest, state.abs().max().item())
    assert torch.isfinite(state).all()
    assert largest < 50
