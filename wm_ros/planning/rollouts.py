"""K times M forks side by side: one unit of work predicts and writes one sub-batch of one step.

Order is breadth first (all rows of step 0, then of step 1, ...), so that whenever it is stopped
all candidates have come equally far. Sub-batches have one size, the manifest's, idle or loaded,
and the place of a row in them depends on K and M only: the same question gets bit-equal latents
whatever else the machine does. The noise of a draw is common to all candidates.

Everything is allocated once. The memory that a query starts from is read and never written.

Axes: K candidates, M noise draws, R rows (k * M + m), Q rows of a sub-batch, T time, A action,
D noise draws of one prediction, C channels, H W latent cells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wm_ros import memory as memories
from wm_ros.backends.base import Bound
from wm_ros.datatypes import FloatArray
from wm_ros.manifest import memory_input, memory_output
from wm_ros.planning.query import Start
from wm_ros.world_model import WorldModel

RowArray = npt.NDArray[np.int64]


class Rollouts:
    """Buffers and the walk over them. Belongs to one thread; holds one query at a time.

    Args:
        model: the loaded world model.
        batch: Q, from the manifest.
        rows: K * M at most.
        latents: K * M * T at most.
    """

    def __init__(self, model: WorldModel, batch: int, rows: int, latents: int) -> None:
        package = model.package
        self._specs = package.memory_specs
        self._batch = batch
        self._rows, self._held = rows, latents
        width, shape = package.model.action_width, package.model.latent_shape
        coded, draws = package.model.coded_shape, package.sampler.noise_draws
        self._action_QA = np.zeros((batch, width), np.float32)
        self._noise_QDCHW = np.zeros((batch, draws, *coded), np.float32)
        self._latent_QCHW = np.zeros((batch, *shape), np.float32)
        self._memory = {s.name: np.zeros((batch, *s.shape), np.float32) for s in self._specs}
        before = {memory_input(name): array for name, array in self._memory.items()}
        bind = model.backend.bind
        self._predict: Bound = bind(
            'predict', batch, {'action': self._action_QA, 'noise': self._noise_QDCHW, **before}
        )
        self._write: Bound = bind(
            'write',
            batch,
            {
                'latent': self._latent_QCHW,
                'action': self._action_QA,
                'gate': np.ones(batch, np.float32),
                **before,
            },
        )
        self._reward: Bound | None = None
        if 'reward' in package.manifest.graphs:
            self._reward = bind('reward', batch, {'latent': self._latent_QCHW})
        # Pages of these are taken from the system when a query first needs them.
        self._forks = {s.name: np.empty((rows, *s.shape), np.float32) for s in self._specs}
        self._shared = {s.name: np.empty((rows, *s.shape), np.float32) for s in self._specs}
        self._latents = np.empty((latents, *coded), np.float32)
        self._rewards = np.empty(latents, np.float32)
        self._noise_draw = np.empty((rows, draws, *coded), np.float32)
        self._clear()

    def _clear(self) -> None:
        self._start: Start | None = None
        self._actions_KTA = np.empty((0, 0, self._action_QA.shape[1]), np.float32)
        self._draws = 1
        self._step = 0  # -1: the transition under the latched command
        self._row = 0
        self._with_rewards = False

    def begin(
        self,
        start: Start,
        actions_KTA: FloatArray,
        draws: int,
        seed: int,
        *,
        rewards: bool = False,
    ) -> None:
        """Take up a query; what was there before is gone.

        Args:
            start: memory of batch 1, and the command in force.
            actions_KTA: float32 in [-1, 1].
            draws: M.
            seed: of the noise.
            rewards: whether to ask the reward head about every latent.

        Raises:
            ValueError: more rows or latents than were allocated, shapes that do not fit, or
                rewards of a package without a reward head.
        """
        k, t, a = actions_KTA.shape
        if k * draws > self._rows or k * draws * t > self._held:
            raise ValueError(
                f'{k} candidates x {draws} draws x {t} steps: allocated for {self._rows} rows '
                f'and {self._held} latents'
            )
        if a != self._action_QA.shape[1] or start.memory.batch != 1 or min(k, t, draws) < 1:
            raise ValueError(
                f'actions {list(actions_KTA.shape)} on a memory of batch {start.memory.batch}, '
                f'{draws} draws: expected [K, T, {self._action_QA.shape[1]}], batch 1'
            )
        if rewards and self._reward is None:
            raise ValueError('this package has no reward head')
        self._clear()
        self._start = start
        self._actions_KTA = actions_KTA
        self._draws = draws
        self._with_rewards = rewards
        self._rng = np.random.default_rng(seed)
        self._step = 0 if start.latched_A is None else -1

    def end(self) -> None:
        """Let go of the query's memory and actions."""
        self._clear()

    @property
    def steps_done(self) -> int:
        """Steps that are complete for every row."""
        return max(self._step, 0)

    @property
    def at_step_end(self) -> bool:
        """Whether the last unit completed a step that depends on the candidates."""
        return self._row == 0 and self._step > 0

    @property
    def units_left(self) -> int:
        """Calls of `unit` until all is done."""
        steps = self._actions_KTA.shape[1]
        if self._step >= steps:
            return 0
        whole = self._units(self._rows_of(0))
        left = self._units(self._rows_of(self._step) - self._row)
        return left + whole * (steps - self._step - 1)

    @property
    def latents_KMTCHW(self) -> FloatArray:
        """The latents of the complete steps, coded; a view, valid until the next `begin`. What
        costs and spread are of: a reference says nothing of a future.
        """
        return self._by_step(self._latents)[:, :, : self.steps_done]

    @property
    def rewards_KMT(self) -> FloatArray | None:
        """The rewards of the complete steps, as `latents_KMTCHW`; None where not asked for."""
        if not self._with_rewards:
            return None
        return self._by_step(self._rewards)[:, :, : self.steps_done]

    def unit(self) -> bool:
        """Predict and write one sub-batch of one step.

        Returns:
            False when all was done before.

        Raises:
            NonFiniteError: a prediction or a fork is not finite.
        """
        steps = self._actions_KTA.shape[1]
        if self._step >= steps:
            return False
        if self._row == 0:
            noise = self._noise_draw[: self._draws]
            self._rng.standard_normal(dtype=np.float32, out=noise)
        rows = self._rows_of(self._step)
        # The last sub-batch is filled up with its last row.
        rows_Q = np.minimum(np.arange(self._row, self._row + self._batch), rows - 1)
        real = min(self._batch, rows - self._row)
        self._fill(rows_Q)
        latent_QCHW = memories.require_finite(self._predict()['latent'], 'imagined latent')
        self._latent_QCHW[:] = latent_QCHW
        if self._step >= 0:
            self._keep(rows_Q[:real], latent_QCHW[:real])
        if self._step < steps - 1:  # nobody goes on from the last one
            self._write_back(rows_Q[:real])
        self._row += real
        if self._row == rows:
            self._row = 0
            self._step += 1
        return True

    def _fill(self, rows_Q: RowArray) -> None:
        assert self._start is not None
        self._noise_QDCHW[:] = self._noise_draw[rows_Q % self._draws]
        first = self._start.memory.arrays
        for name, array in self._memory.items():
            if self._step > 0:
                np.take(self._forks[name], rows_Q, 0, out=array)
            elif self._step == 0 and self._start.latched_A is not None:
                np.take(self._shared[name], rows_Q % self._draws, 0, out=array)
            else:
                array[:] = first[name]
        if self._step < 0:
            self._action_QA[:] = self._start.latched_A
        else:
            self._action_QA[:] = self._actions_KTA[rows_Q // self._draws, self._step]

    def _keep(self, rows_R: RowArray, latents: FloatArray) -> None:
        k, m = rows_R // self._draws, rows_R % self._draws
        self._by_step(self._latents)[k, m, self._step] = latents[:, : self._latents.shape[1]]
        if self._with_rewards and self._reward is not None:
            rewards = memories.require_finite(self._reward()['reward'], 'imagined reward')
            self._by_step(self._rewards)[k, m, self._step] = rewards[: len(rows_R)]

    def _write_back(self, rows_R: RowArray) -> None:
        written = self._write()
        target = self._shared if self._step < 0 else self._forks
        for spec in self._specs:
            array = memories.require_finite(
                written[memory_output(spec.name)], f'memory tensor {spec.name}'
            )
            target[spec.name][rows_R[0] : rows_R[0] + len(rows_R)] = array[: len(rows_R)]

    def _by_step(self, held: FloatArray) -> FloatArray:
        """The flat buffer as [K, M, T, ...], T the query's own."""
        k, t = self._actions_KTA.shape[:2]
        return held[: k * self._draws * t].reshape(k, self._draws, t, *held.shape[1:])

    def _rows_of(self, step: int) -> int:
        return self._draws if step < 0 else len(self._actions_KTA) * self._draws

    def _units(self, rows: int) -> int:
        return -(-rows // self._batch)
