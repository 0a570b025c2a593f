"""Episodes: what happens when, which facts are revealed, and what a recall test may ask.

`plan_episode` writes the whole open-loop command sequence and the ground truth of visibility without
drawing; `play` runs a plan on a TableTop. Axes: T frames, A action, F facts, H W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.sim.scene import TableTop, Truth
from wm_ros.sim.script import Script
from wm_ros.sim.world import BLOCK_X_M, BLOCK_Y_M, FACTS, PALETTE, Layout

KINDS = ('free', 'push', 'practice', 'cup', 'drawer', 'view')
RESTING = 3


@dataclass(frozen=True)
class Reveal:
    """One stretch in which a fact shows, told by its beginning.

    Attributes:
        fact: entry of FACTS.
        frame_first_visible: first frame with a pixel of it.
        frame_first_5pct: first frame of this stretch with 5 % of the frame or more, None if it never gets there.
        lag: frames since the fact last showed (1 would be the very next frame), None for its first time.
    """

    fact: str
    frame_first_visible: int
    frame_first_5pct: int | None
    lag: int | None


@dataclass(frozen=True)
class RecallTest:
    """One question of the recall protocol.

    Attributes:
        fact: what is revealed.
        partner: the fact whose colour is swapped with it in the twin.
        lag: frames between the last frame that showed the fact and its first frame here.
        hidden_frame: the last frame in which neither fact nor partner shows: observe up to here.
        scored_frame: the first frame with 5 % or more of the fact: at most 12 frames on.
    """

    fact: str
    partner: str
    lag: int
    hidden_frame: int
    scored_frame: int


@dataclass(frozen=True)
class EpisodePlan:
    """A whole episode, ready to play.

    Attributes:
        kind, seed: what it was planned from.
        layout: first block pose and the facts' colours.
        actions_TA: float32 [T, A] physical units; row t acts from frame t to frame t + 1.
        visible_TF: bool [T, F], the fact has a pixel in the frame.
        reveals: every stretch in which a fact shows, in time order.
        tests: recall tests, in time order (evaluation kinds only).
    """

    kind: str
    seed: int
    layout: Layout
    actions_TA: FloatArray
    visible_TF: npt.NDArray[np.bool_]
    reveals: tuple[Reveal, ...] = ()
    tests: tuple[RecallTest, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.actions_TA.shape[0])


@dataclass(frozen=True)
class SimFrame:
    """One played frame: uint8 [S, S, 3], the float32 [A] command that acts from it on, and its index."""

    image_HWC: ImageArray
    action_A: FloatArray
    truth: Truth | None
    index: int


def plan_episode(kind: str, seed: int, frames: int | None = None) -> EpisodePlan:
    """Plan one episode; the same kind, seed and length give the same bytes.

    Args:
        kind: entry of KINDS.
        seed: any non-negative integer.
        frames: length; the default is 2,000 for `practice`.

    Raises:
        ValueError: unknown kind or a length that the kind cannot have.
    """
    if kind not in KINDS:
        raise ValueError(f'episode kind {kind!r}: expected one of {", ".join(KINDS)}')
    rng = np.random.default_rng([KINDS.index(kind), seed])
    layout = Layout(colours=tuple(int(c) for c in rng.integers(0, len(PALETTE), len(FACTS))),
                    block_x_m=float(rng.uniform(*BLOCK_X_M)), block_y_m=float(rng.uniform(*BLOCK_Y_M)),
                    block_yaw_rad=float(rng.uniform(-0.7, 0.7)))
    script = Script(layout, rng)
    _practise(script, frames or 2000)
    return _finish(kind, seed, layout, script, frames or 2000)


def _practise(script: Script, frames: int) -> None:
    """Reveal by skewed weights; now and then a fact rests, so that long lags occur too."""
    rng, redraw = script.rng, 0
    weights_F = np.ones(len(FACTS))
    rests: dict[str, int] = {}
    while script.frame < frames:
        if script.frame >= redraw:
            weights_F = np.exp(1.5 * rng.standard_normal(len(FACTS)))
            redraw = script.frame + 300
        due = [fact for fact, end in rests.items() if end <= script.frame]
        if due:
            fact = due[0]
            del rests[fact]
        else:
            awake_F = weights_F * [fact not in rests for fact in FACTS]
            fact = FACTS[int(rng.choice(len(FACTS), p=awake_F / awake_F.sum()))]
        _reveal(script, fact)
        if len(rests) < RESTING and rng.random() < 0.3:
            rests[fact] = script.frame + _rest(rng, frames - script.frame)
        script.wait(int(rng.integers(2, 14)))


def _rest(rng: np.random.Generator, left: int) -> int:
    """Draw how long a fact stays hidden, so that its return still fits into the frames left."""
    if rng.random() < 0.5:
        rest = math.exp(rng.uniform(math.log(120), math.log(600)))
    else:
        rest = rng.uniform(600, 1600)
    return int(rest if rest < left - 20 else rng.uniform(0.3, 0.95) * left)


def _reveal(script: Script, fact: str) -> None:
    """Open and close one container at a random pace."""
    rng = script.rng
    led = fact.startswith('cup') and rng.random() < 0.6
    script.prepare(fact, led)
    if fact.startswith('view'):
        script.reveal(fact, False, int(rng.integers(5, 7)), int(rng.integers(0, 5)), 0)
    else:
        up, down = (int(n) for n in rng.choice((4, 8), 2, p=(0.75, 0.25)))
        script.reveal(fact, led, up, int(rng.integers(0, 4)), down)


def _finish(kind: str, seed: int, layout: Layout, script: Script, frames: int) -> EpisodePlan:
    visible_TF, large_TF = script.showing()[:frames], script.large()[:frames]
    return EpisodePlan(kind, seed, layout, script.actions()[:frames], visible_TF,
                       find_reveals(visible_TF, large_TF))


def find_reveals(visible_TF: npt.NDArray[np.bool_], large_TF: npt.NDArray[np.bool_]) -> tuple[Reveal, ...]:
    """Return the stretches in which a fact shows; one that shows from frame 0 on counts as revealed there."""
    reveals = []
    for column, fact in enumerate(FACTS):
        shows_T = visible_TF[:, column].astype(np.int8)
        edges_T = np.diff(np.concatenate([[0], shows_T, [0]]))
        last_end = None
        for start, end in zip(np.flatnonzero(edges_T == 1), np.flatnonzero(edges_T == -1), strict=True):
            large = np.flatnonzero(large_TF[start:end, column])
            reveals.append(Reveal(fact, int(start), int(start + large[0]) if large.size else None,
                                  None if last_end is None else int(start) - last_end + 1))
            last_end = int(end)
    return tuple(sorted(reveals, key=lambda reveal: reveal.frame_first_visible))


def twin(plan: EpisodePlan, fact: str, partner: str) -> EpisodePlan:
    """Return the plan with the colours of two facts swapped; everything else is the same."""
    colours = list(plan.layout.colours)
    i, j = FACTS.index(fact), FACTS.index(partner)
    colours[i], colours[j] = colours[j], colours[i]
    return replace(plan, layout=replace(plan.layout, colours=tuple(colours)))


def play(plan: EpisodePlan, sim: TableTop, frames: slice | Iterable[int] | None = None,
         truth: bool = False) -> Iterator[SimFrame]:
    """Run a plan and yield the asked frames in order; frames not asked for are stepped, not drawn.

    Args:
        frames: slice or frame indices; None for all.
        truth: attach ground truth with pixel counts and mask (a second render pass).
    """
    indices = range(plan.frames)
    wanted = set(indices[frames] if isinstance(frames, slice) else indices if frames is None else frames)
    if wanted and not 0 <= min(wanted) <= max(wanted) < plan.frames:
        raise ValueError(f'frames {min(wanted)}..{max(wanted)} asked of a plan of {plan.frames}')
    sim.reset(plan.layout)
    for index in range(max(wanted, default=-1) + 1):
        if index in wanted:
            yield SimFrame(sim.render(), plan.actions_TA[index], sim.truth() if truth else None, index)
        sim.step(plan.actions_TA[index])
