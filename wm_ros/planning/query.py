"""A planner's question and its answer, as values; the checks of what a planner sends.

A query starts at a `Start`. From the live memory at frame t the command a_t is in force until
frame t+1 whatever the planner decides: it is latched. That transition is common to all candidates,
action i acts from t+1+i to t+2+i, so T actions give T frames that depend on them. A state that was
imagined or kept without a command has none in force: action 0 acts at once.

Axes: K candidates, M noise draws, T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, ImageArray, MemoryState
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import Term

__all__ = [
    'Evaluation',
    'FramesWanted',
    'ImaginedFrame',
    'Limits',
    'Query',
    'QueryCode',
    'QueryError',
    'Start',
    'check_candidates',
    'check_counts',
]

LIMIT_SLACK = 1e-4  # share of an entry's range; float32 messages do not meet float64 limits


class FramesWanted(enum.IntEnum):
    """Which frames of a query are decoded; always those of noise draw 0."""

    NONE = 0
    LAST = 1  # the last one of every candidate
    EVERY = 2  # every n-th step of every candidate
    BEST = 3  # every n-th step of the candidate that costs least


@dataclass(frozen=True)
class Start:
    """Where a query begins.

    Attributes:
        memory: batch 1; never edited.
        latched_A: float32 [A] in [-1, 1], the command in force when the query begins; None where
            none is (an imagined state).
        handle: id of the kept state, 0 for the live memory.
        imagined: frames imagined since the newest one of the stream that the memory holds. A
            missing frame that was bridged is one of the stream, so after it `ahead` is short by
            as many as are missing on end, and so is the calibrated error a little.
    """

    memory: MemoryState
    latched_A: FloatArray | None
    handle: int = 0
    imagined: int = 0

    def frames_ahead(self, steps: int) -> int:
        """Frames from the newest observed one to the one after `steps` candidate actions."""
        return self.imagined + steps + (self.latched_A is not None)


@dataclass(frozen=True)
class Limits:
    """What one query may ask for; `Evaluator` allocates for it.

    Attributes:
        candidates: K at most.
        steps: T at most.
        draws: M at most.
        goals: pictures of one goal term at most.
        goal_pixels: of all goal pictures of a query as they are sent; a callback decodes them.
        terms: objective terms at most.
    """

    candidates: int = 256
    steps: int = 64
    draws: int = 8
    goals: int = 16
    goal_pixels: int = 16 * 2**20
    terms: int = 16

    @property
    def rows(self) -> int:
        """K * M at most: states held side by side."""
        return 2 * self.candidates

    @property
    def latents(self) -> int:
        """K * M * T at most: predicted latents held at once."""
        return self.rows * self.steps


@dataclass(frozen=True, eq=False)
class Query:
    """One question: what would each candidate cost?

    Attributes:
        start: where it begins.
        actions_KTA: float32 in [-1, 1], from `check_candidates`.
        objectives: what a future costs; the terms are added with their weights.
        draws: M, noise draws per candidate; 1 gives no uncertainty.
        seed: of the noise. Draws are common to all candidates, so costs differ by actions only.
        frames: which frames to decode.
        every: n of "every n-th step", counted so that the last step is among them.
    """

    start: Start
    actions_KTA: FloatArray
    objectives: tuple[Term, ...]
    draws: int = 1
    seed: int = 0
    frames: FramesWanted = FramesWanted.NONE
    every: int = 1


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The answer.

    Attributes:
        costs_K: float32, the sum over terms of weight times term; lower is better.
        terms: name -> float32 [K], mean over draws, before the weight, in the query's order. A
            second term of one name is called `<name>_2`.
        uncertainty_K: float32, NaN with one draw. Calibrated: the expected RMS error of the last
            evaluated latent; else the RMS spread of its draws.
        calibrated: which of the two; never with one draw.
        cost_steps_K: int64, after how many actions each cost is reached: the horizon, or less
            where a goal term takes the best frame (of more than one such term, the first).
        best: index of the lowest cost.
        horizon: steps that the costs cover, T unless partial.
        partial: stopped before its last step.
    """

    costs_K: FloatArray
    terms: Mapping[str, FloatArray]
    uncertainty_K: FloatArray
    calibrated: bool
    cost_steps_K: npt.NDArray[np.int64]
    best: int
    horizon: int
    partial: bool


@dataclass(frozen=True, eq=False)
class ImaginedFrame:
    """One decoded frame of a query or a dream.

    Attributes:
        candidate: k, 0 in a dream.
        step: i of the last action that acted on it, from 0.
        ahead: frames from the newest observed frame to this one.
        image_HWC: uint8 RGB [S, S, 3].
    """

    candidate: int
    step: int
    ahead: int
    image_HWC: ImageArray


def check_counts(k: int, t: int, limits: Limits) -> None:
    """Refuse numbers of candidates and of steps that a query cannot have.

    Raises:
        QueryError: WRONG_DIMS, TOO_MANY_CANDIDATES, TOO_MANY_STEPS.
    """
    if k < 1 or t < 1:
        raise QueryError(
            QueryCode.WRONG_DIMS, f'{k} candidates of {t} steps: expected at least 1 of each'
        )
    if k > limits.candidates:
        raise QueryError(
            QueryCode.TOO_MANY_CANDIDATES, f'{k} candidates: at most {limits.candidates}'
        )
    if t > limits.steps:
        raise QueryError(QueryCode.TOO_MANY_STEPS, f'{t} steps: at most {limits.steps}')


def check_candidates(
    actions: npt.ArrayLike,
    dims: tuple[int, int, int],
    contract: StreamContract,
    limits: Limits,
) -> FloatArray:
    """Check what a planner sent against the contract, and normalise it.

    Args:
        actions: K * T * A numbers in the contract's units, flat or [K, T, A].
        dims: K, T, A as sent.
        contract: of this robot.
        limits: of this node.

    Returns:
        float32 [K, T, A] in [-1, 1].

    Raises:
        QueryError: WRONG_DIMS, TOO_MANY_CANDIDATES, TOO_MANY_STEPS, NOT_FINITE, OUT_OF_LIMITS.
    """
    k, t, a = dims
    check_counts(k, t, limits)
    if a != contract.action_width:
        raise QueryError(
            QueryCode.WRONG_DIMS,
            f'{a} action entries: contract {contract.name} has {contract.action_width}',
        )
    array = np.asarray(actions)
    if array.shape not in ((k * t * a,), (k, t, a)):
        raise QueryError(
            QueryCode.WRONG_DIMS,
            f'actions of shape {list(array.shape)}: expected {k} x {t} x {a} = {k * t * a} '
            'numbers',
        )
    actions_KTA = array.astype(np.float64).reshape(k, t, a)
    low_A, high_A = contract.limits_A2.T
    finite = np.isfinite(actions_KTA)
    if not finite.all():
        where = _where(~finite, contract)
        raise QueryError(QueryCode.NOT_FINITE, f'{where} is not finite')
    slack_A = LIMIT_SLACK * (high_A - low_A)
    outside = (actions_KTA < low_A - slack_A) | (actions_KTA > high_A + slack_A)
    if outside.any():
        index = tuple(np.argwhere(outside)[0])
        entry = contract.entries[int(index[2])]
        raise QueryError(
            QueryCode.OUT_OF_LIMITS,
            f'{_where(outside, contract)} is {actions_KTA[index]:g} {entry.unit}: expected '
            f'{entry.low:g} to {entry.high:g}',
        )
    return contract.normalise(actions_KTA)


def _where(bad_KTA: npt.NDArray[np.bool_], contract: StreamContract) -> str:
    k, t, a = np.argwhere(bad_KTA)[0]
    return f'{int(bad_KTA.sum())} of {bad_KTA.size} numbers: candidate {k}, step {t}, entry ' + (
        contract.entries[int(a)].name
    )
