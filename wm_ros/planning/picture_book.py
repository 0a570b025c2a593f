"""Decoding in sub-batches of a fixed size, in buffers that are allocated once.

Axes: Q frames of a sub-batch, N frames asked for (1 to Q), C channels, H W cells or pixels.
"""

from __future__ import annotations

import numpy as np

from wm_ros import memory as memories
from wm_ros.datatypes import FloatArray, ImageArray, MemoryState
from wm_ros.preprocess import to_image
from wm_ros.world_model import WorldModel


class PictureBook:
    """The decoder, bound to one batch size.

    Args:
        model: the loaded world model.
        batch: Q.
    """

    def __init__(self, model: WorldModel, batch: int) -> None:
        self.batch = batch
        self._channels = model.package.model.latent_channels
        self._latent_QCHW = np.zeros((batch, *model.package.model.latent_shape), np.float32)
        self._run = model.backend.bind('decode', batch, {'latent': self._latent_QCHW})

    def decode(self, latents_NCHW: FloatArray, memory: MemoryState) -> ImageArray:
        """Return uint8 RGB [N, S, S, 3], in an array of its own.

        Args:
            latents_NCHW: coded.
            memory: of batch 1, which they were imagined from: it has the reference, if any.

        Raises:
            NonFiniteError: the decoder gives numbers that are not finite.
        """
        count = len(latents_NCHW)
        code_QCHW = self._latent_QCHW[:, : self._channels]
        code_QCHW[:count], code_QCHW[count:] = latents_NCHW, latents_NCHW[-1]
        if 'reference' in memory.arrays:
            self._latent_QCHW[:, self._channels :] = memory.arrays['reference']
        return to_image(memories.require_finite(self._run()['image'][:count], 'decoded image'))
