"""Latent shards: practice clips as fp16 latents on disk, and the sampler of training windows.

Frames are rendered (or read from bags) by a `World`, encoded once by the frozen tokenizer and
kept as one flat memory map: clips may differ in length. Nothing here is committed; the same
seeds give the same shards.

Axes: B clips of a batch, T frames, R loss frames, C H W latent, A action, F facts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from models.autoencoder import Autoencoder
from training.fingerprint import stale, weights_digest
from training.world import SKILL_SEED, Clip, World, render_pool
from wm_ros.preprocess import to_model


@dataclass(frozen=True)
class Batch:
    """One training batch: windows of clips and the frames whose successor is predicted.

    Attributes:
        latents_BTCHW: float32.
        actions_BTA: float32, a_t.
        frames_BR: int64, the last frame seen before each prediction.
        ahead_BR: int64, frames imagined before the one that is scored: it is frame + 1 + ahead.
    """

    latents_BTCHW: Tensor
    actions_BTA: Tensor
    frames_BR: Tensor
    ahead_BR: Tensor


def encode(autoencoder: Autoencoder, images_THWC: np.ndarray, chunk: int = 256) -> np.ndarray:
    """Return fp16 latents [T, C, h, w] of uint8 frames, encoded in bf16 (a third of the time;
    error well below the noise that training adds)."""
    out = []
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        for start in range(0, len(images_THWC), chunk):
            image = torch.from_numpy(to_model(images_THWC[start : start + chunk]))
            out.append(autoencoder.encode(image).half().numpy())
    return np.concatenate(out)


def _practice(job: tuple[World, int, int]) -> Clip:
    world, seed, frames = job
    return world.practice(seed, frames)


def shards_made_of(
    world: World, autoencoder: Autoencoder, *, seeds: range, frames: int
) -> dict[str, Any]:
    """Return what decides every byte of the shards."""
    return {
        'world': world.made_of(skills=seeds.start >= SKILL_SEED),
        'tokenizer': weights_digest(autoencoder),
        'seeds': [seeds.start, seeds.stop],
        'frames': frames,
    }


def write_shards(
    folder: Path,
    world: World,
    autoencoder: Autoencoder,
    *,
    seeds: range,
    frames: int,
    workers: int = 1,
) -> None:
    """Play, encode and store one practice clip per seed; shards that were made of the same are
    left as they are.
    """
    made_of = shards_made_of(world, autoencoder, seeds=seeds, frames=frames)
    index = folder / 'index.json'
    if index.exists():
        why = stale(json.loads(index.read_text()).get('made_of'), made_of)
        if not why:
            return
        Console().print(f'{folder} is made anew: {why}', soft_wrap=True)
    # Another run may have the old files mapped: they are replaced, never written over.
    partial = folder.with_name(f'{folder.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    lengths: list[int] = []
    jobs = [(world, seed, frames) for seed in seeds]
    with (
        render_pool(workers) as pool,
        (partial / 'latents.f16').open('wb') as latents,
        (partial / 'actions.f32').open('wb') as actions,
        (partial / 'visible.u8').open('wb') as visible,
    ):
        clips = pool.map(_practice, jobs) if workers > 1 else map(_practice, jobs)
        # Threads that wait for each other do badly beside processes that keep the cores busy.
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if workers > 1 else threads)
        for clip in track(clips, 'render and encode', total=len(jobs)):
            encode(autoencoder, clip.images_THWC).tofile(latents)
            clip.actions_TA.astype(np.float32).tofile(actions)
            clip.visible_TF.astype(np.uint8).tofile(visible)
            lengths.append(len(clip.images_THWC))
        torch.set_num_threads(threads)
    facts = clip.visible_TF.shape[1]
    (partial / index.name).write_text(
        json.dumps({'made_of': made_of, 'lengths': lengths, 'facts': facts})
    )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


class Shards:
    """Random windows of stored clips, with a share of the loss frames on reveals."""

    def __init__(
        self,
        folders: Sequence[Path],
        latent_shape: tuple[int, int, int],
        action_width: int,
    ) -> None:
        """Map the shards of some folders; FileNotFoundError when `write_shards` has not finished
        in one.
        """
        indices = [json.loads((folder / 'index.json').read_text()) for folder in folders]
        self.made_of: list[dict[str, Any]] = [index['made_of'] for index in indices]
        self.lengths = np.concatenate([index['lengths'] for index in indices])
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.latents = [
            np.memmap(folder / 'latents.f16', np.float16, 'r').reshape(-1, *latent_shape)
            for folder in folders
        ]
        self.skills = np.repeat(
            [index['made_of']['seeds'][0] >= SKILL_SEED for index in indices],
            [len(index['lengths']) for index in indices],
        )
        # Clip -> the folder that it lies in, folder -> its first frame among all.
        self.part = np.repeat(np.arange(len(folders)), [len(i['lengths']) for i in indices])
        self.first = np.concatenate([[0], np.cumsum([len(part) for part in self.latents])])
        self.actions = np.concatenate(
            [np.fromfile(folder / 'actions.f32', np.float32) for folder in folders]
        ).reshape(-1, action_width)
        self.visible = (
            np.concatenate([np.fromfile(folder / 'visible.u8', np.uint8) for folder in folders])
            .reshape(len(self.actions), indices[0]['facts'])
            .astype(bool)
        )

    def too_short(self, frames: int) -> np.ndarray:
        """Return, for every clip, whether windows of so many frames are never drawn from it.

        See `window`, which may be shorter.
        """
        return np.asarray(self.lengths < self.window(frames))

    def window(self, frames: int) -> int:
        """Return how long windows are where so many frames are asked for: not longer than the
        clips, longest first, that hold four fifths of all frames. A single long one would shut
        out all others.
        """
        longest_first = np.sort(self.lengths)[::-1]
        enough = 5 * np.cumsum(longest_first) >= 4 * longest_first.sum()
        return min(frames, int(longest_first[enough.argmax()]))

    def sample(
        self,
        rng: np.random.Generator,
        *,
        clips: int,
        frames: int,
        loss_frames: int,
        event_share: float,
        lag_power: float = 0.7,
        ahead: int = 0,
        skill_share: float = 0.0,
        skill_ahead: int = 0,
        whole_share: float = 0.0,
    ) -> Batch:
        """Draw windows of equal length (`window`) and their loss frames.

        Event frames are those before which a fact was hidden and after which it shows, drawn with
        probability ~ lag ** lag_power (the window's start counts as last seen for a first
        reveal). A lid opens over several frames and its first sliver gives the colour away, so
        the target lies up to `ahead` frames later and the frames between are imagined.
        A share of the windows, `skill_share`, comes from clips of seeds from SKILL_SEED on, with
        up to `skill_ahead` frames imagined before every target: as far as a planner looks. A
        share of those, `whole_share`, begins where a motion begins and is imagined to the end.
        """
        frames = self.window(frames)
        able = np.flatnonzero(~self.too_short(frames))
        of_skills = self.skills[able]
        chosen = rng.choice(able[~of_skills], clips)
        if skill_share:  # drawn only then: stages without it see what they always saw
            skilled = rng.random(clips) < skill_share
            chosen = np.where(skilled, rng.choice(able[of_skills], clips), chosen)
        latents, actions, picks = [], [], []
        for clip in chosen:
            start = self.starts[clip] + rng.integers(self.lengths[clip] - frames + 1)
            window = slice(int(start), int(start) + frames)
            part = self.part[clip]
            inside = slice(window.start - self.first[part], window.stop - self.first[part])
            latents.append(self.latents[part][inside])
            actions.append(self.actions[window])
            picks.append(
                _loss_frames(
                    rng, self.visible[window], loss_frames, event_share, lag_power, ahead
                )
                if not self.skills[clip]
                else _skill_frames(
                    rng, self.actions[window], loss_frames, skill_ahead, whole_share
                )
            )
        return Batch(
            torch.from_numpy(np.stack(latents).astype(np.float32)),
            torch.from_numpy(np.stack(actions)),
            *(torch.from_numpy(np.stack(part)) for part in zip(*picks, strict=True)),
        )


def _skill_frames(
    rng: np.random.Generator, actions_TA: np.ndarray, count: int, ahead: int, whole_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the last seen frame and the number of imagined ones, anywhere and uniformly: what a
    skill does is everywhere in its clip. The first of them, a share, ask what a planner asks.
    """
    last = len(actions_TA) - 2 - ahead
    picks, imagined = rng.integers(1, last + 1, count), rng.integers(0, ahead + 1, count)
    begins = motion_starts(actions_TA)
    begins = begins[begins <= last]
    if whole := round(count * whole_share) if len(begins) else 0:
        picks[:whole], imagined[:whole] = rng.choice(begins, whole), ahead
    return picks, imagined


def motion_starts(actions_TA: np.ndarray) -> np.ndarray:
    """Return frames t at which a command is held, a_t = a_t-1, and after which another follows."""
    same = (actions_TA[1:] == actions_TA[:-1]).all(1)
    return 1 + np.flatnonzero(same[:-1] & ~same[1:])


def reveal_events(visible_TF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frames t such that a fact hidden at t shows at t + 1, and its lag since it was last
    seen.
    """
    frames, lags = [], []
    for fact in range(visible_TF.shape[1]):
        shown = visible_TF[:, fact]
        onsets = np.flatnonzero(~shown[:-1] & shown[1:])
        seen = np.flatnonzero(shown)
        before = np.searchsorted(seen, onsets) - 1
        last = np.where(before >= 0, seen[np.maximum(before, 0)], 0)
        frames.append(onsets)
        lags.append(onsets + 1 - last)
    return np.concatenate(frames or [np.zeros(0, int)]), np.concatenate(lags or [np.zeros(0, int)])


def _loss_frames(
    rng: np.random.Generator,
    visible_TF: np.ndarray,
    count: int,
    event_share: float,
    lag_power: float,
    ahead: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the last seen frame and the number of imagined ones, for each of `count` targets."""
    last = len(visible_TF) - 2 - ahead
    picks = rng.integers(1, last + 1, count)
    events, lags = reveal_events(visible_TF)
    usable = (events > 0) & (events <= last)
    events, lags = events[usable], lags[usable]
    wanted = round(count * event_share) if len(events) else 0
    if wanted:
        weights = lags.astype(float) ** lag_power
        picks[:wanted] = rng.choice(events, wanted, p=weights / weights.sum())
    imagined = rng.integers(0, ahead + 1, count)
    # Elsewhere one prediction in two is of the very next frame.
    imagined[wanted:] *= rng.integers(0, 2, count - wanted)
    return picks, imagined
