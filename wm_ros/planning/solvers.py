"""Solvers: ask for parameter vectors, be told what they cost, get better. They know no robot.

    for _ in range(rounds):
        params_KP = solver.ask(rng)
        solver.tell(costs_of(params_KP))
    params_P = solver.best().params_P

Parameters lie in [-1, 1]. The first vector of every `ask` is the one that the solver believes in
(the mean), so a warm start is never lost. Only the order and relative size of costs matter.

CEM: de Boer et al. 2005, elites kept as in iCEM (Pinneri et al. 2020, 2008.06389). MPPI: Williams
et al. 2017 (1707.02342), its temperature in standard deviations of the costs, since the costs of a
latent distance have no natural unit.

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
    """Cross-entropy method with a kernel density: every elite stays the centre of a normal.

    Where textbook CEM fits one normal to the elites, and so to what lies between two good answers,
    here several hypotheses survive until one of them wins: with the true future 6 of 8 goals of
    the table-top were reached in 3 rounds, with one normal 4 (docs/log.md). The first question is
    uniform; elites are asked about again, so a lucky draw of noise does not stay.

    Args:
        dims: P.
        candidates: K.
        elite: how many of the cheapest vectors are the next centres; 0 takes an eighth of
            `candidates`, 2 at least.
        first: K of the first question, which has to hit upon something; 0 takes `candidates`.
        std: of the normals in the second question; then std / 2, std / 3 and so on.
        std_floor: below which it does not fall.
    """

    def __init__(
        self,
        dims: int,
        candidates: int = 64,
        elite: int = 0,
        *,
        first: int = 0,
        std: float = 0.25,
        std_floor: float = 0.02,
    ) -> None:
        super().__init__(dims, candidates)
        self.first, elite = first or candidates, elite or max(2, candidates // 8)
        if not 2 <= elite <= candidates:
            raise ValueError(f'{elite} elites of {candidates} candidates: expected 2 to as many')
        if not std > 0:
            raise ValueError(f'std {std}: expected above 0')
        self.elite, self.std, self.std_floor = elite, std, std_floor
        self._rounds, self._warm = 0, False
        self._elites_EP = np.empty((0, dims), np.float32)

    def restart(self, mean_P: FloatArray | None = None) -> None:
        """See `Solver.restart`: with a mean a quarter of the first question is about it."""
        super().restart(mean_P)
        self._rounds, self._warm = 0, mean_P is not None
        self._elites_EP = self._elites_EP[:0]

    def ask(self, rng: np.random.Generator) -> FloatArray:
        """See `Solver.ask`."""
        count = len(self._elites_EP)
        if not count:
            sampled_KP = rng.uniform(-1, 1, (self.first, self.dims)).astype(np.float32)
            if self._warm:
                near = sampled_KP[: max(1, self.first // 4)]
                near[:] = self.mean_P
                near += np.float32(self.std / 2) * rng.standard_normal(near.shape, np.float32)
            sampled_KP[0] = self.mean_P
            return self._ask(sampled_KP)
        centres_KP = self._elites_EP[rng.integers(0, count, self.candidates)]
        std = np.float32(max(self.std / self._rounds, self.std_floor))
        sampled_KP = centres_KP + std * rng.standard_normal(centres_KP.shape, np.float32)
        sampled_KP[:count] = self._elites_EP
        return self._ask(sampled_KP)

    def tell(self, costs_K: FloatArray) -> None:
        """See `Solver.tell`."""
        order = np.argsort(self._told(costs_K), kind='stable')[: self.elite]
        self._elites_EP = self._asked_KP[order]
        self.mean_P = self._elites_EP[0]
        self._rounds += 1


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
