"""The compositor: the pixels of the last seen frame, moved to where a prediction says, and what
the tokenizer decodes where nothing of them is to be had.

A decoder of 8 x 8 px cells blurs what the camera has shown sharply a moment ago, and most of a
frame has been seen before. Pixel motion and a mask, after Finn et al. (1605.07157, section 3:
what moves is taken from the last frame), with one dense flow (Zhou et al., 1605.03557) instead of
kernels.

Axes: B frames, C channels of the code, H W cells, S pixels a side, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import Residual
from wm_ros.config import ModelConfig

REACH = 0.25  # of half the picture: flow of a network output of 1
SURE = 2.0  # logit of the mask before training: the seen frame


class Compositor(nn.Module):
    """Flow and mask from the code of a prediction and from the last seen frame with its code."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.tokenizer_width
        self.codes = nn.Sequential(
            nn.Conv2d(3 * config.latent_channels, 4 * width, 3, padding=1),
            Residual(4 * width),
            nn.SiLU(),
            nn.Conv2d(4 * width, 8 * width, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.to_half = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), nn.SiLU())
        self.to_quarter = nn.Sequential(nn.Conv2d(width, width, 4, 2, 1), nn.SiLU())
        self.at_quarter = nn.Sequential(
            nn.Conv2d(3 * width, 2 * width, 3, padding=1),
            Residual(2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.at_half = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), Residual(width), nn.SiLU()
        )
        self.out = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, code_BCHW: Tensor, seen_BCHW: Tensor, frame_B3SS: Tensor, decoded_B3SS: Tensor
    ) -> Tensor:
        """Return RGB frames, float32 [B, 3, S, S].

        Args:
            code_BCHW: of the frame to be shown.
            seen_BCHW: of the last seen frame.
            frame_B3SS: that frame, RGB in [-1, 1]; zeros where none was seen, which shows what is
                decoded.
            decoded_B3SS: what the tokenizer decodes from `code_BCHW`.
        """
        half = self.to_half(frame_B3SS)
        codes = self.codes(torch.cat([code_BCHW, seen_BCHW, code_BCHW - seen_BCHW], 1))
        features = self.at_quarter(torch.cat([codes, self.to_quarter(half)], 1))
        out = self.out(self.at_half(torch.cat([features, half], 1))).float()
        out = F.interpolate(out, scale_factor=2.0, mode='bilinear', align_corners=False)
        side = self.config.image_size
        place = (torch.arange(side, device=out.device) + 0.5) * (2 / side) - 1
        grid_1SS2 = torch.stack(
            [place.expand(side, side), place.unsqueeze(1).expand(side, side)], -1
        ).unsqueeze(0)
        moved = F.grid_sample(
            frame_B3SS,
            grid_1SS2 + REACH * out[:, :2].permute(0, 2, 3, 1),
            mode='bilinear',
            padding_mode='border',
            align_corners=False,
        )
        # No camera sends a frame of zeros all over, which lie between 127 and 128: none was seen.
        seen = (frame_B3SS.abs().amax((1, 2, 3), keepdim=True) > 0).float()
        mask = torch.sigmoid(out[:, 2:] + SURE) * seen
        return mask * moved + (1 - mask) * decoded_B3SS


def with_reference(code_BCHW: Tensor, image_B3SS: Tensor) -> Tensor:
    """Return the latent of a seen frame: its code, and as reference its code again and its
    pixels.
    """
    side = image_B3SS.shape[-1] // code_BCHW.shape[-1]
    return torch.cat([code_BCHW, code_BCHW, F.pixel_unshuffle(image_B3SS, side)], 1)


def split(latent_BCHW: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return the code of a latent, the code of the last seen frame and that frame."""
    channels = config.latent_channels
    pixels = latent_BCHW[:, 2 * channels :]
    return (
        latent_BCHW[:, :channels],
        latent_BCHW[:, channels : 2 * channels],
        F.pixel_shuffle(pixels, config.downsample),
    )
