"""Stage 0: the tokenizer, from single frames of practice clips.

Axes: B frames, H W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.autoencoder import Autoencoder
from models.rounding import round_to_fp16
from training.augment import vary
from training.fingerprint import array_digest
from training.optimise import Schedule, optimise
from training.recipes import TokenizerStage
from wm_ros.config import ModelConfig
from wm_ros.evaluation.metrics import psnr
from wm_ros.preprocess import to_image, to_model


def train_tokenizer(
    config: ModelConfig,
    images_BHWC: np.ndarray,
    stage: TokenizerStage,
    *,
    work: Path,
    seed: int,
    start: Autoencoder | None = None,
) -> Autoencoder:
    """Train on uint8 frames and return the averaged autoencoder with standardised latents; from
    the weights of `start` where there is one.

    The error of a pixel counts more the further the frame is from the mean picture there
    (`salience`): what moves and what is revealed is small, and it is what the world model is
    asked about.
    """
    torch.manual_seed(seed)
    autoencoder = Autoencoder(config)
    if start is not None:
        autoencoder.load_state_dict(start.state_dict())
    autoencoder = autoencoder.to(memory_format=torch.channels_last)  # a fifth faster in bf16
    sample = np.random.default_rng(seed).choice(
        len(images_BHWC), min(2000, len(images_BHWC)), replace=False
    )
    mean = torch.from_numpy(to_model(images_BHWC[np.sort(sample)]).mean(0))

    def loss(rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        chosen = np.sort(rng.integers(0, len(images_BHWC), stage.batch))
        shown_BHWC = images_BHWC[chosen]
        if stage.variation:
            shown_BHWC = np.stack(
                [vary(rng, stage.variation, mirrored=True)(image) for image in shown_BHWC]
            )
        image = torch.from_numpy(to_model(shown_BHWC))
        with torch.autocast('cpu', torch.bfloat16):
            z = autoencoder.encoder(image).float()
            spread = z.detach().std((0, 2, 3), keepdim=True)
            noisy = z + stage.latent_noise * spread * torch.randn(z.shape, generator=generator)
            shown = autoencoder.decoder(noisy).float()
        weight = 1 + stage.salience * (image - mean).abs().mean(1, keepdim=True).clamp_max(1.0)
        error = shown - image
        # A mild pull of the latent's scale to one keeps the averaged weights and the live ones
        # comparable.
        pull = 1e-4 * z.square().mean()
        return (weight * (error.square() + 0.1 * error.abs())).mean() + pull + edges(error)

    def edges(error_BCHW: torch.Tensor) -> torch.Tensor:
        if not stage.edges:
            return error_BCHW.new_zeros(())
        across = error_BCHW.diff(dim=3).abs().mean()
        return stage.edges * (across + error_BCHW.diff(dim=2).abs().mean())

    schedule = Schedule(stage.steps, stage.rate, ema=0.99, decay=0.0)
    averaged = optimise(
        autoencoder,
        loss,
        schedule,
        name='tokenizer',
        work=work,
        seed=seed,
        made_of={'stage': asdict(stage), 'images': array_digest(images_BHWC[::97])},
    )
    assert isinstance(averaged, Autoencoder)
    standardise(averaged, images_BHWC[np.sort(sample)])
    return averaged


def standardise(autoencoder: Autoencoder, images_BHWC: np.ndarray) -> None:
    """Set the latent mean and standard deviation of every channel from training frames."""
    round_to_fp16(autoencoder)
    with torch.inference_mode():
        z = torch.cat(
            [
                autoencoder.encoder(torch.from_numpy(to_model(images_BHWC[i : i + 256])))
                for i in range(0, len(images_BHWC), 256)
            ]
        )
    autoencoder.latent_mean.copy_(z.mean((0, 2, 3)).half().float())
    autoencoder.latent_std.copy_(z.std((0, 2, 3)).half().float())


def reconstruction_psnr_db(autoencoder: Autoencoder, images_BHWC: np.ndarray) -> float:
    """Whole-frame PSNR in dB of uint8 frames against themselves through the autoencoder."""
    shown = []
    with torch.inference_mode():
        for start in range(0, len(images_BHWC), 256):
            image = torch.from_numpy(to_model(images_BHWC[start : start + 256]))
            shown.append(to_image(autoencoder.decode(autoencoder.encode(image)).numpy()))
    return psnr(np.concatenate(shown), images_BHWC)
