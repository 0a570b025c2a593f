"""What is measured: the few methods of a world model that the evaluation calls.

`wm_ros.world_model.WorldModel` has them as it is, and so has any small model of a test. (The
probe of training asks the same of PyTorch modules in batches: `training/probe.py`.)

Axes: B batch, T time, D noise draws, C channels, H W pixels or latent cells, A action.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray, MemoryState, Rollout

ENCODE_BATCH = 64


class Subject(Protocol):
    """A world model under test. Memories are values: no method edits the one it is given."""

    def encode(self, images_BHWC: ImageArray) -> FloatArray:
        """Return float32 latents [B, C, h, w] of uint8 RGB frames."""

    def decode(self, latents_BCHW: FloatArray) -> ImageArray:
        """Return uint8 RGB frames of latents."""

    def reset(self, batch: int = 1) -> MemoryState:
        """Return empty memories."""

    def observe_latent(
        self, memory: MemoryState, latent_BCHW: FloatArray, action_prev_BA: FloatArray
    ) -> MemoryState:
        """Write one observed frame each, with the action that led to it (a_{t-1}) in [-1, 1]."""

    def noise(self, rng: np.random.Generator, batch: int = 1, horizon: int = 1) -> FloatArray:
        """Return standard normal noise [B, T, D, C, h, w] for `imagine`."""

    def imagine(
        self,
        memory: MemoryState,
        actions_BTA: FloatArray,
        noise_BTDCHW: FloatArray,
        *,
        decode: bool = True,
    ) -> Rollout:
        """Predict T frames under a_t, a_{t+1}, ..., writing each prediction on a fork."""


def encode_all(subject: Subject, images_THWC: ImageArray) -> FloatArray:
    """Return the latents of many frames, encoded in batches."""
    return np.concatenate(
        [
            subject.encode(images_THWC[start : start + ENCODE_BATCH])
            for start in range(0, len(images_THWC), ENCODE_BATCH)
        ]
    )


def observe_all(
    subject: Subject, memory: MemoryState, latents_BTCHW: FloatArray, actions_prev_BTA: FloatArray
) -> MemoryState:
    """Observe T frames one after the other, B memories side by side."""
    for t in range(latents_BTCHW.shape[1]):
        latent_BCHW = np.ascontiguousarray(latents_BTCHW[:, t])
        action_BA = np.ascontiguousarray(actions_prev_BTA[:, t])
        memory = subject.observe_latent(memory, latent_BCHW, action_BA)
    return memory
