"""Episodes: plan one, swap two of its colours, play it.

`plan_episode` writes the whole open-loop command sequence and the truth of what shows when,
without drawing; `play` runs a plan on a TableTop.
Axes: T frames, A action, F facts, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.sim.plan import EpisodePlan, RecallTest, Reveal, finish
from wm_ros.sim.recall import CLIP_FRAMES, FIRST_FACT, recall_plan
from wm_ros.sim.routines import practise, practise_skills, push_about, roam
from wm_ros.sim.scene import TableTop, Truth
from wm_ros.sim.script import Script
from wm_ros.sim.world import BLOCK_X_M, BLOCK_Y_M, FACTS, PALETTE, Layout

__all__ = ['KINDS', 'EpisodePlan', 'RecallTest', 'Reveal', 'SimFrame', 'plan_episode', 'play',
           'twin']

KINDS = ('free', 'push', 'practice', 'cup', 'drawer', 'view', 'skills')
DEFAULT_FRAMES = {'free': 1000, 'push': 1000, 'practice': 2000, 'skills': 2000}


@dataclass(frozen=True)
class SimFrame:
    """One played frame.

    Attributes:
        image_HWC: uint8 RGB [S, S, 3].
        action_A: float32 [A] physical units, the command that acts from this frame to the next.
        truth: ground truth with mask, when asked for.
        index: frame number in the plan.
    """

    image_HWC: ImageArray
    action_A: FloatArray
    truth: Truth | None
    index: int


def plan_episode(kind: str, seed: int, frames: int | None = None) -> EpisodePlan:
    """Plan one episode; the same kind, seed and length give the same bytes.

    Args:
        kind: entry of KINDS.
        seed: non-negative.
        frames: length of `free` and `push` (default 1,000), `practice` and `skills` (2,000). The
            recall kinds `cup`, `drawer` and `view` always have 1,650 frames.

    Raises:
        ValueError: unknown kind, or a length that the kind cannot have.
    """
    if kind not in KINDS:
        raise ValueError(f'episode kind {kind!r}: expected one of {", ".join(KINDS)}')
    rng = np.random.default_rng([KINDS.index(kind), seed])
    layout = Layout(colours=tuple(rng.integers(0, len(PALETTE), len(FACTS)).tolist()),
                    block_x_m=float(rng.uniform(*BLOCK_X_M)),
                    block_y_m=float(rng.uniform(*BLOCK_Y_M)),
                    block_yaw_rad=float(rng.uniform(-0.7, 0.7)))
    if kind in FIRST_FACT:
        if frames not in (None, CLIP_FRAMES):
            raise ValueError(f'{kind} episodes have {CLIP_FRAMES} frames, {frames} asked for')
        return recall_plan(kind, seed, layout, rng)
    length = DEFAULT_FRAMES[kind] if frames is None else frames
    if length < 1:
        raise ValueError(f'{length} frames asked for: expected 1 or more')
    pushes, reaches = kind == 'push', kind in ('push', 'free')
    script = Script(layout, rng, push_share=0.5 if pushes else 0.35, sideways=pushes,
                    reach_share=0.8 if reaches else 0.0)
    routines = {
        'practice': practise,
        'free': roam,
        'push': push_about,
        'skills': practise_skills,
    }
    routines[kind](script, length)
    return finish(kind, seed, layout, script, length)


def twin(plan: EpisodePlan, fact: str, partner: str) -> EpisodePlan:
    """Return the plan with the colours of two facts swapped; all else is the same.

    Every frame in which neither shows is bit-identical, so only the others need drawing:
    `numpy.flatnonzero(plan.visible_TF[:, [i, j]].any(axis=1))`.
    """
    colours = list(plan.layout.colours)
    i, j = FACTS.index(fact), FACTS.index(partner)
    colours[i], colours[j] = colours[j], colours[i]
    return replace(plan, layout=replace(plan.layout, colours=tuple(colours)))


def play(plan: EpisodePlan, sim: TableTop, frames: slice | Iterable[int] | None = None,
         truth: bool = False) -> Iterator[SimFrame]:
    """Run a plan and yield the asked frames in order; the others are stepped through, not drawn.

    Args:
        frames: a slice or frame indices; None for all.
        truth: attach ground truth with pixel counts and mask (a second render pass).

    Raises:
        ValueError: an index outside the plan.
    """
    indices = range(plan.frames)
    if frames is None:
        frames = slice(None)
    wanted = set(indices[frames] if isinstance(frames, slice) else frames)
    if wanted and not 0 <= min(wanted) <= max(wanted) < plan.frames:
        raise ValueError(f'frames {min(wanted)}..{max(wanted)} asked of a plan of {plan.frames}')
    sim.reset(plan.layout)
    for index in range(max(wanted, default=-1) + 1):
        if index in wanted:
            facts = sim.truth() if truth else None
            yield SimFrame(sim.render(), plan.actions_TA[index], facts, index)
        sim.step(plan.actions_TA[index])
