"""Stepper: one memory that goes through a stream step by step, and what it predicts on the way.

The live session and replay are this one class: begin afresh, bridge a missing frame, observe,
predict with the command held. Observing and predicting are two calls because the live session
lets queries start at the new memory, and replay takes the time, in between. Noise is drawn frame
by frame in one order, so both give the same pictures. Who waits for what, and why a memory starts
afresh, is the caller's; no ROS, no clock, no bags.

Axes: B batch (1 here), T time, A action.
"""

from __future__ import annotations

import numpy as np

from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, Frame, MemoryState, Prediction, Step
from wm_ros.world_model import WorldModel


class Stepper:
    """Takes steps in, keeps the memory and the noise generator.

    Args:
        model: the loaded world model.
        contract: the robot's streams; its period stamps what is predicted.
        horizon: frames to predict ahead; beyond one the last command is held.
        seed: of the sampling noise; the generator starts again with every `begin`.

    Attributes:
        memory: S_t, after the newest step.
        rng: generator of the sampling noise.
    """

    def __init__(
        self, model: WorldModel, contract: StreamContract, *, horizon: int, seed: int
    ) -> None:
        self.model = model
        self.memory = model.reset()
        self.rng = np.random.default_rng(seed)
        self._period_ns = contract.period_ns
        self._horizon = horizon
        self._seed = seed

    def begin(self, memory: MemoryState | None = None) -> None:
        """Start afresh, from an empty memory or a given one, with the noise generator begun anew.

        To be called before a step that carries a reset: whether a loaded memory is to survive is
        known to the caller only.
        """
        self.memory = memory or self.model.reset()
        self.rng = np.random.default_rng(self._seed)

    def observe(self, step: Step) -> None:
        """Advance the memory by one step; a missing frame is bridged by its prediction.

        Raises:
            NonFiniteError: the latent or the new memory is not finite.
        """
        fill_noise = self._noise(1)[:, 0] if step.frame is None else None
        self.memory = self.model.observe(self.memory, step, fill_noise)

    def predict(self, step: Step, frame: Frame) -> tuple[Prediction, ...]:
        """Predict from the newest step, on a fork, with its command held.

        Args:
            step: the step that was observed last.
            frame: its frame.

        Returns:
            `horizon` predictions, nearest first.

        Raises:
            NonFiniteError: a prediction is not finite.
        """
        actions_BTA = np.broadcast_to(step.action_A, (1, self._horizon, step.action_A.size))
        rollout = self.model.imagine(
            self.memory,
            np.ascontiguousarray(actions_BTA),
            self._noise(self._horizon),
            write_last=False,
        )
        frames_BTHWC = rollout.frames_BTHWC
        if frames_BTHWC is None:
            raise RuntimeError('the rollout has no frames')
        # From a list: CPython 3.11 keeps up to 2,000 tuples of each size for reuse and never takes
        # one for tuple(generator), so a generator per frame is memory that grows for 80 s.
        return tuple(
            [
                Prediction(
                    frames_BTHWC[0, t],
                    step.stamp_ns,
                    step.stamp_ns + (t + 1) * self._period_ns,
                    t + 1,
                    frame.frame_id,
                )
                for t in range(self._horizon)
            ]
        )

    def _noise(self, horizon: int) -> FloatArray:
        return self.model.noise(self.rng, 1, horizon)
