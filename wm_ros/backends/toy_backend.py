"""An engine without an engine, for tests: plain numpy in place of the graphs, deterministic
and cheap.

It keeps the meaning of every input: the latent is the pooled image, the prediction is the last
latent moved by the action plus a little noise, the fast weights move towards an outer product of
what was seen (and only with gate 1), the reward is the mean of the latent. `wm_ros.toy_package`
writes a package directory for it.

Axes: B batch, C channels, H W cells or pixels, A action, D noise draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wm_ros.backends.base import Bound, GraphInputs, GraphOutputs, check_bound
from wm_ros.config import ModelConfig
from wm_ros.datatypes import FloatArray
from wm_ros.manifest import memory_input, memory_output
from wm_ros.model_package import ModelPackage

COLOURS = 3
ACTION_GAIN, NOISE_GAIN, WRITE_GAIN = 0.1, 0.02, 0.25


class ToyBackend:
    """See the module text."""

    def __init__(self, package: ModelPackage, reason: str = '') -> None:
        self.name = 'toy'
        self.precision = 'fp32'
        self.reason = reason
        self._model = package.model
        self._signatures = package.signatures

    def run(self, graph: str, inputs: GraphInputs) -> GraphOutputs:
        """See `Backend.run`."""
        return run_toy(self._model, graph, inputs)

    def bind(self, graph: str, batch: int, inputs: GraphInputs) -> Bound:
        """See `Backend.bind`."""
        check_bound(graph, self._signatures[graph], batch, inputs)
        arrays = dict(inputs)
        return lambda: run_toy(self._model, graph, arrays)


def run_toy(model: ModelConfig, graph: str, inputs: GraphInputs) -> GraphOutputs:
    """Compute one graph for a model of these shapes."""
    if graph == 'encode':
        return {'latent': _encode(model, inputs['image'])}
    if graph == 'decode':
        cells = inputs['latent'][:, :COLOURS]
        image = cells.repeat(model.downsample, axis=2).repeat(model.downsample, axis=3)
        if model.reference:  # half of what was seen, where something was
            frame = _pixels(model, inputs['latent'])
            seen = np.abs(frame).max((1, 2, 3), keepdims=True) > 0
            image = np.where(seen, (image + frame) / 2, image)
        return {'image': image}
    if graph == 'predict':
        last = inputs[memory_input('latents')][:, 0]
        move = inputs['action'].mean(1) - 0.5 * inputs[memory_input('action')].mean(1)
        noise = inputs['noise'].mean(1)
        code = last + ACTION_GAIN * move[:, None, None, None] + NOISE_GAIN * noise
        if not model.reference:
            return {'latent': code}
        return {'latent': np.concatenate([code, inputs[memory_input('reference')]], 1)}
    if graph == 'reward':
        return {'reward': inputs['latent'].mean((1, 2, 3))}
    return _write(model, inputs)


def _encode(model: ModelConfig, image_BCHW: FloatArray) -> FloatArray:
    batch, side, cell = image_BCHW.shape[0], model.latent_size, model.downsample
    latent = np.zeros((batch, *model.latent_shape), np.float32)
    pooled = image_BCHW.reshape(batch, COLOURS, side, cell, side, cell).mean((3, 5))
    latent[:, :COLOURS] = pooled[:, : model.latent_channels]
    if model.reference:
        channels = model.latent_channels
        latent[:, channels : 2 * channels] = latent[:, :channels]
        cells = image_BCHW.reshape(batch, COLOURS, side, cell, side, cell)
        latent[:, 2 * channels :] = cells.transpose(0, 1, 3, 5, 2, 4).reshape(
            batch, COLOURS * cell**2, side, side
        )
    return latent


def _pixels(model: ModelConfig, latent: FloatArray) -> FloatArray:
    """The last seen frame in a latent's reference, [B, 3, S, S]."""
    cell, side = model.downsample, model.latent_size
    cells = latent[:, 2 * model.latent_channels :].reshape(-1, COLOURS, cell, cell, side, side)
    return cells.transpose(0, 1, 4, 2, 5, 3).reshape(-1, COLOURS, side * cell, side * cell)


def _write(model: ModelConfig, inputs: GraphInputs) -> GraphOutputs:
    whole, gate = inputs['latent'], inputs['gate']
    latent = whole[:, : model.latent_channels]
    after: dict[str, Any] = {
        'latents': np.stack([latent, inputs[memory_input('latents')][:, 0]], 1),
        'action': inputs['action'].copy(),
    }
    if model.reference:
        after['reference'] = whole[:, model.latent_channels :]
    seen = latent.mean((2, 3))[:, np.arange(model.key_width) % model.latent_channels]
    if model.arm == 'ttt':
        before = inputs[memory_input('fast_weights')]
        target = np.broadcast_to(seen[:, None, None, :], before.shape)
        after['fast_weights'] = before + gate[:, None, None, None] * WRITE_GAIN * (target - before)
    if model.arm == 'window':
        for name in ('keys', 'values'):
            before = inputs[memory_input(name)]
            row = np.broadcast_to(latent.mean((1, 2, 3))[:, None, None, None], before[:, :1].shape)
            after[name] = np.concatenate([before[:, 1:], row], 1)
        after['filled'] = np.concatenate([inputs[memory_input('filled')][:, 1:], gate[:, None]], 1)
    return {
        memory_output(name): np.ascontiguousarray(array, np.float32)
        for name, array in after.items()
    }
