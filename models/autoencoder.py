"""The tokenizer: one frame to one latent and back, no time inside. f8, shared by all arms.

Axes: B frames, C channels, H W pixels or cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_ros.config import ModelConfig


class Residual(nn.Module):
    """Two 3x3 convolutions added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return x + self.second(F.silu(self.first(F.silu(x))))


class Autoencoder(nn.Module):
    """Convolutional autoencoder with standardised latents."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        w, channels = config.tokenizer_width, config.latent_channels
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(w, 2 * w, 4, 2, 1),
            Residual(2 * w),
            nn.SiLU(),
            nn.Conv2d(2 * w, 3 * w, 4, 2, 1),
            Residual(3 * w),
            nn.SiLU(),
            nn.Conv2d(3 * w, channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 3 * w, 3, padding=1),
            Residual(3 * w),
            nn.SiLU(),
            nn.Conv2d(3 * w, 8 * w, 3, padding=1),
            nn.PixelShuffle(2),
            Residual(2 * w),
            nn.SiLU(),
            nn.Conv2d(2 * w, 4 * w, 3, padding=1),
            nn.PixelShuffle(2),
            Residual(w),
            nn.SiLU(),
            nn.Conv2d(w, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer('latent_mean', torch.zeros(channels))
        self.register_buffer('latent_std', torch.ones(channels))

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Return the standardised latent, float32 [B, C, S/8, S/8], of RGB frames in [-1, 1]."""
        z = self.encoder(image_BCHW).float()
        return (z - self.latent_mean.view(1, -1, 1, 1)) / self.latent_std.view(1, -1, 1, 1)

    def decode(self, latent_BCHW: Tensor) -> Tensor:
        """Return RGB frames, nominally in [-1, 1] and not clipped, float32 [B, 3, S, S]."""
        z = latent_BCHW * self.latent_std.view(1, -1, 1, 1) + self.latent_mean.view(1, -1, 1, 1)
        image: Tensor = self.decoder(z)
        return image.float()
