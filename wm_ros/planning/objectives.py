"""What a future costs: terms that each add to a cost vector, like the critics of Nav2's MPPI.

A term sees the `Outlook` of some candidates and gives each of them a number for each noise draw;
candidates never see each other, so the evaluator may ask in pieces. Total = sum of weight times
mean over draws. Terms are in units of their own: the weights are the planner's business.

Axes: K candidates, M noise draws, T time, A action, C channels, H W latent cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray
from wm_ros.model_package import ModelPackage
from wm_ros.planning.errors import QueryCode, QueryError

LAST, MEAN, BEST = 'last', 'mean', 'best'
OVERS = (LAST, MEAN, BEST)
SCALES = (1, 2)  # cells per side of the blocks that are compared

StepArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outlook:
    """What was imagined for some candidates, as far as the horizon that was reached.

    Attributes:
        actions_KTA: float32 in [-1, 1].
        latents_KMTCHW: float32, the latent after each action.
        rewards_KMT: float32, reward of each latent; None where no term wants them.
        latched_A: float32, the command in force before the first action, None where none was.
    """

    actions_KTA: FloatArray
    latents_KMTCHW: FloatArray
    rewards_KMT: FloatArray | None = None
    latched_A: FloatArray | None = None

    @property
    def draws(self) -> int:
        """M."""
        return self.latents_KMTCHW.shape[1]

    def over_draws(self, costs_K: FloatArray) -> FloatArray:
        """Repeat costs that do not depend on the draw, [K] -> [K, M]."""
        return np.repeat(costs_K[:, None], self.draws, axis=1)


class Objective(Protocol):
    """One term. Immutable.

    Attributes:
        name: of its row in the reply.
        weight: of the term in the total; may be negative.
    """

    @property
    def name(self) -> str:
        """Name of the term."""
        ...

    @property
    def weight(self) -> float:
        """Weight of the term."""
        ...

    def check(self, package: ModelPackage) -> None:
        """Raise QueryError with the reason where the term does not fit the package."""
        ...

    def costs(self, outlook: Outlook) -> FloatArray:
        """Return float32 [K, M], lower is better."""
        ...


@dataclass(frozen=True, eq=False)
class GoalImage:
    """Distance to goal latents: mean squared difference over channels and weighted cells, and the
    same over blocks of 2 x 2 cells, added.

    Cell by cell, a hand in the wrong place is twice as far from the goal as no hand at all,
    however near it is; seen coarsely, near is nearer (measured: docs/log.md).

    Attributes:
        latents_GCHW: alternatives; the nearest one counts.
        weight: of the term.
        mask_HW: float32 >= 0, weight of each latent cell; None weighs all alike.
        over: `last` frame, `mean` over the frames, or `best` (lowest) of them.
        name: of the term.
    """

    latents_GCHW: FloatArray
    weight: float = 1.0
    mask_HW: FloatArray | None = None
    over: str = LAST
    name: str = 'goal_image'

    def __post_init__(self) -> None:
        check_over(self.over)
        if self.latents_GCHW.ndim != 4 or not len(self.latents_GCHW):
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'goal latents of shape {list(self.latents_GCHW.shape)}: expected '
                '[goals, channels, rows, columns], at least one goal',
            )
        if not np.isfinite(self.latents_GCHW).all():
            raise QueryError(QueryCode.INVALID_GOAL, 'goal latents are not finite')
        mask_HW = self.mask_HW
        if mask_HW is not None and not (
            mask_HW.shape == self.latents_GCHW.shape[2:]
            and (mask_HW >= 0).all()
            and 0 < mask_HW.sum() < np.inf
        ):
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'goal weights of shape {list(mask_HW.shape)}: expected one per latent cell '
                f'{list(self.latents_GCHW.shape[2:])}, none below 0, some above',
            )

    @property
    def goals(self) -> int:
        """G, alternatives."""
        return len(self.latents_GCHW)

    def check(self, package: ModelPackage) -> None:
        """See `Objective.check`."""
        expected = package.model.coded_shape
        if self.latents_GCHW.shape[1:] != expected:
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'goal latents of shape {list(self.latents_GCHW.shape[1:])}: the model has '
                f'{list(expected)}',
            )

    def costs(self, outlook: Outlook) -> FloatArray:
        """See `Objective.costs`."""
        return self.settle(self.distances(outlook.latents_KMTCHW))[0]

    def cost_steps(self, outlook: Outlook) -> StepArray:
        """Return after how many actions each candidate's cost is reached, int64 [K]."""
        steps_K = self.settle(self.distances(outlook.latents_KMTCHW))[1]
        return np.where(steps_K < 0, outlook.latents_KMTCHW.shape[2], steps_K)

    def distances(self, latents_KMTCHW: FloatArray) -> FloatArray:
        """Return the distance of every latent that counts to the nearest goal, float32 [K, M, T]
        (T = 1 for `last`).
        """
        return np.min([self.distance(g, latents_KMTCHW) for g in range(self.goals)], axis=0)

    def settle(self, distances_KMT: FloatArray) -> tuple[FloatArray, StepArray]:
        """Return the costs, float32 [K, M], and after how many actions they are reached, int64
        [K]: with `best` the frame that is nearest in the mean over draws, else -1, the horizon.
        """
        if self.over != BEST:
            return distances_KMT.mean(2), np.full(len(distances_KMT), -1, np.int64)
        steps_K = distances_KMT.mean(1).argmin(1)
        costs_KM = np.take_along_axis(distances_KMT, steps_K[:, None, None], 2)[:, :, 0]
        return costs_KM, steps_K + 1

    def distance(self, goal: int, latents_KMTCHW: FloatArray) -> FloatArray:
        """Return the distance of every latent that counts to one goal, float32 [K, M, T]."""
        latents = latents_KMTCHW[:, :, -1:] if self.over == LAST else latents_KMTCHW
        channels, rows, columns = self.latents_GCHW.shape[1:]
        mask_HW = np.ones((rows, columns), np.float32) if self.mask_HW is None else self.mask_HW
        gap = latents - self.latents_GCHW[goal]
        total = np.zeros(latents.shape[:3], np.float32)
        for side in SCALES:
            if rows % side or columns % side:
                continue
            # Blocks are weighted means, and weigh as much as what they are made of.
            part, weights_HW = gap, mask_HW
            if side > 1:
                weights_HW = _pooled(mask_HW, side)
                part = _pooled(gap * mask_HW, side) / np.maximum(weights_HW, np.float32(1e-12))
            share_HW = (weights_HW / (weights_HW.sum() * channels)).astype(np.float32)
            share_CHW = np.ascontiguousarray(np.broadcast_to(share_HW, part.shape[3:]))
            # Not a matrix product: that may start threads, and these are the stream's.
            total += np.einsum('kmtchw,chw->kmt', np.square(part), share_CHW)
        return total


def _pooled(values: FloatArray, side: int) -> FloatArray:
    """Mean over blocks of side x side of the last two axes."""
    if side == 1:
        return values
    rows, columns = values.shape[-2:]
    blocks = values.reshape(*values.shape[:-2], rows // side, side, columns // side, side)
    return blocks.mean((-3, -1), dtype=np.float32)


@dataclass(frozen=True)
class Smoothness:
    """Mean squared second difference of the normalised actions.

    The command in force at the start counts as held before it, so a jump at the first action costs
    as well. Without one (an imagined state) the differences begin inside the candidate.
    """

    weight: float = 1.0
    name: str = 'smoothness'

    def check(self, package: ModelPackage) -> None:
        """See `Objective.check`: it fits every package."""

    def costs(self, outlook: Outlook) -> FloatArray:
        """See `Objective.costs`."""
        actions_KTA = outlook.actions_KTA
        if outlook.latched_A is not None:
            before = np.broadcast_to(
                outlook.latched_A, (len(actions_KTA), 2, actions_KTA.shape[2])
            )
            actions_KTA = np.concatenate([before, actions_KTA], 1)
        if actions_KTA.shape[1] < 3:
            return outlook.over_draws(np.zeros(len(actions_KTA), np.float32))
        return outlook.over_draws(np.square(np.diff(actions_KTA, n=2, axis=1)).mean((1, 2)))


@dataclass(frozen=True, eq=False)
class ActionLimits:
    """Mean squared excess of the normalised actions beyond limits tighter than the contract's.

    Attributes:
        low_A: float32 in [-1, 1].
        high_A: float32 in [-1, 1].
    """

    low_A: FloatArray
    high_A: FloatArray
    weight: float = 1.0
    name: str = 'action_limits'

    def __post_init__(self) -> None:
        if self.low_A.shape != self.high_A.shape or self.low_A.ndim != 1:
            raise QueryError(
                QueryCode.INVALID_OBJECTIVE,
                f'{self.name}: {self.low_A.size} low and {self.high_A.size} high limits: expected '
                'one of each for every action entry',
            )
        # Written so that NaN is refused too.
        if not (self.low_A <= self.high_A).all():
            entry = int(np.argmax(~(self.low_A <= self.high_A)))
            raise QueryError(
                QueryCode.INVALID_OBJECTIVE,
                f'{self.name}: entry {entry} is limited to {self.low_A[entry]:g} '
                f'to {self.high_A[entry]:g}',
            )

    def check(self, package: ModelPackage) -> None:
        """See `Objective.check`."""
        if self.low_A.size != package.model.action_width:
            raise QueryError(
                QueryCode.INVALID_OBJECTIVE,
                f'{self.name}: limits for {self.low_A.size} action entries, the model has '
                f'{package.model.action_width}',
            )

    def costs(self, outlook: Outlook) -> FloatArray:
        """See `Objective.costs`."""
        actions_KTA = outlook.actions_KTA
        excess_KTA = np.maximum(self.low_A - actions_KTA, actions_KTA - self.high_A)
        return outlook.over_draws(np.square(np.maximum(excess_KTA, 0)).mean((1, 2)))


@dataclass(frozen=True)
class Reward:
    """Minus the mean over the frames of the package's learned reward."""

    weight: float = 1.0
    name: str = 'reward'

    def check(self, package: ModelPackage) -> None:
        """See `Objective.check`."""
        if 'reward' not in package.manifest.graphs:
            raise QueryError(
                QueryCode.NO_REWARD_HEAD, f'package {package.name} has no reward head'
            )

    def costs(self, outlook: Outlook) -> FloatArray:
        """See `Objective.costs`."""
        if outlook.rewards_KMT is None:
            raise QueryError(QueryCode.NO_REWARD_HEAD, 'the outlook holds no rewards')
        return -outlook.rewards_KMT.mean(2)


def check_over(over: str) -> None:
    """Refuse a word that `GoalImage.over` does not know."""
    if over not in OVERS:
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE, f'over {over!r}: expected one of {", ".join(OVERS)}'
        )
