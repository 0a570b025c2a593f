"""Semantics of the latent world model: training = rollout, reads do not write, actions act when
they should.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.denoiser import around_last
from models.world_model import LatentWorldModel
from wm_ros.config import ARMS, ModelConfig

CONFIG = ModelConfig(
    action_width=3,
    image_size=32,
    latent_channels=4,
    patch=1,
    width=32,
    layers=2,
    heads=2,
    writer_width=32,
    memory_heads=2,
    key_width=8,
    value_width=8,
    window=4,
)


def make(arm: str) -> LatentWorldModel:
    torch.manual_seed(0)
    model = LatentWorldModel(replace(CONFIG, arm=arm)).eval().requires_grad_(False)
    # A fresh model predicts v = 0 whatever it is given: let it speak.
    torch.nn.init.normal_(model.denoiser.out.weight, std=0.2)
    return model


def clip(batch: int = 2, frames: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    latents = torch.randn(batch, frames, *CONFIG.latent_shape, generator=g)
    actions = torch.rand(batch, frames, 3, generator=g) * 2 - 1
    gate = (torch.rand(batch, frames, generator=g) > 0.2).float()
    return latents, actions, gate


def roll(
    model: LatentWorldModel, latents: Tensor, actions: Tensor, gate: Tensor
) -> list[dict[str, Tensor]]:
    memory, out = model.initial_memory(len(latents)), []
    for t in range(latents.shape[1]):
        led_here = actions[:, max(t - 1, 0)]
        memory = model.write(latents[:, t], led_here, gate[:, t], memory)
        out.append(memory)
    return out


@pytest.mark.parametrize('arm', ARMS)
def test_training_forward_equals_frame_by_frame_rollout(arm: str) -> None:
    model, (latents, actions, gate) = make(arm), clip()
    frames = torch.tensor([[0, 1, 5, 11], [2, 3, 4, 10]])
    long = model.states_at(latents, actions, gate, frames)
    memory = model.memory_at(latents, actions, long, frames)
    noise = torch.randn(8, 1, *CONFIG.latent_shape, generator=torch.Generator().manual_seed(1))
    clips = torch.arange(2).unsqueeze(1)
    parallel = model.predict(actions[clips, frames].flatten(0, 1), noise, memory)
    rolled = roll(model, latents, actions, gate)
    chosen = [(clip_index, int(t)) for clip_index in range(2) for t in frames[clip_index]]
    for row, (b, t) in enumerate(chosen):
        one = {name: value[b : b + 1] for name, value in rolled[t].items()}
        single = model.predict(actions[b : b + 1, t], noise[row : row + 1], one)
        torch.testing.assert_close(parallel[row : row + 1], single, rtol=0, atol=1e-4)


@pytest.mark.parametrize('arm', ARMS)
def test_denoising_and_writing_leave_the_memory_they_read_bitwise(arm: str) -> None:
    model, (latents, actions, gate) = make(arm), clip()
    memory = roll(model, latents, actions, gate)[-1]
    before = {name: value.clone() for name, value in memory.items()}
    noise = torch.randn(2, 2, *CONFIG.latent_shape)
    predicted = model.predict(actions[:, 0], noise, memory, (1.0, 2 / 3), 'fresh')
    model.write(predicted, actions[:, 0], torch.ones(2), memory)
    assert memory.keys() == before.keys()
    assert all(torch.equal(memory[name], before[name]) for name in before)


@pytest.mark.parametrize('arm', ['ttt', 'window'])
def test_a_hidden_past_changes_the_prediction_and_none_cannot_know(arm: str) -> None:
    latents, actions, _ = clip(frames=6)
    other = latents.clone()
    other[:, 2] += 1.0
    noise = torch.randn(2, 1, *CONFIG.latent_shape, generator=torch.Generator().manual_seed(2))
    for name, knows in ((arm, True), ('none', False)):
        model = make(name)
        answers = [
            model.predict(actions[:, 5], noise, roll(model, x, actions, torch.ones(2, 6))[-1])
            for x in (latents, other)
        ]
        assert torch.equal(*answers) != knows


@pytest.mark.parametrize('arm', ARMS)
def test_an_action_impulse_moves_exactly_the_right_frame(arm: str) -> None:
    model, (latents, actions, gate) = make(arm), clip()
    gate = torch.ones_like(gate)
    bumped = actions.clone()
    bumped[:, 6] = 1 - bumped[:, 6]
    noise = torch.randn(2, 1, *CONFIG.latent_shape, generator=torch.Generator().manual_seed(2))

    def answers(acts: Tensor) -> list[Tensor]:
        return [
            model.predict(acts[:, t], noise, memory)
            for t, memory in enumerate(roll(model, latents, acts, gate))
        ]

    changed = [
        not torch.equal(a, b) for a, b in zip(answers(actions), answers(bumped), strict=True)
    ]
    # a_6 is in force from frame 6 on: the prediction made at frame 6 (of frame 7) is the first
    # to feel it.
    assert changed[:6] == [False] * 6
    assert changed[6]
    assert changed[7]


def test_missing_frame_moves_the_latents_and_not_the_long_memory() -> None:
    model, (latents, actions, _) = make('ttt'), clip()
    before = roll(model, latents, actions, torch.ones(2, 12))[-1]
    after = model.write(latents[:, 0], actions[:, 0], torch.zeros(2), before)
    assert torch.equal(after['fast_weights'], before['fast_weights'])
    assert torch.equal(after['latents'][:, 0], latents[:, 0])
    assert torch.equal(after['latents'][:, 1], before['latents'][:, 0])


def test_arms_have_the_same_parameters() -> None:
    shapes = [{n: p.shape for n, p in make(arm).named_parameters()} for arm in ARMS]
    assert shapes[0] == shapes[1] == shapes[2]


def test_memory_matches_its_specification_and_stays_finite_over_ten_thousand_noise_frames() -> (
    None
):
    model = make('ttt')
    g = torch.Generator().manual_seed(0)
    memory = model.initial_memory(1)
    with torch.inference_mode():
        for _ in range(10_000):
            memory = model.write(
                torch.randn(1, *CONFIG.latent_shape, generator=g) * 3,
                torch.rand(1, 3, generator=g) * 2 - 1,
                torch.ones(1),
                memory,
            )
    assert {n: tuple(v.shape[1:]) for n, v in memory.items()} == {
        s.name: s.shape for s in model.config.memory_specs()
    }
    assert torch.isfinite(memory['fast_weights']).all()
    assert memory['fast_weights'].norm() < 200


def test_deterministic_sampler_is_the_euler_solution() -> None:
    model, (latents, actions, gate) = make('ttt'), clip()
    memory = roll(model, latents, actions, gate)[-1]
    x = torch.randn(2, 1, *CONFIG.latent_shape, generator=torch.Generator().manual_seed(4))
    two = model.predict(actions[:, 0], x, memory, (1.0, 0.5))
    v = model.velocity(x[:, 0], torch.ones(2), actions[:, 0], memory)
    half = x[:, 0] - 0.5 * v
    expected = half - 0.5 * model.velocity(half, torch.full((2,), 0.5), actions[:, 0], memory)
    torch.testing.assert_close(two, expected)


def test_a_model_that_starts_from_the_last_frame_holds_it_until_trained() -> None:
    config = replace(CONFIG, change_std=0.3)
    torch.manual_seed(0)
    model, (latents, actions, gate) = LatentWorldModel(config).eval(), clip()
    memory = roll(model, latents, actions, gate)[-1]
    x = torch.randn(2, 1, *CONFIG.latent_shape, generator=torch.Generator().manual_seed(4))
    for steps in ((1.0,), (1.0, 2 / 3), (1.0, 0.5, 0.25)):
        held = model.predict(actions[:, 0], x, memory, steps)
        # Of the noise, what a change of this size would leave unknown remains at every pass.
        assert (held - memory['latents'][:, 0]).abs().max() < (1e-5 if len(steps) == 1 else 0.5)


def test_starting_from_the_last_frame_is_the_posterior_mean_of_a_gaussian_change() -> None:
    generator, std = torch.Generator().manual_seed(0), 0.3
    shape = (200_000, 1, 1, 1)
    last = torch.full(shape, 0.7)
    clean = last + std * torch.randn(shape, generator=generator)
    noise = torch.randn(shape, generator=generator)
    for flow_time in (0.0, 0.25, 0.7, 1.0):
        t = torch.full((shape[0],), flow_time)
        x = (1 - flow_time) * clean + flow_time * noise
        zero, one = torch.zeros(shape), torch.ones(shape)
        left = noise - clean - around_last(zero, x, t, last, std)
        unit = around_last(one, x, t, last, std) - around_last(zero, x, t, last, std)
        assert abs(left.mean()) < 0.02
        assert abs((left * (x - x.mean())).mean()) < 0.01, 'nothing linear is left to say'
        torch.testing.assert_close(left.std(), unit.mean(), rtol=0.02, atol=0)


def test_the_change_of_the_action_is_an_input_of_its_own_where_asked_for() -> None:
    config = replace(CONFIG, action_gain=32.0)
    torch.manual_seed(0)
    model, (latents, actions, gate) = LatentWorldModel(config).eval(), clip()
    torch.nn.init.normal_(model.denoiser.out.weight, std=0.1)
    layer = model.denoiser.action[0]
    with torch.no_grad():  # all but the change of the first entry is cut off
        layer.weight[:, : -config.action_width + 1] = 0
        layer.weight[:, -config.action_width + 1 :] = 0
        layer.weight[:, -config.action_width] = 1
    memory = roll(model, latents, actions, gate)[-1]
    x = torch.randn(2, 1, *CONFIG.latent_shape, generator=torch.Generator().manual_seed(4))
    before = memory['action']
    step = torch.zeros_like(before)
    step[:, 0] = 0.01
    held, moved = (model.predict(a, x, memory, (1.0,)) for a in (before, before + step))
    assert (held - moved).abs().max() > 1e-3
    other = torch.roll(step, 1, -1)
    torch.testing.assert_close(model.predict(before + other, x, memory, (1.0,)), held)


def test_fields_newer_than_the_first_packages_are_told_only_where_they_are_on() -> None:
    told = CONFIG.to_dict()
    assert 'change_std' not in told and 'action_gain' not in told
    assert ModelConfig.from_dict(told) == CONFIG
    newer = replace(CONFIG, change_std=0.15, action_gain=32.0)
    assert ModelConfig.from_dict(newer.to_dict()) == newer
    with pytest.raises(ValueError, match='missing model fields: arm'):
        ModelConfig.from_dict({k: v for k, v in told.items() if k != 'arm'})
