"""Stage 3: the compositor, from the student's own futures.

Frames are imagined over training clips and kept beside what was recorded there; then flow and mask
are learnt from them as a picture is. What a decoder must make of a prediction depends on how good
predictions are, so it comes last; the world model stays as it is.

Axes: N samples, C H W code, S pixels a side, T frames, A action.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from models.autoencoder import Autoencoder
from models.compositor import Compositor
from models.world_model import LatentWorldModel
from training.fingerprint import weights_digest
from training.optimise import Schedule, optimise
from training.recipes import CompositorStage
from training.shards import encode
from training.world import World
from wm_ros.datatypes import ImageArray
from wm_ros.preprocess import to_model

DEPTHS = 8  # of a future are kept, from 1 to `ahead`, the first ones closer together


@dataclass(frozen=True)
class Futures:
    """Frames as imagined and as recorded, and the last seen frame before them."""

    imagined_NCHW: Tensor
    recorded_NCHW: Tensor
    seen_NCHW: Tensor
    seen_NSSC: ImageArray
    recorded_NSSC: ImageArray


@torch.inference_mode()
def imagine_futures(
    model: LatentWorldModel,
    autoencoder: Autoencoder,
    world: World,
    stage: CompositorStage,
    sampler_steps: tuple[float, ...],
    noise_mode: str,
    seed: int,
) -> Futures:
    """Imagine futures from random frames of random clips, with the commands that were given.

    Raises:
        ValueError: no clip is longer than a future.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    depths = np.unique(np.geomspace(1, stage.ahead, DEPTHS).round().astype(int))
    draws = len(sampler_steps) if noise_mode == 'fresh' else 1
    parts: list[tuple[Tensor, Tensor, Tensor, ImageArray, ImageArray]] = []
    for number in track(rng.integers(world.clips, size=stage.clips), 'imagine'):
        clip = world.practice(int(number), 0)
        images_TSSC, room = clip.images_THWC, len(clip.images_THWC) - stage.ahead
        if room < 2:
            continue
        code_1TCHW = torch.from_numpy(encode(autoencoder, images_TSSC)).float().unsqueeze(0)
        action_TA = torch.from_numpy(np.asarray(clip.actions_TA, np.float32))
        starts = rng.choice(np.arange(1, room), min(stage.starts, room - 1), replace=False)
        frames_1R = torch.from_numpy(starts).unsqueeze(0)
        gate = torch.ones(1, len(images_TSSC))
        long = model.states_at(code_1TCHW, action_TA[None], gate, frames_1R)
        memory = model.memory_at(code_1TCHW, action_TA[None], long, frames_1R)
        for depth in range(1, stage.ahead + 1):
            action = action_TA[starts + depth - 1]
            noise = torch.randn(len(starts), draws, *code_1TCHW.shape[2:], generator=generator)
            code = model.predict(action, noise, memory, sampler_steps, noise_mode)
            memory = model.write(code, action, torch.ones(len(starts)), memory)
            if depth in depths:
                there, codes = starts + depth, code_1TCHW[0]
                parts.append(
                    (
                        code.half(),
                        codes[there].half(),
                        codes[starts].half(),
                        images_TSSC[starts],
                        images_TSSC[there],
                    )
                )
    if not parts:
        raise ValueError(f'no clip drawn has more than the {stage.ahead} frames of a future')
    imagined, recorded, seen, before, after = zip(*parts, strict=True)
    return Futures(
        torch.cat(imagined),
        torch.cat(recorded),
        torch.cat(seen),
        np.concatenate(before),
        np.concatenate(after),
    )


def train_compositor(
    model: LatentWorldModel,
    autoencoder: Autoencoder,
    world: World,
    stage: CompositorStage,
    *,
    sampler_steps: tuple[float, ...],
    noise_mode: str,
    work: Path,
    seed: int,
) -> LatentWorldModel:
    """Return the model with a trained compositor."""
    assert model.compositor is not None, 'a model whose latents have a reference'
    model.eval().requires_grad_(False)
    compositor = model.compositor.train().requires_grad_(True)
    futures = imagine_futures(model, autoencoder, world, stage, sampler_steps, noise_mode, seed)

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        chosen = rng.integers(len(futures.seen_NSSC), size=stage.batch)
        true = torch.from_numpy(to_model(futures.recorded_NSSC[chosen]))
        exact = torch.rand(stage.batch, 1, 1, 1, generator=generator) < stage.exact_share
        code = torch.where(exact, futures.recorded_NCHW[chosen], futures.imagined_NCHW[chosen])
        code = code.float()
        with torch.autocast('cpu', torch.bfloat16):
            with torch.no_grad():
                decoded = autoencoder.decode(code)
            shown = compositor(
                code,
                futures.seen_NCHW[chosen].float(),
                torch.from_numpy(to_model(futures.seen_NSSC[chosen])),
                decoded,
            )
        error = shown - true
        edges = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
        return error.abs().mean() + error.square().mean() + stage.edges * edges

    averaged = optimise(
        compositor,
        loss,
        Schedule(stage.steps, stage.rate, warm_up=50, ema=0.99),
        name=f'{model.config.arm}.{stage.name}',
        work=work,
        seed=seed,
        made_of={'stage': asdict(stage), 'model': weights_digest(model)},
    )
    assert isinstance(averaged, Compositor)
    model.compositor = averaged
    return model
