"""Free-running futures: from at most 20 anchors up to a minute imagined with the true actions.

In: the steps of a bag as they come. Out: pictures at 5, 10, 30 and 60 s beside what the camera
saw. Of each anchor its memory, the commands of a minute and the few true frames that are scored
are kept, nothing else; all anchors are rolled out together once the bag is read.

Axes: B anchors side by side, T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wm_ros import memory as memories
from wm_ros.datatypes import FloatArray, ImageArray, MemoryState
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_futures import side_by_side
from wm_ros.evaluation.replay_window import Moment
from wm_ros.memory import NonFiniteError

SECONDS = (5, 10, 30, 60)
NEIGHBOURS = 2  # frames on either side of a mark that are scored with it
ANCHORS = 20
WARM_UP_S = 10.0
CHUNK = 25  # frames imagined between two looks at who has ended
STREAM = 2  # of the noise


def marks_of(rate_hz: float) -> dict[str, int]:
    """Return the marks: name -> frames ahead."""
    return {f'{seconds}s': round(seconds * rate_hz) for seconds in SECONDS}


def choose_anchors(frames: int, rate_hz: float) -> list[int]:
    """Return at most 20 steps, spread evenly: after 10 s (a quarter of a short bag), and so that
    at least the first mark lies in the bag.
    """
    first = min(round(WARM_UP_S * rate_hz), frames // 4)
    last = frames - 1 - NEIGHBOURS - min(marks_of(rate_hz).values())
    if last < first:
        return []
    spread = np.linspace(first, last, min(ANCHORS, last - first + 1))
    return sorted({round(float(number)) for number in spread})


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


class FreeRuns:
    """Starts runs while the bag is read and rolls them out afterwards.

    Args:
        contenders: packages under test.
        anchors: steps to start at, growing; each takes the first whole step from there on.
        rate_hz: steps per second.
        seed: of the noise, drawn anew for every anchor.
    """

    def __init__(
        self, contenders: Sequence[Contender], anchors: Sequence[int], rate_hz: float, seed: int
    ) -> None:
        self.marks = marks_of(rate_hz)
        self.runs: list[Run] = []
        self._contenders = contenders
        self._due = list(anchors)
        self._seed = seed
        self._open: list[Run] = []
        self._wanted = {
            at + offset
            for at in self.marks.values()
            for offset in range(-NEIGHBOURS, NEIGHBOURS + 1)
        }
        self._longest = max(self._wanted)

    def take(self, moment: Moment, memories: Mapping[str, MemoryState]) -> None:
        """Follow the open runs by one step; begin one where it is due.

        Args:
            moment: the newest step.
            memories: contender -> memory after it; without those that are not finite.
        """
        if moment.step.reset is not None:
            self._open.clear()
        for run in self._open:
            self._follow(run, moment)
        self._open = [run for run in self._open if run.length < self._longest]
        whole = moment.image_HWC is not None and len(memories) == len(self._contenders)
        if self._due and moment.number >= self._due[0] and whole:
            self._begin(moment, memories)

    def _follow(self, run: Run, moment: Moment) -> None:
        run.length = moment.number - run.number
        if run.length < self._longest:
            run.actions_TA[run.length] = moment.step.action_A
        if run.length in self._wanted and moment.image_HWC is not None:
            run.truths[run.length] = moment.image_HWC

    def _begin(self, moment: Moment, memories: Mapping[str, MemoryState]) -> None:
        if moment.image_HWC is None:
            return
        actions_TA = np.zeros((self._longest, moment.step.action_A.size), np.float32)
        actions_TA[0] = moment.step.action_A
        run = Run(moment.number, moment.image_HWC, memories, actions_TA)
        while self._due and self._due[0] <= moment.number:
            self._due.pop(0)
        self.runs.append(run)
        self._open.append(run)

    def scored(self) -> list[Run]:
        """Return the runs that reach a mark."""
        return [run for run in self.runs if run.marks(self.marks)]

    def roll_out(
        self, contender: Contender, told: Callable[[int, int], None]
    ) -> dict[tuple[int, int], ImageArray]:
        """Imagine all runs of one contender.

        Args:
            contender: one of those given.
            told: frames done and frames in all, now and then.

        Returns:
            (step of the anchor, frames ahead) -> picture, near the marks only.
        """
        runs = self.scored()
        if not runs:
            return {}
        rollout = _Rollout(contender, runs, self.marks, self._wanted, self._seed)
        try:
            while rollout.advance():
                told(rollout.done, rollout.longest)
        except NonFiniteError:
            contender.not_finite += 1
        return rollout.pictures


class _Rollout:
    """Runs of one contender side by side; those that have reached their last mark drop out."""

    def __init__(
        self,
        contender: Contender,
        runs: Sequence[Run],
        marks: Mapping[str, int],
        wanted: set[int],
        seed: int,
    ) -> None:
        self.pictures: dict[tuple[int, int], ImageArray] = {}
        self.done = 0
        self._contender = contender
        self._wanted = wanted
        self._runs = list(runs)
        self._ends = [max(run.marks(marks).values()) + NEIGHBOURS for run in runs]
        self.longest = max(self._ends)
        self._rngs = [np.random.default_rng([seed, STREAM, run.number]) for run in runs]
        self._memory = side_by_side([run.memories[contender.name] for run in runs])

    def advance(self) -> bool:
        """Imagine the next frames of all runs that go on; False once none does."""
        on = [row for row, end in enumerate(self._ends) if end > self.done]
        if not on:
            return False
        if len(on) < len(self._runs):
            self._memory = memories.select(self._memory, on)
            self._runs = [self._runs[row] for row in on]
            self._ends = [self._ends[row] for row in on]
            self._rngs = [self._rngs[row] for row in on]
        span = min(CHUNK, min(self._ends) - self.done)
        model = self._contender.model
        actions_BTA = np.stack(
            [run.actions_TA[self.done : self.done + span] for run in self._runs]
        )
        noise_BTDCHW = np.concatenate([model.noise(rng, 1, span) for rng in self._rngs])
        rollout = model.imagine(self._memory, actions_BTA, noise_BTDCHW, decode=False)
        self._memory = rollout.memory
        for t in range(span):
            if self.done + t + 1 in self._wanted:
                images_BHWC = model.decode(np.ascontiguousarray(rollout.latents_BTCHW[:, t]))
                for run, image_HWC in zip(self._runs, images_BHWC, strict=True):
                    self.pictures[run.number, self.done + t + 1] = image_HWC.copy()
        self.done += span
        return True
