"""The recall probe of training: are twins told apart when the fact comes back?

The same protocol as `wm_ros.evaluation.recall`, on PyTorch modules, in batches, for gates
between stages: observe, imagine with the true actions from the last hidden frame, score the
reveal on the twins' differences.

Axes: V versions, T frames, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from training.shards import encode
from training.world import ProbeEpisode, ProbeTest, World, render_pool
from wm_ros.preprocess import to_image


@dataclass(frozen=True)
class ProbeClip:
    """A probe episode as latents, with the true frames that are scored."""

    latents_VTCHW: np.ndarray
    actions_TA: np.ndarray
    tests: tuple[ProbeTest, ...]
    truths: tuple[tuple[np.ndarray, np.ndarray], ...]


def collect(
    world: World, autoencoder: Autoencoder, seeds: range, workers: int = 1
) -> list[ProbeClip]:
    """Play and encode probe episodes; frames that a twin shares with the base are encoded once."""
    if workers == 1:
        return _encoded(map(world.probe, seeds), autoencoder)
    with render_pool(workers) as pool:
        return _encoded(pool.map(world.probe, seeds), autoencoder)


def _encoded(episodes: Iterable[ProbeEpisode], autoencoder: Autoencoder) -> list[ProbeClip]:
    clips = []
    for episode in episodes:
        base = encode(autoencoder, episode.images_VTHWC[0])
        latents = np.repeat(base[None], len(episode.images_VTHWC), 0)
        for version in range(1, len(latents)):
            differs = (episode.images_VTHWC[version] != episode.images_VTHWC[0]).any((1, 2, 3))
            if differs.any():
                latents[version, differs] = encode(
                    autoencoder, episode.images_VTHWC[version, differs]
                )
        truths = tuple(
            (
                episode.images_VTHWC[0, test.scored_frame].copy(),
                episode.images_VTHWC[test.version, test.scored_frame].copy(),
            )
            for test in episode.tests
        )
        clips.append(ProbeClip(latents, episode.actions_TA, episode.tests, truths))
    return clips


@torch.inference_mode()
def recall_2afc(
    model: LatentWorldModel,
    autoencoder: Autoencoder,
    clips: list[ProbeClip],
    steps: tuple[float, ...] = (1.0, 2 / 3),
    noise_mode: str = 'deterministic',
    seed: int = 0,
) -> dict[int, float]:
    """Return the 2AFC share by lag: the prediction is nearer its own truth than the twin's (ties
    count half).
    """
    model.eval()
    scores: dict[int, list[float]] = {}
    generator = torch.Generator().manual_seed(seed)
    for clip in clips:
        latents = torch.from_numpy(clip.latents_VTCHW.astype(np.float32))
        versions, frames = latents.shape[:2]
        actions = torch.from_numpy(clip.actions_TA).expand(versions, -1, -1)
        hidden = torch.tensor([test.hidden_frame for test in clip.tests]).expand(versions, -1)
        long = model.states_at(latents, actions, torch.ones(versions, frames), hidden)
        memory = model.memory_at(latents, actions, long, hidden)
        count = len(clip.tests)
        rows = torch.tensor(
            [
                [version * count + i for version in (0, test.version)]
                for i, test in enumerate(clip.tests)
            ]
        ).flatten()
        memory = {name: value[rows] for name, value in memory.items()}
        truths = np.stack([image for pair in clip.truths for image in pair])
        shown = imagine_until(model, autoencoder, memory, clip, steps, noise_mode, generator)
        for i, test in enumerate(clip.tests):
            truth, prediction = (
                truths[2 * i : 2 * i + 2].astype(np.float32),
                shown[2 * i : 2 * i + 2],
            )
            differs = (truth[0] != truth[1]).any(-1)
            for own, other in ((0, 1), (1, 0)):
                near = np.square(prediction[own] - truth[own])[differs].mean()
                far = np.square(prediction[own] - truth[other])[differs].mean()
                scores.setdefault(test.lag, []).append(0.5 if near == far else float(near < far))
    return {lag: float(np.mean(values)) for lag, values in sorted(scores.items())}


def imagine_until(
    model: LatentWorldModel,
    autoencoder: Autoencoder,
    memory: dict[str, torch.Tensor],
    clip: ProbeClip,
    steps: tuple[float, ...],
    noise_mode: str,
    generator: torch.Generator,
) -> np.ndarray:
    """Roll every test's two rows from its hidden to its scored frame and return the frames,
    float32 [rows, H, W, 3].
    """
    actions = torch.from_numpy(clip.actions_TA)
    spans = [test.scored_frame - test.hidden_frame for test in clip.tests]
    draws = len(steps) if noise_mode == 'fresh' else 1
    shape = model.config.coded_shape
    final = torch.zeros(2 * len(spans), *shape)
    for k in range(max(spans)):
        action = torch.stack(
            [
                actions[min(test.hidden_frame + k, len(actions) - 1)]
                for test in clip.tests
                for _ in range(2)
            ]
        )
        # Both twins get the same noise: a model that knows nothing predicts the same for both.
        noise = (
            torch.randn(len(spans), 1, draws, *shape, generator=generator)
            .expand(-1, 2, -1, -1, -1, -1)
            .flatten(0, 1)
        )
        latent = model.predict(action, noise, memory, steps, noise_mode)
        for i, span in enumerate(spans):
            if span == k + 1:
                final[2 * i : 2 * i + 2] = latent[2 * i : 2 * i + 2]
        memory = model.write(latent, action, torch.ones(len(action)), memory)
    return to_image(autoencoder.decode(final).numpy()).astype(np.float32)
