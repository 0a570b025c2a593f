"""Free-running futures: from at most 20 anchors up to a minute imagined with the true actions.

In: the steps of a bag as they come. Out: pictures at 5, 10, 30 and 60 s beside what the camera
saw. Of each anchor its memory, the commands of a minute and the few true frames that are scored
are kept, nothing else; all anchors are rolled out together once the bag is read.

Axes: T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from wm_ros.datatypes import ImageArray, MemoryState
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_futures import SETTLED
from wm_ros.evaluation.replay_rollout import NEIGHBOURS, Place, Rollout, Run
from wm_ros.evaluation.replay_window import Moment

SECONDS = (5, 10, 30, 60)
ANCHORS = 20
WARM_UP_S = 10.0


def marks_of(rate_hz: float) -> dict[str, int]:
    """Return the marks: name -> frames ahead."""
    return {f'{seconds}s': round(seconds * rate_hz) for seconds in SECONDS}


def choose_anchors(frames: int, rate_hz: float) -> list[int]:
    """Return at most 20 steps, spread evenly: after 10 s (a quarter of a short bag), not before a
    memory has settled, and so that at least the first mark lies in the bag.
    """
    first = max(SETTLED, min(round(WARM_UP_S * rate_hz), frames // 4))
    last = last_anchor(frames, rate_hz)
    if last < first:
        return []
    spread = np.linspace(first, last, min(ANCHORS, last - first + 1))
    return sorted({round(float(number)) for number in spread})


def last_anchor(frames: int, rate_hz: float) -> int:
    """Return the last step from which the first mark is reached; below 0 where there is none."""
    return frames - 1 - NEIGHBOURS - min(marks_of(rate_hz).values())


class FreeRuns:
    """Starts runs while the bag is read and rolls them out afterwards.

    Args:
        contenders: packages under test.
        anchors: steps to start at, growing; each takes the first step from there on that has a
            frame and, of every contender, a settled memory.
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
            memories: contender -> memory after it; without those that are not finite or not yet
                settled.
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
    ) -> dict[Place, ImageArray]:
        """Imagine all runs of one contender.

        Args:
            contender: one of those given.
            told: frames done and frames in all, now and then.

        Returns:
            (step of the anchor, frames ahead) -> picture, near the marks only. A run whose output
            is not finite has none from there on, and does not cost the others theirs.
        """
        runs = self.scored()
        if not runs:
            return {}
        rollout = Rollout(contender, runs, self.marks, self._wanted, self._seed)
        while rollout.advance():
            told(rollout.done, rollout.longest)
        return rollout.pictures
