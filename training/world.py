"""What training asks of a world: practice clips to learn from, probe episodes to judge recall on.

Axes: T frames, H W pixels, A action, F facts, V versions (0 the base, others its twins).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np

# From this seed on a clip practises what a planner may ask for, where a world knows that.
SKILL_SEED = 1_000_000


@dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        images_THWC: uint8 RGB after preprocessing.
        actions_TA: float32 in [-1, 1]; row t is a_t, in force from frame t on.
        visible_TF: bool, which hidden things show in a frame; F = 0 where nobody knows.
    """

    images_THWC: np.ndarray
    actions_TA: np.ndarray
    visible_TF: np.ndarray


@dataclass(frozen=True)
class ProbeTest:
    """Imagine from `hidden_frame` to `scored_frame`; base and twin `version` differ in the fact
    shown there.
    """

    version: int
    lag: int
    hidden_frame: int
    scored_frame: int


@dataclass(frozen=True)
class ProbeEpisode:
    """A clip with its twins: same actions, one pair of facts swapped.

    Attributes:
        images_VTHWC: uint8 frames of every version.
        actions_TA: float32, shared by all versions.
        tests: where to look.
    """

    images_VTHWC: np.ndarray
    actions_TA: np.ndarray
    tests: tuple[ProbeTest, ...]


class World(Protocol):
    """A source of training clips and probes; every clip is a function of its seed.

    Attributes:
        clips: how many different clips there are; 0 for as many as wanted.
    """

    action_width: int
    image_size: int
    clips: int

    def made_of(self, skills: bool = False) -> dict[str, Any]:
        """Return, as plain JSON values, what decides the clips (from SKILL_SEED on, or before):
        another value is another world.
        """

    def practice(self, seed: int, frames: int) -> Clip:
        """Return one training clip."""

    def probe(self, seed: int) -> ProbeEpisode:
        """Return one recall probe."""


def render_pool(workers: int) -> ProcessPoolExecutor:
    """Return processes that play and render.

    They are spawned: a fork of a process that has itself rendered waits for ever for a lock of
    the graphics driver's threads.
    """
    return ProcessPoolExecutor(workers, mp_context=get_context('spawn'))


def skewed_weights(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return visiting probabilities exp(1.5 N(0, 1)), normalised: some places are left alone for
    long.
    """
    weights = np.exp(1.5 * rng.standard_normal(count))
    return np.asarray(weights / weights.sum())
