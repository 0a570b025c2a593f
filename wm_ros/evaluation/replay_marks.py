"""Scores of free-running futures at their marks, mean of each mark's frame and its neighbours.

In: runs and the pictures imagined for them. Out: means by mark, counts, and pictures to look at.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import metrics
from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay_free import NEIGHBOURS, FreeRuns, Run
from wm_ros.evaluation.replay_hooks import PerceptualDistance
from wm_ros.evaluation.replay_tally import COPY_LAST, Tally

METRICS = ('psnr', 'psnr_whole', 'ssim', 'perceptual')
Pictures = Mapping[str, Mapping[tuple[int, int], ImageArray]]  # contender -> see `roll_out`


@dataclass(frozen=True)
class LongStrip:
    """One anchor at its marks: the truth and every contender's picture, by name of the mark."""

    number: int
    last_HWC: ImageArray
    truths: Mapping[str, ImageArray]
    shown: Mapping[str, Mapping[str, ImageArray]]


class Marks:
    """Scores and keeps what a free-running evaluation found."""

    def __init__(self, perceptual: PerceptualDistance | None) -> None:
        self.tally = Tally()
        self.strips: list[LongStrip] = []
        self._perceptual = perceptual

    def score(self, free: FreeRuns, pictures: Pictures) -> None:
        """Score every run at every mark that it reaches."""
        for run in free.scored():
            reached = run.marks(free.marks)
            for name, at in reached.items():
                self._score_mark(run, name, at, pictures)
            shown = {
                who: {name: found[run.number, at] for name, at in reached.items()
                      if (run.number, at) in found}
                for who, found in pictures.items()
            }  # fmt: skip
            truths = {name: run.truths[at] for name, at in reached.items()}
            self.strips.append(LongStrip(run.number, run.last_HWC, truths, shown))

    def results(self, free: FreeRuns) -> dict[str, Any]:
        """Return the means, for JSON: metric -> contender -> mark -> value, and counts."""
        runs = free.scored()
        counts = {name: sum(name in run.marks(free.marks) for run in runs) for name in free.marks}
        return {
            'anchors': [run.number for run in runs],
            'counts': counts,
            **{metric: self.tally.table(metric, free.marks) for metric in METRICS},
        }

    def _score_mark(self, run: Run, name: str, at: int, pictures: Pictures) -> None:
        for who in (*pictures, COPY_LAST):
            values: dict[str, list[float]] = {metric: [] for metric in METRICS}
            for ahead in range(at - NEIGHBOURS, at + NEIGHBOURS + 1):
                shown = (
                    run.last_HWC if who == COPY_LAST else pictures[who].get((run.number, ahead))
                )
                if shown is not None:
                    self._add(values, shown, run.truths[ahead], run.last_HWC, ahead == at)
            for metric, found in values.items():
                self.tally.add(metric, who, name, float(np.mean(found)) if found else None)

    def _add(
        self,
        values: dict[str, list[float]],
        shown_HWC: ImageArray,
        truth_HWC: ImageArray,
        last_HWC: ImageArray,
        middle: bool,
    ) -> None:
        changed_db = pixels.psnr(shown_HWC, truth_HWC, pixels.changed(last_HWC, truth_HWC))
        whole_db = pixels.psnr(shown_HWC, truth_HWC)
        values['psnr'] += [] if changed_db is None else [changed_db]
        values['psnr_whole'] += [] if whole_db is None else [whole_db]
        values['ssim'].append(metrics.ssim(shown_HWC, truth_HWC))
        if middle and self._perceptual is not None:
            pair = [np.ascontiguousarray(image_HWC)[None] for image_HWC in (shown_HWC, truth_HWC)]
            a, b = (self._perceptual.embed(image_BHWC) for image_BHWC in pair)
            values['perceptual'].append(float(self._perceptual.between(a, b)[0]))
