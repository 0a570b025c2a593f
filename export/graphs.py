"""The four graphs of a package as PyTorch modules with plain tensors in and out, in the manifest's
order.

`runner` calls them by name on numpy arrays, the way a backend does: the PyTorch side of every
parity test.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.compositor import Compositor, split, with_reference
from models.world_model import LatentWorldModel
from wm_ros.datatypes import FloatArray
from wm_ros.manifest import Sampler, graph_signatures
from wm_ros.parity import RunGraph


class Encode(nn.Module):
    """`image` -> `latent`."""

    def __init__(self, autoencoder: Autoencoder, reference: bool = False) -> None:
        super().__init__()
        self.autoencoder, self.reference = autoencoder, reference

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        """Return the latent."""
        (image_BCHW,) = inputs
        code_BCHW = self.autoencoder.encode(image_BCHW)
        return (with_reference(code_BCHW, image_BCHW) if self.reference else code_BCHW,)


class Decode(nn.Module):
    """`latent` -> `image`."""

    def __init__(self, autoencoder: Autoencoder, compositor: Compositor | None) -> None:
        super().__init__()
        self.autoencoder, self.compositor = autoencoder, compositor

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        """Return the image."""
        (latent_BCHW,) = inputs
        if self.compositor is None:
            return (self.autoencoder.decode(latent_BCHW),)
        code_BCHW, seen_BCHW, frame_B3SS = split(latent_BCHW, self.compositor.config)
        decoded_B3SS = self.autoencoder.decode(code_BCHW)
        return (self.compositor(code_BCHW, seen_BCHW, frame_B3SS, decoded_B3SS),)


class Write(nn.Module):
    """`latent`, `action`, `gate` and the memory -> the memory after one frame."""

    def __init__(self, world_model: LatentWorldModel) -> None:
        super().__init__()
        self.world_model = world_model
        self.names = [spec.name for spec in world_model.config.memory_specs()]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the memory's tensors in the manifest's order."""
        latent_BCHW, action_BA, gate_B, *memory = inputs
        before = dict(zip(self.names, memory, strict=True))
        after = self.world_model.write(latent_BCHW, action_BA, gate_B, before)
        return tuple(after[name] for name in self.names)


class Predict(nn.Module):
    """`action`, `noise` and the memory -> the next latent; the sampler's steps are constants of
    the graph.
    """

    def __init__(self, world_model: LatentWorldModel, sampler: Sampler) -> None:
        super().__init__()
        self.world_model = world_model
        self.sampler = sampler
        self.names = [spec.name for spec in world_model.config.memory_specs()]

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        """Return the predicted latent."""
        action_BA, noise_BDCHW, *memory = inputs
        held = dict(zip(self.names, memory, strict=True))
        steps, noise_mode = self.sampler.steps, self.sampler.noise
        code_BCHW = self.world_model.predict(action_BA, noise_BDCHW, held, steps, noise_mode)
        if 'reference' not in held:
            return (code_BCHW,)
        # A predicted frame is drawn from the last one that was seen.
        return (torch.cat([code_BCHW, held['reference']], 1),)


def graph_modules(
    world_model: LatentWorldModel, autoencoder: Autoencoder, sampler: Sampler
) -> dict[str, nn.Module]:
    """Return the modules by graph name."""
    return {
        'encode': Encode(autoencoder, world_model.config.reference),
        'write': Write(world_model),
        'predict': Predict(world_model, sampler),
        'decode': Decode(autoencoder, world_model.compositor),
    }


def runner(world_model: LatentWorldModel, autoencoder: Autoencoder, sampler: Sampler) -> RunGraph:
    """Return a function that runs a graph in PyTorch on numpy arrays, as `Backend.run` does."""
    modules = graph_modules(world_model, autoencoder, sampler)
    signatures = graph_signatures(world_model.config, sampler)

    @torch.inference_mode()
    def run(graph: str, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        signature = signatures[graph]
        tensors = [torch.from_numpy(np.array(inputs[spec.name])) for spec in signature.inputs]
        outputs = modules[graph](*tensors)
        return {
            spec.name: value.numpy().copy()
            for spec, value in zip(signature.outputs, outputs, strict=True)
        }

    return run
