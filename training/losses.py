"""What is minimised: flow matching for the teacher, causal consistency or ODE regression for the
student.

Rows are independent: each predicts the successor of one frame from the memory as it stood then.
History is the ground truth (teacher forcing), lightly noised at times so that forks, which read
their own predictions, stay in distribution. Equations: reference Causal Forcing++ (2605.15141),
sections on stages 1 and 2.

Axes: B clips, T frames, R loss frames, rows = B * R, C H W latent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.world_model import LatentWorldModel
from training.recipes import Stage
from training.shards import Batch, Shards

MOST_MISSING = 8  # frames in a row that a robot may be expected to bridge


@dataclass(frozen=True)
class Rows:
    """Prediction problems: memory and action before, latent after (the first axis of everything
    is rows).
    """

    target_CHW: Tensor
    action_A: Tensor
    memory: dict[str, Tensor]


def shift_time(u: Tensor, shift: float) -> Tensor:
    """t(u) = s u / (1 + (s - 1) u): moves flow time towards noise for s > 1."""
    return shift * u / (1 + (shift - 1) * u)


def sample_time(rows: int, shift: float, at_noise: float, generator: torch.Generator) -> Tensor:
    """Logit-normal flow times, shifted, with a share `at_noise` of rows exactly at t = 1.

    Without the shift the answer can be read from x_t and the memory gets no gradient.
    """
    t = shift_time(torch.sigmoid(torch.randn(rows, generator=generator)), shift)
    return torch.where(torch.rand(rows, generator=generator) < at_noise, torch.ones(rows), t)


def history(
    batch: Batch, noisy_share: float, level: float, dropped: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the latents that are seen and written (some noised, the dropped ones all) and the
    write gate [B, T] (some dropped).
    """
    latents = batch.latents_BTCHW
    clips, frames = latents.shape[:2]
    noisy = torch.rand(clips, frames, generator=generator) < noisy_share
    sigma = torch.rand(clips, frames, generator=generator) * level
    noise = torch.randn(latents.shape, generator=generator)
    gate = (torch.rand(clips, frames, generator=generator) >= dropped).float()
    # Where a frame is missing the node has its own prediction, never the truth. `imagine` makes
    # such predictions for some of the frames before a target. A dropped frame is noised as others
    # are, by `level` at most: the denoiser must not take it for exact, but most of what a robot
    # could not have seen remains in it.
    sigma = torch.where(noisy | (gate == 0), sigma, 0.0).view(clips, frames, 1, 1, 1)
    return (1 - sigma) * latents + sigma * noise, gate


def shaken(batch: Batch, level: float, generator: torch.Generator) -> Batch:
    """Return the batch, its actions with an offset that lasts for the window, and a twentieth of
    it per frame.

    A few episodes can be told apart by the joints that hardly move in any, and learnt by heart.
    From frame to frame a joint moves by a hundredth of its range: that must stay readable.
    """
    if not level:
        return batch
    clips, frames, width = batch.actions_BTA.shape
    offset_B1A = torch.randn(clips, 1, width, generator=generator)
    each_BTA = torch.randn(clips, frames, width, generator=generator)
    return replace(batch, actions_BTA=batch.actions_BTA + level * (offset_B1A + 0.05 * each_BTA))


def draw_rows(
    model: LatentWorldModel,
    shards: Shards,
    stage: Stage,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Rows:
    """Draw one step's prediction problems as a stage asks for them."""
    batch = shards.sample(
        rng,
        clips=stage.clips,
        frames=stage.frames,
        loss_frames=stage.loss_frames,
        event_share=stage.event_share,
        ahead=stage.ahead,
        skill_share=stage.skill_share,
        skill_ahead=stage.skill_ahead,
        whole_share=stage.whole_share,
    )
    batch = shaken(batch, stage.action_noise, generator)
    seen, gate = history(batch, stage.noisy_share, stage.noise_level, stage.dropped, generator)
    return rows_of(model, batch, seen, gate, generator, stage.depths)


def rows_of(
    model: LatentWorldModel,
    batch: Batch,
    seen_BTCHW: Tensor,
    gate_BT: Tensor,
    generator: torch.Generator,
    depths: int = 1,
) -> Rows:
    """Scan the clips, imagine where the target lies further on, and cut out the problems."""
    long = model.states_at(seen_BTCHW, batch.actions_BTA, gate_BT, batch.frames_BR)
    memory = model.memory_at(seen_BTCHW, batch.actions_BTA, long, batch.frames_BR)
    rows, depth, memory = imagine(model, batch, memory, generator, depths)
    clip, before = rows // batch.frames_BR.shape[1], batch.frames_BR.flatten()[rows] + depth
    return Rows(batch.latents_BTCHW[clip, before + 1], batch.actions_BTA[clip, before], memory)


def imagine(
    model: LatentWorldModel,
    batch: Batch,
    memory: dict[str, Tensor],
    generator: torch.Generator,
    depths: int = 1,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Move every row `ahead` frames on by one-step predictions, as a fork would.

    Half of the rows write what they imagine (a planner's fork), half do not (missing frames,
    never many of them). No gradient flows through the predictions; it still reaches the states
    that they started from.

    Args:
        depths: at how many places of its way, the last one and random ones before, a row becomes
            a problem: the way is what costs.

    Returns:
        Of every problem its row and how far it was moved, both int64, and its memory; in the
        order of rows.
    """
    ahead, frames = batch.ahead_BR.flatten(), batch.frames_BR.flatten()
    clip = torch.arange(len(batch.frames_BR)).repeat_interleave(batch.frames_BR.shape[1])
    writes = torch.rand(len(ahead), generator=generator) < 0.5
    writes = (writes | (ahead > MOST_MISSING)).float()
    on_the_way = torch.rand(len(ahead), depths - 1, generator=generator) * ahead.unsqueeze(1)
    wanted = torch.cat([ahead.unsqueeze(1), on_the_way.long()], 1)
    problems: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
    for i in range(int(ahead.max()) + 1):
        there = torch.nonzero((wanted == i).any(1)).squeeze(1)
        problems.append((there, torch.full_like(there, i), _take(memory, there)))
        rows = torch.nonzero(ahead > i).squeeze(1)
        if not len(rows):
            break
        chosen = _take(memory, rows)
        action = batch.actions_BTA[clip[rows], frames[rows] + i]
        noise = torch.randn(len(rows), 1, *batch.latents_BTCHW.shape[2:], generator=generator)
        with torch.no_grad():
            latent = model.predict(action, noise, chosen, (1.0,))
        with torch.autocast('cpu', enabled=False):
            after = model.write(latent, action, writes[rows], chosen)
        memory = {name: value.index_copy(0, rows, after[name]) for name, value in memory.items()}
    row, depth = (torch.cat(part) for part in list(zip(*problems, strict=True))[:2])
    order = torch.argsort(row * (int(ahead.max()) + 1) + depth)
    at = {name: torch.cat([part[name] for *_, part in problems])[order] for name in memory}
    return row[order], depth[order], at


def _take(memory: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in memory.items()}


def flow_loss(
    model: LatentWorldModel,
    rows: Rows,
    t: Tensor,
    generator: torch.Generator,
    change_weight: float = 0.0,
) -> Tensor:
    """|v(x_t, t) - (eps - x_0)|^2, mean over rows and cells, cells that change weighted up.

    What moves and what is revealed is a small part of a frame; the weight gives it its share of
    the gradient. It depends on the target, so where the future is open the mean leans towards
    change.

    Args:
        change_weight: weight gained per unit of squared change since the last latent (channel
            mean, at most 2).

    With `change_std` on, flow times are weighted so that the network's output counts the same at
    all of them (Karras et al., 2206.00364, table 1).
    """
    eps = torch.randn(rows.target_CHW.shape, generator=generator)
    x = _at(rows.target_CHW, eps, t)
    error = (
        (model.velocity(x, t, rows.action_A, rows.memory) - (eps - rows.target_CHW))
        .square()
        .mean(1)
    )
    change = (rows.target_CHW - rows.memory['latents'][:, 0]).square().mean(1)
    if std := model.config.change_std:
        error = error * (((1 - t) * std).square() + t.square()).view(-1, 1, 1) / std**2
    return (error * (1 + change_weight * change.clamp_max(2.0))).mean()


def _at(clean: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * clean + t * eps


def _clean(model: LatentWorldModel, x: Tensor, t: Tensor, rows: Rows) -> Tensor:
    """G(x_t, t) = x_t - t v(x_t, t); the identity at t = 0."""
    return x - t.view(-1, 1, 1, 1) * model.velocity(x, t, rows.action_A, rows.memory)


def consistency_loss(
    student: LatentWorldModel,
    target: LatentWorldModel,
    teacher: LatentWorldModel,
    rows: Rows,
    grid: Tensor,
    at_noise: float,
    generator: torch.Generator,
) -> Tensor:
    """Causal consistency distillation over one cell of the grid, terminal pair included.

    |G_student(x_tn, tn) - sg G_target(xhat_tn+1, tn+1)|^2 with xhat one Euler step of the teacher.

    Args:
        grid: falling flow times, the first 1 and the last 0.
        at_noise: share of rows that start at t = 1.
    """
    count = len(rows.target_CHW)
    n = torch.randint(len(grid) - 1, (count,), generator=generator)
    n = torch.where(torch.rand(count, generator=generator) < at_noise, torch.zeros_like(n), n)
    now, after = grid[n], grid[n + 1]
    eps = torch.randn(rows.target_CHW.shape, generator=generator)
    x = _at(rows.target_CHW, eps, now)
    with torch.no_grad():
        v = teacher.velocity(x, now, rows.action_A, rows.memory)
        stepped = x - (now - after).view(-1, 1, 1, 1) * v
        goal = torch.where(
            after.view(-1, 1, 1, 1) > 0, _clean(target, stepped, after, rows), stepped
        )
    return F.mse_loss(_clean(student, x, now, rows), goal)


def ode_loss(
    student: LatentWorldModel,
    teacher: LatentWorldModel,
    rows: Rows,
    steps: tuple[float, ...],
    solver_steps: int,
    generator: torch.Generator,
) -> Tensor:
    """ODE regression: at the student's own flow times, the endpoint of the teacher's Euler
    solution.
    """
    count = len(rows.target_CHW)
    t = torch.tensor(steps)[torch.randint(len(steps), (count,), generator=generator)]
    eps = torch.randn(rows.target_CHW.shape, generator=generator)
    start = _at(rows.target_CHW, eps, t)
    with torch.no_grad():
        goal = solve(teacher, start, t, rows, solver_steps)
    return F.mse_loss(_clean(student, start, t, rows), goal)


def solve(model: LatentWorldModel, x: Tensor, t: Tensor, rows: Rows, steps: int) -> Tensor:
    """Follow the model's probability-flow ODE from flow time t [rows] to 0 in equal Euler
    steps.
    """
    for i in range(steps):
        now = t * (1 - i / steps)
        x = x - (t / steps).view(-1, 1, 1, 1) * model.velocity(x, now, rows.action_A, rows.memory)
    return x
