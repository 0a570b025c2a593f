"""Scores of free-running futures at their marks, mean of each mark's frame and its neighbours. The
pictures of several cameras are compared one by one, each as one more. A mark of a run is scored
where every contender has all its pictures there, so that all means are over the same set.

In: runs and the pictures imagined for them. Out: means by mark, counts, and pictures to look at.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay_free import FreeRuns
from wm_ros.evaluation.replay_hooks import PerceptualDistance, distances
from wm_ros.evaluation.replay_rollout import NEIGHBOURS, Run
from wm_ros.evaluation.replay_tally import COPY_LAST, Tally
from wm_ros.tiles import untile

METRICS = ('psnr', 'psnr_whole', 'ssim', 'ssim_whole', 'perceptual', 'perceptual_whole')
Pictures = Mapping[str, Mapping[tuple[int, int], ImageArray]]  # contender -> see `roll_out`


@dataclass(frozen=True)
class LongStrip:
    """One anchor at its marks: the truth and every contender's picture, by name of the mark."""

    number: int
    last_HWC: ImageArray
    truths: Mapping[str, ImageArray]
    shown: Mapping[str, Mapping[str, ImageArray]]


class Marks:
    """Scores and keeps what a free-running evaluation found.

    Args:
        perceptual: the distance, None to leave it out.
        cameras: that share a frame.

    Attributes:
        not_finite: runs left out at a mark or more, since an output was not finite.
        strips: pictures of every run.
    """

    def __init__(self, perceptual: PerceptualDistance | None, cameras: int = 1) -> None:
        self.tally = Tally()
        self.not_finite = 0
        self._cameras = cameras
        self.strips: list[LongStrip] = []
        self._perceptual = perceptual

    def score(self, free: FreeRuns, pictures: Pictures) -> None:
        """Score every run at every mark that it reaches."""
        for run in free.scored():
            reached = run.marks(free.marks)
            finite = {name: at for name, at in reached.items() if _finite(run, at, pictures)}
            self.not_finite += finite != reached
            for name, at in finite.items():
                self._score_mark(run, name, at, pictures)
            shown = {
                who: {name: found[run.number, at] for name, at in reached.items()
                      if (run.number, at) in found}
                for who, found in pictures.items()
            }  # fmt: skip
            truths = {name: run.truths[at] for name, at in reached.items()}
            self.strips.append(LongStrip(run.number, run.last_HWC, truths, shown))

    def results(self, free: FreeRuns) -> dict[str, Any]:
        """Return the means, for JSON: metric -> contender -> mark -> value, and of how many
        pictures, one for each camera of each anchor; `changed_counts` are those of them of which
        a pixel had changed. `anchors` are all that reach a mark, finite or not.
        """
        count = self.tally.count
        return {
            'anchors': [run.number for run in free.scored()],
            'not_finite': self.not_finite,
            'counts': {name: count('psnr_whole', COPY_LAST, name) for name in free.marks},
            'changed_counts': {name: count('psnr', COPY_LAST, name) for name in free.marks},
            **{metric: self.tally.table(metric, free.marks) for metric in METRICS},
        }

    def _score_mark(self, run: Run, name: str, at: int, pictures: Pictures) -> None:
        for who in (*pictures, COPY_LAST):
            for camera in range(self._cameras):
                values: dict[str, list[float]] = {metric: [] for metric in METRICS}
                for ahead in range(at - NEIGHBOURS, at + NEIGHBOURS + 1):
                    shown = _shown(run, ahead, who, pictures)
                    if shown is not None:
                        images = (shown, run.truths[ahead], run.last_HWC)
                        views = tuple([untile(image, self._cameras)[camera] for image in images])
                        self._add(values, views, ahead == at)
                for metric, found in values.items():
                    self.tally.add(metric, who, name, float(np.mean(found)) if found else None)

    def _add(
        self,
        values: dict[str, list[float]],
        views: tuple[ImageArray, ...],
        middle: bool,
    ) -> None:
        shown_HWC, truth_HWC, last_HWC = views
        mask_HW = pixels.changed(last_HWC, truth_HWC)
        found: dict[str, float | None] = {
            'psnr': pixels.psnr(shown_HWC, truth_HWC, mask_HW),
            'psnr_whole': pixels.psnr(shown_HWC, truth_HWC),
        }
        found['ssim'], found['ssim_whole'] = pixels.ssim(shown_HWC, truth_HWC, mask_HW)
        if middle and self._perceptual is not None:
            pair = [np.ascontiguousarray(image_HWC)[None] for image_HWC in (shown_HWC, truth_HWC)]
            a, b = (self._perceptual.embed(image_BHWC) for image_BHWC in pair)
            found['perceptual'], found['perceptual_whole'] = distances(
                self._perceptual, a, b, mask_HW
            )
        for metric, value in found.items():
            values[metric] += [] if value is None else [value]


def _finite(run: Run, at: int, pictures: Pictures) -> bool:
    """Whether every contender has all its pictures around a mark."""
    around = [n for n in range(at - NEIGHBOURS, at + NEIGHBOURS + 1) if n in run.truths]
    return all((run.number, n) in found for found in pictures.values() for n in around)


def _shown(run: Run, ahead: int, who: str, pictures: Pictures) -> ImageArray | None:
    """Return what a contender shows; None where the camera has nothing."""
    if ahead not in run.truths:
        return None
    return run.last_HWC if who == COPY_LAST else pictures[who][run.number, ahead]
