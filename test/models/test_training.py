"""The training side: what is sampled, what is minimised, what a stage leaves, how it goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export import artefact
from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from training.cups import CupsWorld
from training.distil import distil
from training.losses import (
    consistency_loss,
    flow_loss,
    history,
    imagine,
    rows_of,
    sample_time,
    shaken,
    solve,
)
from training.optimise import Schedule, optimise, running_state
from training.probe import collect, recall_2afc
from training.recipes import (
    REAL,
    TABLETOP,
    TINY,
    Recipe,
    StudentStage,
    baseline,
    real_recipe,
)
from training.run import Run
from training.shards import Batch, Shards, motion_starts, reveal_events, write_shards
from training.world import SKILL_SEED
from wm_ros import share
from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract

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
    window=8,
)


def batch(clips: int = 2, frames: int = 16, loss_frames: int = 3) -> Batch:
    g = torch.Generator().manual_seed(0)
    return Batch(
        torch.randn(clips, frames, *CONFIG.latent_shape, generator=g),
        torch.rand(clips, frames, 3, generator=g) * 2 - 1,
        torch.randint(1, frames - 5, (clips, loss_frames), generator=g),
        torch.zeros(clips, loss_frames, dtype=torch.int64),
    )


def test_reveal_events_are_hidden_before_and_shown_after_with_their_lag() -> None:
    visible = np.zeros((12, 2), bool)
    visible[[2, 3, 9], 0] = True
    visible[[5], 1] = True
    frames, lags = reveal_events(visible)
    assert sorted(zip(frames.tolist(), lags.tolist(), strict=True)) == [(1, 2), (4, 5), (8, 6)]


def test_a_share_of_the_loss_frames_falls_on_reveals(tmp_path: Path) -> None:
    torch.manual_seed(0)
    world = CupsWorld()
    write_shards(tmp_path, world, Autoencoder(CONFIG), seeds=range(3), frames=200)
    shards = Shards([tmp_path], CONFIG.latent_shape, 3)
    rng = np.random.default_rng(0)
    drawn = shards.sample(rng, clips=4, frames=100, loss_frames=10, event_share=0.5, ahead=3)
    assert drawn.latents_BTCHW.shape == (4, 100, *CONFIG.latent_shape)
    assert drawn.actions_BTA.shape == (4, 100, 3)
    assert (drawn.frames_BR >= 1).all()
    assert (drawn.frames_BR + drawn.ahead_BR <= 98).all()
    assert set(drawn.ahead_BR.flatten().tolist()) == {0, 1, 2, 3}
    # The stored latent is that of the frame rendered from the same seed.
    clip = world.practice(0, 200)
    assert np.array_equal(shards.visible[:200], clip.visible_TF)
    assert np.array_equal(shards.actions[:200], clip.actions_TA)


def test_a_share_of_the_skill_targets_follows_a_motion_from_its_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    seeds = range(SKILL_SEED, SKILL_SEED + 2)
    for part in (range(2), seeds):
        write_shards(
            tmp_path / str(part.start), CupsWorld(), Autoencoder(CONFIG), seeds=part, frames=200
        )
    # Commands that are held for 7 frames of 10, and another one each time.
    stairs_TA = np.repeat(np.arange(40, dtype=np.float32)[:, None], 3, 1).repeat(10, 0)
    stairs_TA[:, 0] += np.tile(np.r_[np.zeros(7), 0.1, 0.2, 0.3], 40).astype(np.float32)
    stairs_TA.tofile(tmp_path / str(SKILL_SEED) / 'actions.f32')
    shards = Shards([tmp_path / str(part) for part in (0, SKILL_SEED)], CONFIG.latent_shape, 3)
    drawn = shards.sample(
        np.random.default_rng(0),
        clips=6,
        frames=150,
        loss_frames=20,
        event_share=0.5,
        ahead=2,
        skill_share=1.0,
        skill_ahead=12,
        whole_share=0.4,
    )
    for actions_TA, picks, ahead in zip(
        drawn.actions_BTA.numpy(), drawn.frames_BR.numpy(), drawn.ahead_BR.numpy(), strict=True
    ):
        starts = motion_starts(actions_TA)
        assert (actions_TA[starts] == actions_TA[starts - 1]).all()
        assert (actions_TA[starts] != actions_TA[starts + 1]).any(1).all() and len(starts) >= 14
        assert np.isin(picks[:8], starts).all() and (ahead[:8] == 12).all()
        assert not np.isin(picks[8:], starts).all() and len(set(ahead[8:].tolist())) > 4
        assert (picks >= 1).all() and (picks + ahead <= 148).all()


def test_flow_times_are_shifted_to_noise_with_a_share_exactly_there() -> None:
    g = torch.Generator().manual_seed(0)
    plain, shifted = sample_time(20_000, 1.0, 0.0, g), sample_time(20_000, 4.0, 0.15, g)
    assert 0.48 < plain.median() < 0.52
    assert shifted.median() > 0.8
    assert abs((shifted == 1).float().mean() - 0.15) < 0.02


def test_dropped_frames_are_not_written_and_noise_is_bounded_to_its_share() -> None:
    drawn = batch(clips=8, frames=200)
    seen, gate = history(drawn, 0.3, 0.3, 0.05, torch.Generator().manual_seed(0))
    same = (seen == drawn.latents_BTCHW).flatten(2).all(-1).float().mean()
    assert abs(same - 0.7) < 0.05
    assert abs((gate == 0).float().mean() - 0.05) < 0.02
    # Only the short memory would read a dropped frame, where a robot has no more than a guess.
    # seen - x = sigma (noise - x), both of variance 1; sigma is uniform up to the level.
    apart = (seen - drawn.latents_BTCHW).square().flatten(2).mean(-1)[gate == 0]
    sigma = (apart / 2).sqrt()
    assert sigma.min() > 0 and 0.11 < sigma.mean() < 0.19 and 0.25 < sigma.max() < 0.36
    # The target stays clean whatever was seen.
    rows = rows_of(LatentWorldModel(CONFIG), drawn, seen, gate, torch.Generator())
    clip = torch.arange(8).unsqueeze(1)
    assert torch.equal(
        rows.target_CHW, drawn.latents_BTCHW[clip, drawn.frames_BR + 1].flatten(0, 1)
    )


def test_shaken_actions_have_an_offset_for_the_window_and_less_by_frame() -> None:
    nothing = torch.zeros(0)
    still = Batch(nothing, torch.zeros(400, 50, 3), nothing, nothing)
    seen = shaken(still, 0.4, torch.Generator().manual_seed(0)).actions_BTA
    offset = seen.mean(1)
    assert 0.37 < offset.std() < 0.43
    assert 0.018 < (seen - offset.unsqueeze(1)).std() < 0.022
    assert shaken(still, 0.0, torch.Generator()) is still


def test_flow_loss_reaches_the_writer_through_the_scan() -> None:
    torch.manual_seed(0)
    model = LatentWorldModel(CONFIG)
    nn.init.normal_(model.denoiser.out.weight, std=0.1)
    drawn = batch()
    g = torch.Generator().manual_seed(1)
    rows = rows_of(model, drawn, drawn.latents_BTCHW, torch.ones(2, 16), g)
    flow_loss(model, rows, torch.ones(len(rows.target_CHW)), g).backward()
    for name in ('key', 'value', 'beta'):
        assert getattr(model.writer, name).weight.grad.abs().max() > 0


def test_targets_further_ahead_are_reached_by_imagining_with_the_true_actions() -> None:
    torch.manual_seed(0)
    model = LatentWorldModel(CONFIG).eval()
    nn.init.normal_(model.denoiser.out.weight, std=0.1)
    near = batch(clips=8)
    far = replace(near, ahead_BR=torch.full_like(near.frames_BR, 2))
    clean, g = torch.ones(8, 16), torch.Generator().manual_seed(3)
    rows = rows_of(model, far, far.latents_BTCHW, clean, g)
    clip = torch.arange(8).unsqueeze(1)
    at = far.frames_BR + 2
    assert torch.equal(rows.target_CHW, far.latents_BTCHW[clip, at + 1].flatten(0, 1))
    assert torch.equal(rows.action_A, far.actions_BTA[clip, at].flatten(0, 1))
    assert torch.equal(
        rows.memory['action'], far.actions_BTA[clip, at - 1].flatten(0, 1)
    )  # what led to the last imagined frame
    seen = rows_of(model, near, near.latents_BTCHW, clean, g).memory
    written = (rows.memory['fast_weights'] != seen['fast_weights']).flatten(1).any(1)
    assert 0 < written.sum() < len(written)  # some rows are forks, some missing frames
    assert not torch.equal(rows.memory['latents'], seen['latents'])
    flow_loss(model, rows, torch.ones(len(at.flatten())), g).backward()
    assert model.writer.value.weight.grad.abs().max() > 0


def test_a_way_that_is_imagined_gives_problems_at_several_depths() -> None:
    torch.manual_seed(0)
    model = LatentWorldModel(CONFIG).eval()
    nn.init.normal_(model.denoiser.out.weight, std=0.1)
    drawn = batch(clips=4)
    ahead_BR = torch.arange(drawn.frames_BR.numel()).view_as(drawn.frames_BR) % 4
    drawn, clean = replace(drawn, ahead_BR=ahead_BR), torch.ones(4, 16)

    def imagined(depths: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        g = torch.Generator().manual_seed(3)
        long = model.states_at(drawn.latents_BTCHW, drawn.actions_BTA, clean, drawn.frames_BR)
        memory = model.memory_at(drawn.latents_BTCHW, drawn.actions_BTA, long, drawn.frames_BR)
        return imagine(model, drawn, memory, g, depths)

    row, depth, _ = imagined(1)
    assert torch.equal(row, torch.arange(ahead_BR.numel()))
    assert torch.equal(depth, ahead_BR.flatten())
    rows, depths, memories = imagined(3)
    problems = list(zip(rows.tolist(), depths.tolist(), strict=True))
    assert problems == sorted(set(problems))  # in the order of rows, none of them twice
    assert set(zip(row.tolist(), depth.tolist(), strict=True)) < set(problems)
    assert (depths <= ahead_BR.flatten()[rows]).all()
    # What lies on the way is what would be reached by going no further.
    seen, clip = memories['action'], rows // drawn.frames_BR.shape[1]
    led_here = drawn.actions_BTA[clip, drawn.frames_BR.flatten()[rows] + depths - 1]
    assert torch.equal(seen, led_here)
    assert torch.equal(
        memories['latents'][depths == 0],
        model.memory_at(drawn.latents_BTCHW, drawn.actions_BTA, {}, drawn.frames_BR)['latents'][
            rows[depths == 0]
        ],
    )
    problems_of = rows_of(model, drawn, drawn.latents_BTCHW, clean, torch.Generator(), 3)
    assert len(problems_of.target_CHW) > len(row)


def test_skill_clips_are_rendered_as_stages_come_to_need_them(tmp_path: Path) -> None:
    def skilled(recipe: Recipe, name: str) -> int:
        run = Run(
            recipe,
            work=tmp_path,
            artefacts=tmp_path,
            contract=share.REPOSITORY / 'contracts' / 'tabletop.yaml',
            bags=[],
            workers=1,
            packages=tmp_path,
            command='',
        )
        position = [stage.name for stage in recipe.stages].index(name)
        parts = [part['seeds'] for part in run.practice_parts(position)]
        return sum(len(seeds) for seeds in parts if seeds.start >= SKILL_SEED)

    assert skilled(TABLETOP, 'teacher_whole') == 0
    assert skilled(TABLETOP, 'teacher_skills') == skilled(TABLETOP, 'teacher_strokes') == 60
    assert skilled(TABLETOP, 'teacher_pushes') == skilled(TABLETOP, 'student') == 160
    none = baseline(TABLETOP, 'none')
    assert skilled(none, 'teacher_short') == 0
    assert skilled(none, 'teacher_pushes') == skilled(none, 'student') == 160


def test_terminal_pair_of_consistency_is_the_euler_step_itself() -> None:
    torch.manual_seed(0)
    teacher = LatentWorldModel(CONFIG).requires_grad_(False)
    nn.init.normal_(teacher.denoiser.out.weight, std=0.1)
    drawn = batch()
    rows = rows_of(teacher, drawn, drawn.latents_BTCHW, torch.ones(2, 16), torch.Generator())
    grid = torch.tensor([1.0, 0.0])
    # With one cell, the student that equals the teacher already gives the target: G(x, 1) = x - v.
    loss = consistency_loss(
        teacher, teacher, teacher, rows, grid, 0.0, torch.Generator().manual_seed(0)
    )
    assert loss == pytest.approx(0, abs=1e-12)
    x = torch.randn(rows.target_CHW.shape)
    t = torch.ones(len(x))
    expected = x - teacher.velocity(x, t, rows.action_A, rows.memory)
    torch.testing.assert_close(solve(teacher, x, t, rows, 1), expected)


def test_a_sampler_step_off_the_grid_is_refused(tmp_path: Path) -> None:
    teacher = LatentWorldModel(CONFIG)
    with pytest.raises(ValueError, match='not on the grid'):
        distil(teacher, None, StudentStage(), sampler_steps=(1.0, 0.6), work=tmp_path, seed=0)


def test_every_recipe_samples_on_its_grid_and_keeps_its_clips_long_to_the_end() -> None:
    for recipe in (TINY, TABLETOP, REAL):
        u = torch.linspace(1, 0, recipe.student.grid + 1)
        grid = recipe.student.shift * u / (1 + (recipe.student.shift - 1) * u)
        assert all((grid - step).abs().min() < 1e-3 for step in recipe.sampler_steps)
        frames = [stage.frames for stage in recipe.teachers]
        assert frames[-1] == max(frames)  # what comes last decides how far back it remembers


def test_checkpoint_keeps_configuration_and_half_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LatentWorldModel(CONFIG)
    path = tmp_path / 'model.pt'
    artefact.save(path, model, CONFIG, {'stage': 'teacher'})
    loaded = artefact.load(path)
    again = LatentWorldModel(loaded.config)
    loaded.load_into(again)
    assert loaded.config == CONFIG
    assert loaded.meta == {'stage': 'teacher'}
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())
    with pytest.raises(FileNotFoundError, match='no such artefact'):
        artefact.load(tmp_path / 'absent.pt')
    with pytest.raises(RuntimeError):
        loaded.load_into(LatentWorldModel(replace(CONFIG, layers=1)))


class _Cut(RuntimeError):
    pass


def test_a_cut_stage_goes_on_and_ends_like_an_uncut_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))

    def fresh() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(4, 4)

    def run(work: Path, cut_at: int | None) -> torch.Tensor:
        module = fresh()

        def loss(rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
            x = torch.randn(8, 4, generator=generator)
            return (module(x) - x @ target).square().mean()

        def on_step(step: int, seconds: float, average: nn.Module) -> None:
            if step == cut_at:
                raise _Cut

        averaged = optimise(
            module,
            loss,
            Schedule(30, 1e-2, warm_up=5),
            name='s',
            work=work,
            seed=0,
            made_of={},
            on_step=on_step,
        )
        return averaged.weight

    whole = run(tmp_path / 'whole', None)
    monkeypatch.setattr('training.optimise.SAVE_SECONDS', 0.0)
    with pytest.raises(_Cut):
        run(tmp_path / 'cut', 20)
    assert running_state(tmp_path / 'cut', 's').exists()
    torch.testing.assert_close(run(tmp_path / 'cut', None), whole)
    # What comes after the last step may be cut off as well: that takes no step again.
    with monkeypatch.context() as patched:
        patched.setattr('training.optimise.average_into', None)
        torch.testing.assert_close(run(tmp_path / 'cut', None), whole, rtol=0, atol=0)


def test_probe_scores_a_model_without_memory_at_exactly_one_half() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, arm='none')
    autoencoder, model = Autoencoder(config).eval(), LatentWorldModel(config)
    nn.init.normal_(model.denoiser.out.weight, std=0.1)
    lags = recall_2afc(model, autoencoder, collect(CupsWorld(), autoencoder, range(4)))
    assert lags == {48: 0.5, 128: 0.5, 256: 0.5}


def test_probe_twins_differ_only_where_the_swapped_facts_show() -> None:
    episode = CupsWorld().probe(1)
    for test in episode.tests:
        differs = (episode.images_VTHWC[0] != episode.images_VTHWC[test.version]).any((1, 2, 3))
        assert differs[test.scored_frame]
        assert not differs[test.hidden_frame - 8 : test.hidden_frame + 1].any()
        assert differs[: test.hidden_frame].any()


def test_a_robots_recipe_takes_its_shapes_from_its_contract() -> None:
    g1 = StreamContract.load('contracts/g1_bottle.yaml')
    recipe = real_recipe(g1)
    assert (recipe.name, recipe.model.action_width) == ('g1_bottle', 26)
    other = real_recipe(replace(StreamContract.load('contracts/tabletop.yaml'), name='arm'))
    assert (other.name, other.model.action_width) == ('arm', 11)
    LatentWorldModel(other.model).write(
        torch.zeros(1, *other.model.latent_shape),
        torch.zeros(1, 11),
        torch.ones(1),
        LatentWorldModel(other.model).initial_memory(1),
    )
