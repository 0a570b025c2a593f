"""Solvers: ask for parameter vectors, be told what they cost, get better. They know no robot.

    for _ in range(rounds):
        params_KP = solver.ask(rng)
        solver.tell(costs_of(params_KP))
    params_P = solver.best().params_P

Parameters lie in [-1, 1]. The first vector of every `ask` is the one that the solver believes in
(the mean), so a warm start is never lost. Only the order and relative size of costs matter.

CEM: de Boer et al. 2005, with momentum and elites kept as in iCEM (Pinneri et al. 2020,
2008.06389). MPPI: Williams et al. 2017 (1707.02342), its temperature in standard deviations of the
costs, since the costs of a latent distance have no natural unit.

Axes: K candidates, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wm_ros.datatypes import FloatArray


@dataclass(frozen=True, eq=False)
class Best:
    """The cheapest vector that a solver was told of.

    Attributes:
        params_P: float32 in [-1, 1].
        cost: what was told for it.
    """

    params_P: FloatArray
    cost: float


class Solver(Protocol):
    """One search. `ask` and `tell` by turns."""

    def ask(self, rng: np.random.Generator) -> FloatArray:
        """Return float32 [K, P] in [-1, 1] to be priced."""
        ...

    def tell(self, costs_K: FloatArray) -> None:
        """Take the costs of the last `ask`.

        Raises:
            ValueError: not as many costs as vectors, or not finite.
        """
        ...

    def best(self) -> Best:
        """Return the cheapest vector since the last `restart`.

        Raises:
            ValueError: nothing was told yet.
        """
        ...

    def restart(self, mean_P: FloatArray | None = None) -> None:
        """Begin a new search around `mean_P` (the last one's, shifted), or around 0."""
        ...


class _Asked:
    """What all solvers share: the last question and the cheapest answer."""

    def __init__(self, dims: int, candidates: int) -> None:
        if dims < 1 or candidates < 1:
            raise ValueError(f'{dims} dims, {candidates} candidates: expected 1 or more of each')
        self.dims, self.candidates = dims, candidates
        self.mean_P = np.zeros(dims, np.float32)
        self._asked_KP = np.empty((0, dims), np.float32)
        self._best: Best | None = None

    def restart(self, mean_P: FloatArray | None = None) -> None:
        """See `Solver.restart`."""
        if mean_P is None:
            mean_P = np.zeros(self.dims, np.float32)
        if mean_P.shape != (self.dims,):
            raise ValueError(f'mean of shape {mean_P.shape}: expected ({self.dims},)')
        self.mean_P = np.clip(mean_P, -1, 1).astype(np.float32)
        self._best = None

    def best(self) -> Best:
        """See `Solver.best`."""
        if self._best is None:
            raise ValueError('no costs were told since the start')
        return self._best

    def _ask(self, sampled_KP: FloatArray) -> FloatArray:
        self._asked_KP = np.clip(sampled_KP, -1, 1).astype(np.float32)
        return self._asked_KP.copy()

    def _told(self, costs_K: FloatArray) -> FloatArray:
        """Check costs and remember the cheapest vector; return them as float64."""
        costs_K = np.asarray(costs_K, np.float64)
        if costs_K.shape != (len(self._asked_KP),) or not np.isfinite(costs_K).all():
            raise ValueError(
                f'costs of shape {costs_K.shape}: expected {len(self._asked_KP)} finite numbers'
            )
        first = int(np.argmin(costs_K))
        if self._best is None or costs_K[first] < self._best.cost:
            self._best = Best(self._asked_KP[first].copy(), float(costs_K[first]))
        return costs_K


class RandomShooting(_Asked):
    """Uniform vectors; the baseline.

    Args:
        dims: P.
        candidates: K.
    """

    def ask(self, rng: np.random.Generator) -> FloatArray:
        """See `Solver.ask`."""
        sampled_KP = rng.uniform(-1, 1, (self.candidates, self.dims)).astype(np.float32)
        sampled_KP[0] = self.mean_P
        return self._ask(sampled_KP)

    def tell(self, costs_K: FloatArray) -> None:
        """See `Solver.tell`."""
        self._told(costs_K)
        self.mean_P = self.best().params_P


class Cem(_Asked):
    """Cross-entropy method: fit a normal distribution to the cheapest vectors, again and again.

    Args:
        dims: P.
        candidates: K.
        elite: how many of them are fitted to.
        std: of the first question.
        momentum: share of the last mean and deviation that stays.
        std_floor: below which the deviation does not fall.
        kept: elites that are asked about again.
    """

    def __init__(
        self,
        dims: int,
        candidates: int = 64,
        elite: int = 8,
        *,
        std: float = 0.6,
        momentum: float = 0.1,
        std_floor: float = 0.02,
        kept: int = 2,
    ) -> None:
        super().__init__(dims, candidates)
        if not 2 <= elite <= candidates or not 0 <= kept <= elite:
            raise ValueError(f'{elite} elites, {kept} kept, of {candidates} candidates')
        self.elite, self.kept = elite, kept
        self.std, self.momentum, self.std_floor = std, momentum, std_floor
        self._std_P = np.full(dims, std, np.float32)
        self._kept_EP = np.empty((0, dims), np.float32)

    def restart(self, mean_P: FloatArray | None = None) -> None:
        """See `Solver.restart`."""
        super().restart(mean_P)
        self._std_P = np.full(self.dims, self.std, np.float32)
        self._kept_EP = np.empty((0, self.dims), np.float32)

    def ask(self, rng: np.random.Generator) -> FloatArray:
        """See `Solver.ask`."""
        normal_KP = rng.standard_normal((self.candidates, self.dims), np.float32)
        sampled_KP = self.mean_P + self._std_P * normal_KP
        sampled_KP[0] = self.mean_P
        kept = min(len(self._kept_EP), self.candidates - 1)
        sampled_KP[1 : 1 + kept] = self._kept_EP[:kept]
        return self._ask(sampled_KP)

    def tell(self, costs_K: FloatArray) -> None:
        """See `Solver.tell`."""
        order = np.argsort(self._told(costs_K), kind='stable')[: self.elite]
        elites_EP = self._asked_KP[order]
        keep = np.float32(self.momentum)
        self.mean_P = keep * self.mean_P + (1 - keep) * elites_EP.mean(0)
        std_P = keep * self._std_P + (1 - keep) * elites_EP.std(0)
        self._std_P = np.maximum(std_P, np.float32(self.std_floor))
        self._kept_EP = elites_EP[: self.kept]


class Mppi(_Asked):
    """Model predictive path integral: move the mean to the average weighted by exp(-cost).

    Args:
        dims: P.
        candidates: K.
        temperature: in standard deviations of the costs; small follows the cheapest vector.
        std: of the samples about the mean.
        decay: factor on `std` after every round.
    """

    def __init__(
        self,
        dims: int,
        candidates: int = 64,
        *,
        temperature: float = 0.15,
        std: float = 0.5,
        decay: float = 0.7,
    ) -> None:
        super().__init__(dims, candidates)
        if not (temperature > 0 and std > 0 and 0 < decay <= 1):
            raise ValueError(f'temperature {temperature}, std {std}, decay {decay}')
        self.temperature, self.std, self.decay = temperature, std, decay
        self._now_std = std

    def restart(self, mean_P: FloatArray | None = None) -> None:
        """See `Solver.restart`."""
        super().restart(mean_P)
        self._now_std = self.std

    def ask(self, rng: np.random.Generator) -> FloatArray:
        """See `Solver.ask`."""
        normal_KP = rng.standard_normal((self.candidates, self.dims), np.float32)
        sampled_KP = self.mean_P + np.float32(self._now_std) * normal_KP
        sampled_KP[0] = self.mean_P
        return self._ask(sampled_KP)

    def tell(self, costs_K: FloatArray) -> None:
        """See `Solver.tell`."""
        costs_K = self._told(costs_K)
        scale = self.temperature * max(float(costs_K.std()), 1e-12)
        weights_K = np.exp(-(costs_K - costs_K.min()) / scale)
        weights_K /= weights_K.sum()
        self.mean_P = (weights_K[:, None] * self._asked_KP).sum(0).astype(np.float32)
        self._now_std *= self.decay
