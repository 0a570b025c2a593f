"""Bags of one robot as a `World`: one training clip per unbroken stretch of recording.

Frames and commands come through `iter_steps`, the reader that replay and the live node's
synchroniser share; `reading.py` cuts them into clips and says what is lost. Nobody knows what is
hidden in a real recording, so there are no facts and no recall probes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from training.augment import vary
from training.fingerprint import digest
from training.reading import SHORTEST_CLIP, cut_off, read_bag, told
from training.world import Clip, ProbeEpisode
from wm_ros.bag import BagError
from wm_ros.bag.episodes import bag_name, bytes_of
from wm_ros.contract import StreamContract

VARIATION, VARIATION_SEED = 1.0, 41


class BagWorld:
    """Recorded episodes of one robot; what is lost of them is printed.

    Args:
        contract: how to read them.
        bags: to read.
        image_size: that of the model, px.
        variants: how often every clip is there once more, all of it seen in another way.

    Raises:
        BagError: another image size, a bag that cannot be read, no clip at all, or actions most
            of which lie outside the contract's limits.

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
        readings = [read_bag(bag, self.contract) for bag in track(bags, 'read bags')]
        console = Console(soft_wrap=True, highlight=False, markup=False)
        for line in told(readings):
            console.print(line)
        for line in cut_off(readings, self.contract):
            console.print(line, style='bold red')
        self._clips = [clip for reading in readings for clip in reading.clips]
        recorded = [reading.name for reading in readings for _ in reading.clips]
        self.clip_names = recorded * (1 + variants)
        self.clips = len(self.clip_names)
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
