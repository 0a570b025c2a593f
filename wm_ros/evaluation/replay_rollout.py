"""Free-running anchors side by side: imagined a chunk at a time, until each has reached its last
mark.

In: runs, each with its memory and the true commands. Out: pictures near the marks. Judges nothing.

Axes: B anchors side by side, T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wm_ros import memory as memories
from wm_ros.datatypes import FloatArray, ImageArray, MemoryState
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_futures import side_by_side
from wm_ros.memory import NonFiniteError

NEIGHBOURS = 2  # frames on either side of a mark that are scored with it
CHUNK = 25  # frames imagined between two looks at who has ended
STREAM = 2  # of the noise
Place = tuple[int, int]  # of a picture: step of the anchor, frames ahead


@dataclass
class Run:
    """One anchor on its way.

    Attributes:
        number: step of the anchor.
        last_HWC: its frame.
        memories: contender -> memory at the anchor.
        actions_TA: true commands, filled up to `length`.
        truths: frames ahead -> what the camera saw, near marks only.
        length: steps that followed without a reset, with a frame or without.
    """

    number: int
    last_HWC: ImageArray
    memories: Mapping[str, MemoryState]
    actions_TA: FloatArray
    truths: dict[int, ImageArray] = field(default_factory=dict)
    length: int = 0

    def marks(self, marks: Mapping[str, int]) -> dict[str, int]:
        """Return the marks that are scored: those that the bag reaches with a frame there."""
        return {
            name: at
            for name, at in marks.items()
            if at + NEIGHBOURS <= self.length and at in self.truths
        }


class Rollout:
    """Runs of one contender side by side; those that have reached their last mark drop out.

    Args:
        contender: whose memories; counts what is not finite.
        runs: one or more, each reaching a mark.
        marks: name -> frames ahead.
        wanted: frames ahead whose pictures are kept.
        seed: of the noise, drawn anew for every run.

    Attributes:
        pictures: what has been imagined.
        done, longest: frames imagined, and of the longest run.
    """

    def __init__(
        self,
        contender: Contender,
        runs: Sequence[Run],
        marks: Mapping[str, int],
        wanted: set[int],
        seed: int,
    ) -> None:
        self.pictures: dict[Place, ImageArray] = {}
        self.done = 0
        self._contender = contender
        self._wanted = wanted
        self._runs = list(runs)
        self._ends = [max(run.marks(marks).values()) + NEIGHBOURS for run in runs]
        self.longest = max(self._ends)
        self._rngs = [np.random.default_rng([seed, STREAM, run.number]) for run in runs]
        self._memory = side_by_side([run.memories[contender.name] for run in runs])

    def advance(self) -> bool:
        """Imagine the next frames of all runs that go on; False once none does.

        Where an output is not finite the chunk is imagined once more run by run, from the same
        memory, commands and noise. The others get what they would have had, to the bit, where the
        engine computes a row of a batch as it does the row alone; else to the rounding with which
        it answers to any other size of batch (float32: the last digits of a latent; bfloat16:
        pictures some levels apart).
        """
        self._keep([row for row, end in enumerate(self._ends) if end > self.done])
        if not self._runs:
            return False
        span = min(CHUNK, min(self._ends) - self.done)
        model = self._contender.model
        noise_BTDCHW = np.concatenate([model.noise(rng, 1, span) for rng in self._rngs])
        rows = list(range(len(self._runs)))
        try:
            self._memory, found = self._imagine(rows, noise_BTDCHW)
        except NonFiniteError:
            found = self._one_by_one(rows, noise_BTDCHW)
        self.pictures |= found
        self.done += span
        return True

    def _one_by_one(
        self, rows: Sequence[int], noise_BTDCHW: FloatArray
    ) -> dict[Place, ImageArray]:
        """Imagine a chunk run by run; those that are not finite are counted and drop out."""
        found: dict[Place, ImageArray] = {}
        states = {}
        for row in rows:
            try:
                states[row], pictures = self._imagine([row], noise_BTDCHW)
                found |= pictures
            except NonFiniteError:
                self._contender.not_finite += 1
        self._keep(list(states))
        if states:
            self._memory = side_by_side(list(states.values()))
        return found

    def _imagine(
        self, rows: Sequence[int], noise_BTDCHW: FloatArray
    ) -> tuple[MemoryState, dict[Place, ImageArray]]:
        """Imagine a chunk of some of the runs; return their memory after it, and its pictures."""
        model, span = self._contender.model, noise_BTDCHW.shape[1]
        runs = [self._runs[row] for row in rows]
        whole = len(rows) == len(self._runs)
        memory = self._memory if whole else memories.select(self._memory, rows)
        actions_BTA = np.stack([run.actions_TA[self.done : self.done + span] for run in runs])
        rollout = model.imagine(memory, actions_BTA, noise_BTDCHW[rows], decode=False)
        found = {}
        for t in range(span):
            if self.done + t + 1 in self._wanted:
                images_BHWC = model.decode(np.ascontiguousarray(rollout.latents_BTCHW[:, t]))
                for run, image_HWC in zip(runs, images_BHWC, strict=True):
                    found[run.number, self.done + t + 1] = image_HWC.copy()
        return rollout.memory, found

    def _keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the runs only."""
        if len(rows) == len(self._runs):
            return
        self._memory = memories.select(self._memory, rows)
        self._runs = [self._runs[row] for row in rows]
        self._ends = [self._ends[row] for row in rows]
        self._rngs = [self._rngs[row] for row in rows]
