"""Bags of one robot as a `World`: one training clip per unbroken stretch of recording.

Frames and commands come through `iter_steps`, the reader that replay and the live node's
synchroniser share. Nobody knows what is hidden in a real recording, so there are no facts and no
recall probes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from training.augment import vary
from training.fingerprint import digest
from training.world import Clip, ProbeEpisode
from wm_ros.bag import BagError, iter_steps
from wm_ros.bag.episodes import bag_name, bytes_of
from wm_ros.contract import StreamContract
from wm_ros.datatypes import Step

SHORTEST_CLIP = 32
VARIATION, VARIATION_SEED = 1.0, 41


class BagWorld:
    """Recorded episodes of one robot.

    Args:
        contract, bags: what is read, and how.
        image_size: side of a frame that the recipe expects, px.
        variants: how often every clip is there once more, all of it seen in another way.

    Attributes:
        clips: how many there are, variants included: the recorded ones come first.
        clip_names: the bag of every clip.
    """

    renderer = None

    def __init__(
        self, contract: Path, bags: list[Path], image_size: int, variants: int = 0
    ) -> None:
        self.contract = StreamContract.load(contract)
        if self.contract.image_size != image_size:
            raise BagError(
                f'{contract}: image_size {self.contract.image_size}, '
                f'the recipe expects {image_size}'
            )
        self.action_width = self.contract.action_width
        self.image_size = image_size
        self._made_of: dict[str, Any] = {
            'name': 'bags',
            'contract': digest(self.contract.to_dict()),
            'bytes': bytes_of({bag_name(bag): bag for bag in bags}),
        }
        named = [
            (bag_name(bag), clip)
            for bag in track(bags, 'read bags')
            for clip in read_clips(bag, self.contract)
        ]
        self._clips = [clip for _, clip in named]
        self.clip_names = [name for name, _ in named] * (1 + variants)
        self.clips = len(self._clips) * (1 + variants)
        if variants:
            self._made_of['variants'] = [variants, VARIATION]
        if not self._clips:
            raise BagError(
                f'no stretch of {SHORTEST_CLIP} frames or more in {", ".join(map(str, bags))}'
            )

    def made_of(self, skills: bool = False) -> dict[str, Any]:
        """Name the world by its contract and by the name and size of every bag."""
        return self._made_of

    def practice(self, seed: int, frames: int) -> Clip:
        """Return clip number `seed` (modulo their count), at most `frames` long where that is
        positive.
        """
        number = seed % self.clips
        clip = self._clips[number % len(self._clips)]
        if number >= len(self._clips):
            seen = vary(np.random.default_rng([VARIATION_SEED, number]), VARIATION)
            clip = replace(clip, images_THWC=seen.of_clip(clip.images_THWC))
        if 0 < frames < len(clip.images_THWC):
            return Clip(
                clip.images_THWC[:frames], clip.actions_TA[:frames], clip.visible_TF[:frames]
            )
        return clip

    def probe(self, seed: int) -> ProbeEpisode:
        """A recording has no twin."""
        raise NotImplementedError('recall probes need a simulator: a recording has no twin')


def read_clips(bag: Path, contract: StreamContract) -> Iterator[Clip]:
    """Yield the unbroken stretches of a bag: no reset and no missing frame inside."""
    run: list[Step] = []
    for step in iter_steps(bag, contract):
        if (step.frame is None or step.reset is not None) and run:
            yield from _clip(run)
            run = []
        if step.frame is not None:
            run.append(step)
    yield from _clip(run)


def _clip(run: list[Step]) -> Iterator[Clip]:
    if len(run) >= SHORTEST_CLIP:
        images = np.stack([step.frame.image_HWC for step in run if step.frame is not None])
        yield Clip(
            images, np.stack([step.action_A for step in run]), np.zeros((len(run), 0), bool)
        )
