"""What an episode plan is: commands, what shows when, and what a recall test may ask.

Values only; `episodes.py` makes and plays them. Axes: T frames, A action, F facts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray
from wm_ros.sim.script import Script
from wm_ros.sim.world import FACTS, Layout


@dataclass(frozen=True)
class Reveal:
    """One stretch of frames in which a fact shows.

    Attributes:
        fact: entry of FACTS.
        frame_first_visible: first frame with a pixel of it.
        frame_first_5pct: first frame of the stretch in which it covers 5 % or more, or None.
        lag: frames since the fact last showed (1 would be the very next), None for its first time.
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
        lag: frames from the last one that showed the fact to the first one that shows it here.
        hidden_frame: the last frame in which neither fact nor partner shows: observe up to here.
        scored_frame: the first frame in which the fact covers 5 % or more: at most 12 frames on.
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
        layout: the block's first pose and the facts' colours.
        actions_TA: float32 [T, A] physical units; row t acts from frame t to frame t + 1.
        visible_TF: bool [T, F], the fact has a pixel in the frame.
        reveals: every stretch in which a fact shows, in time order.
        tests: recall tests in time order (evaluation kinds only).
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


def finish(kind: str, seed: int, layout: Layout, script: Script, frames: int) -> EpisodePlan:
    """Cut a script to `frames` and find the reveals in it."""
    visible_TF = script.showing()[:frames]
    reveals = find_reveals(visible_TF, script.large()[:frames])
    return EpisodePlan(kind, seed, layout, script.actions()[:frames], visible_TF, reveals)


def find_reveals(visible_TF: npt.NDArray[np.bool_],
                 large_TF: npt.NDArray[np.bool_]) -> tuple[Reveal, ...]:
    """Return the stretches in which a fact shows; both inputs bool [T, F]."""
    reveals = []
    for column, fact in enumerate(FACTS):
        edges_T = np.diff(visible_TF[:, column].astype(np.int8), prepend=0, append=0)
        last_visible = None
        starts, ends = np.flatnonzero(edges_T == 1), np.flatnonzero(edges_T == -1)
        for start, end in zip(starts, ends, strict=True):
            large = np.flatnonzero(large_TF[start:end, column])
            reveals.append(Reveal(fact, int(start), int(start + large[0]) if large.size else None,
                                  None if last_visible is None else int(start) - last_visible))
            last_visible = int(end) - 1
    return tuple(sorted(reveals, key=lambda reveal: reveal.frame_first_visible))
