"""LatentWorldModel: writer, memory and denoiser as one module; the same arithmetic in training
and at run time.

Run time (exported): `write` one frame, `predict` the next. Training: `states_at` scans whole
clips and returns the memory as it stood after chosen frames; a test holds the two ways equal.

Axes: B clips, T frames, R frames whose successor is predicted, C H W latent, A action, D noise
draws.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import ttt_memory
from models.compositor import Compositor
from models.denoiser import Denoiser
from models.writer import Writer
from wm_ros.config import ModelConfig


class LatentWorldModel(nn.Module):
    """Action-conditioned flow model of the next latent with a constant-size memory.

    `compositor` is the part of the decoder that depends on how well the model predicts; None where
    latents carry no `reference`. Here all latents are codes: only a run-time memory has a
    reference, and `write` takes it from behind the code.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.writer = Writer(config)
        self.denoiser = Denoiser(config)
        self.compositor = Compositor(config) if config.reference else None

    def initial_memory(self, batch: int) -> dict[str, Tensor]:
        """Return an empty memory: zeros in the shapes of `ModelConfig.memory_specs`."""
        return {spec.name: torch.zeros(batch, *spec.shape) for spec in self.config.memory_specs()}

    def write(
        self, latent_BCHW: Tensor, action_BA: Tensor, gate_B: Tensor, memory: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the memory after one frame.

        Args:
            latent_BCHW: the frame's clean latent.
            action_BA: the action that led to it (a_{t-1}); a_0 for the first frame.
            gate_B: 1 to write, 0 for a frame that was not seen: the two latents move on, the
                long memory stays.
            memory: the memory before; left untouched.
        """
        channels = self.config.latent_channels
        after = {'action': action_BA}
        if 'reference' in memory:
            after['reference'] = latent_BCHW[:, channels:]
            latent_BCHW = latent_BCHW[:, :channels]
        after['latents'] = torch.stack([latent_BCHW, memory['latents'][:, 0]], 1)
        if self.config.arm == 'none':
            return after
        key, value, coefficient = self.writer(latent_BCHW, action_BA)
        if self.config.arm == 'ttt':
            coefficient = coefficient * gate_B.view(-1, 1, 1, 1)
            after['fast_weights'] = ttt_memory.write(
                memory['fast_weights'], key, value, coefficient
            )
        else:
            for name, new in (('keys', key), ('values', value)):
                row = new.transpose(1, 2).flatten(2).unsqueeze(1)
                after[name] = torch.cat([memory[name][:, 1:], row], 1)
            after['filled'] = torch.cat([memory['filled'][:, 1:], gate_B.unsqueeze(1)], 1)
        return after

    def velocity(
        self, x_BCHW: Tensor, t_B: Tensor, action_BA: Tensor, memory: dict[str, Tensor]
    ) -> Tensor:
        """Return v(x_t, t) of the frame that follows `memory` under `action_BA` (a_t)."""
        actions = torch.stack([memory['action'], action_BA], 1)
        return self.denoiser(x_BCHW, t_B, memory['latents'], actions, memory)

    def predict(
        self,
        action_BA: Tensor,
        noise_BDCHW: Tensor,
        memory: dict[str, Tensor],
        steps: tuple[float, ...] = (1.0, 2 / 3),
        noise_mode: str = 'deterministic',
    ) -> Tensor:
        """Sample the next latent in len(steps) denoise passes. Reads the memory, never writes it.

        Args:
            action_BA: the action in force from the last frame on.
            noise_BDCHW: standard normal; D = 1 for `deterministic` (the ODE's Euler steps), D =
                len(steps) for `fresh`, where each later pass starts from newly noised data (the
                consistency sampler).
            steps: flow times of the passes, falling, the first 1.
        """
        x = noise_BDCHW[:, 0]
        clean = x
        for i, t in enumerate(steps):
            v = self.velocity(x, x.new_full((x.shape[0],), t), action_BA, memory)
            clean = x - t * v
            if i + 1 < len(steps):
                after = steps[i + 1]
                if noise_mode == 'fresh':
                    x = (1 - after) * clean + after * noise_BDCHW[:, i + 1]
                else:
                    x = x - (t - after) * v
        return clean

    def states_at(
        self,
        latents_BTCHW: Tensor,
        actions_BTA: Tensor,
        gate_BT: Tensor,
        frames_BR: Tensor,
        *,
        fast: bool = True,
    ) -> dict[str, Tensor]:
        """Write whole clips and return the memory's long part as it stood after `frames_BR`,
        rows flattened.

        Args:
            latents_BTCHW: what is written (clean or lightly noised latents).
            actions_BTA: a_t, the action in force from frame t on.
            gate_BT: 0 where a frame was dropped.
            frames_BR: int64 frame indices of each clip.

        Returns:
            `fast_weights` or `keys`, `values`, `filled` with leading axis B * R; empty for the
            arm `none`.
        """
        config = self.config
        if config.arm == 'none':
            return {}
        batch, frames = latents_BTCHW.shape[:2]
        # Nothing led to the first frame: like the synchroniser, take the action in force there.
        led_here = torch.cat([actions_BTA[:, :1], actions_BTA[:, :-1]], 1)
        clip = torch.arange(batch).unsqueeze(1)
        if config.arm == 'ttt':
            parts = self.writer(latents_BTCHW.flatten(0, 1), led_here.flatten(0, 1))
            key, value, coefficient = (part.view(batch, frames, *part.shape[1:]) for part in parts)
            coefficient = coefficient * gate_BT.view(batch, frames, 1, 1, 1)
            scan = ttt_memory.scan_fast if fast else ttt_memory.scan_naive
            return {'fast_weights': scan(key, value, coefficient, frames_BR).flatten(0, 1)}
        # The window needs only the last frames of each read: write those, once each.
        ages = torch.arange(1 - config.window, 1, device=frames_BR.device)
        wanted = frames_BR.unsqueeze(-1) + ages
        inside = (wanted >= 0).float()
        wanted = wanted.clamp_min(0)
        rows = clip.unsqueeze(-1)
        written, reads = torch.unique(rows * frames + wanted, return_inverse=True)
        key, value, _ = self.writer(
            latents_BTCHW.flatten(0, 1)[written], led_here.flatten(0, 1)[written]
        )
        key, value = key[reads.flatten()], value[reads.flatten()]
        shape = (frames_BR.numel(), config.window, config.write_tokens)
        held = inside.view(-1, config.window, 1, 1)
        return {
            'keys': key.transpose(1, 2).reshape(*shape, -1) * held,
            'values': value.transpose(1, 2).reshape(*shape, -1) * held,
            'filled': (inside * gate_BT[rows, wanted]).flatten(0, 1),
        }

    def memory_at(
        self,
        latents_BTCHW: Tensor,
        actions_BTA: Tensor,
        long: dict[str, Tensor],
        frames_BR: Tensor,
    ) -> dict[str, Tensor]:
        """Complete `states_at` with the short part (two latents and a_{t-1}) at the same
        frames.
        """
        clip = torch.arange(latents_BTCHW.shape[0]).unsqueeze(1)

        def back(x: Tensor, frames: Tensor) -> Tensor:
            seen = (frames >= 0).float()
            return x[clip, frames.clamp_min(0)] * seen.view(*seen.shape, *[1] * (x.dim() - 2))

        past = torch.stack([back(latents_BTCHW, frames_BR), back(latents_BTCHW, frames_BR - 1)], 2)
        return {
            'latents': past.flatten(0, 1),
            'action': actions_BTA[clip, (frames_BR - 1).clamp_min(0)].flatten(0, 1),
            **long,
        }
