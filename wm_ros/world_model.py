"""The main path: a step goes in, a memory comes out; actions go in, predicted frames come out.

Live node, replay, evaluation and planner all call this class. It holds no session state: memories
are values that the caller keeps, and the noise is the caller's too. Knows no ROS, no engine by
name, no clock.

Axes: B batch, T time, A action, D noise draws of one prediction, C channels, H W cells or pixels.
"""

from __future__ import annotations

import numpy as np

from wm_ros import memory as memories
from wm_ros.backends.base import Backend
from wm_ros.datatypes import FloatArray, ImageArray, MemoryState, Rollout, Step
from wm_ros.manifest import memory_input, memory_output
from wm_ros.memory import NonFiniteError
from wm_ros.model_package import ModelPackage
from wm_ros.preprocess import to_image, to_model

__all__ = ['NonFiniteError', 'WorldModel']


class WorldModel:
    """One package on one engine."""

    def __init__(self, package: ModelPackage, backend: Backend) -> None:
        self.package = package
        self.backend = backend
        self._specs = package.memory_specs
        self._latent_shape = package.model.latent_shape
        self._noise_shape = (package.sampler.noise_draws, *package.model.coded_shape)
        self._action_width = package.model.action_width

    def reset(self, batch: int = 1, stamp_ns: int = 0) -> MemoryState:
        """Return an empty memory."""
        return memories.initial(self._specs, batch, stamp_ns)

    def observe(
        self, memory: MemoryState, step: Step, fill_noise_BDCHW: FloatArray | None = None
    ) -> MemoryState:
        """Take one step of the stream in: encode the frame and write it, or bridge a missing one.

        A missing frame is replaced by the prediction and not written to the long memory.
        `step.reset` is the caller's to act on, by passing `reset()`: only the caller knows whether
        a loaded memory is to survive.

        Args:
            memory: S_{t-1}, batch 1.
            step: frame I_t and the action that led to it, a_{t-1}.
            fill_noise_BDCHW: standard normal [1, D, C, h, w], needed when the frame is missing.

        Returns:
            S_t, a new value.

        Raises:
            NonFiniteError: the latent or the new memory is not finite.
            ValueError: wrong shapes, or a missing frame without noise.
        """
        action_prev_BA = step.action_prev_A[None]
        if step.frame is not None:
            latent = self.encode(step.frame.image_HWC[None])
            return self.observe_latent(memory, latent, action_prev_BA, stamp_ns=step.stamp_ns)
        if fill_noise_BDCHW is None:
            raise ValueError(
                f'step {step.index} has no frame: fill_noise_BDCHW is needed to bridge it'
            )
        latent = self._predict(memory, action_prev_BA, fill_noise_BDCHW)
        return self.observe_latent(
            memory, latent, action_prev_BA, seen=False, stamp_ns=step.stamp_ns
        )

    def observe_latent(
        self,
        memory: MemoryState,
        latent_BCHW: FloatArray,
        action_prev_BA: FloatArray,
        *,
        seen: bool = True,
        stamp_ns: int = 0,
    ) -> MemoryState:
        """Write already encoded frames, one for each state of the memory.

        Args:
            memory: S_{t-1}.
            latent_BCHW: float32 latents of I_t.
            action_prev_BA: a_{t-1}.
            seen: False for a bridged frame: the short window moves on, the long memory stays, it
                is not counted.
            stamp_ns: stamp of I_t.

        Returns:
            S_t, a new value.
        """
        self._check('latent', latent_BCHW, (memory.batch, *self._latent_shape))
        self._check('action', action_prev_BA, (memory.batch, self._action_width))
        inputs = {
            'latent': latent_BCHW,
            'action': action_prev_BA,
            'gate': np.full(memory.batch, seen, np.float32),
        }
        outputs = self.backend.run('write', inputs | self._graph_memory(memory))
        arrays = memories.freeze(
            {spec.name: outputs[memory_output(spec.name)] for spec in self._specs}
        )
        return memories.check_finite(MemoryState(arrays, memory.frames + seen, stamp_ns))

    def imagine(
        self,
        memory: MemoryState,
        actions_BTA: FloatArray,
        noise_BTDCHW: FloatArray,
        *,
        decode: bool = True,
        write_last: bool = True,
    ) -> Rollout:
        """Predict the frames that follow under given actions, on a fork: `memory` itself is not
        touched.

        Args:
            memory: S_t; one state is forked to B, B states are taken one to one.
            actions_BTA: a_t, a_{t+1}, ...: action i is in force from frame t + i to t + i + 1, in
                [-1, 1].
            noise_BTDCHW: standard normal, from `noise`.
            decode: whether to return frames beside latents.
            write_last: False saves one write where nobody goes on from the fork: the rollout's
                memory is then the fork before the last predicted frame.

        Returns:
            T predicted latents (and frames) and the fork after the last of them was written.

        Raises:
            NonFiniteError: a prediction or the fork is not finite.
            ValueError: shapes that do not fit.
        """
        batch, horizon = actions_BTA.shape[:2]
        self._check('actions', actions_BTA, (batch, horizon, self._action_width))
        self._check('noise', noise_BTDCHW, (batch, horizon, *self._noise_shape))
        if memory.batch not in (1, batch):
            raise ValueError(
                f'a memory of batch {memory.batch} does not fit {batch} action sequences'
            )
        fork = memory if memory.batch == batch else memories.fork(memory, batch)
        latents_BTCHW = np.empty((batch, horizon, *self._latent_shape), np.float32)
        for t in range(horizon):
            action_BA = np.ascontiguousarray(actions_BTA[:, t])
            latent = self._predict(fork, action_BA, np.ascontiguousarray(noise_BTDCHW[:, t]))
            latents_BTCHW[:, t] = latent
            if t == horizon - 1 and not write_last:
                break
            # An imagined frame is written to the fork, but it is no observation: the count stays.
            written = self.observe_latent(fork, latent, action_BA, stamp_ns=memory.stamp_ns)
            fork = MemoryState(written.arrays, memory.frames, memory.stamp_ns)
        if not decode:
            return Rollout(latents_BTCHW, fork)
        frames = self.decode(latents_BTCHW.reshape(batch * horizon, *self._latent_shape))
        return Rollout(latents_BTCHW, fork, frames.reshape(batch, horizon, *frames.shape[1:]))

    def encode(self, images_BHWC: ImageArray) -> FloatArray:
        """Return latents, float32 [B, C, h, w], of uint8 RGB frames of the model's size."""
        size = self.package.model.image_size
        if images_BHWC.dtype != np.uint8 or images_BHWC.shape[1:] != (size, size, 3):
            raise ValueError(
                f'images: found {images_BHWC.dtype} {images_BHWC.shape}, '
                f'expected uint8 [batch, {size}, {size}, 3]'
            )
        return memories.require_finite(
            self.backend.run('encode', {'image': to_model(images_BHWC)})['latent'], 'latent'
        )

    def decode(self, latents_BCHW: FloatArray) -> ImageArray:
        """Return uint8 RGB frames [B, S, S, 3] of latents."""
        self._check('latents', latents_BCHW, (latents_BCHW.shape[0], *self._latent_shape))
        image = self.backend.run('decode', {'latent': np.ascontiguousarray(latents_BCHW)})['image']
        return to_image(memories.require_finite(image, 'decoded image'))

    def redraw(self, latents_BCHW: FloatArray) -> ImageArray:
        """Return what the tokenizer makes of frames' codes alone, as `decode`: where the latents
        of seen frames carry those frames themselves, they are left out.
        """
        if not self.package.model.reference:
            return self.decode(latents_BCHW)
        code_BCHW = latents_BCHW.copy()
        code_BCHW[:, self.package.model.latent_channels :] = 0
        return self.decode(code_BCHW)

    def noise(self, rng: np.random.Generator, batch: int = 1, horizon: int = 1) -> FloatArray:
        """Draw what `imagine` needs: standard normal float32 [B, T, D, C, h, w]."""
        return rng.standard_normal((batch, horizon, *self._noise_shape), np.float32)

    def _predict(
        self, memory: MemoryState, action_BA: FloatArray, noise_BDCHW: FloatArray
    ) -> FloatArray:
        self._check('noise', noise_BDCHW, (memory.batch, *self._noise_shape))
        inputs = {'action': action_BA, 'noise': noise_BDCHW} | self._graph_memory(memory)
        return memories.require_finite(
            self.backend.run('predict', inputs)['latent'], 'predicted latent'
        )

    def _graph_memory(self, memory: MemoryState) -> dict[str, FloatArray]:
        return {memory_input(spec.name): memory.arrays[spec.name] for spec in self._specs}

    @staticmethod
    def _check(what: str, array: FloatArray, shape: tuple[int, ...]) -> None:
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(
                f'{what}: found {array.dtype} {array.shape}, expected float32 {shape}'
            )
