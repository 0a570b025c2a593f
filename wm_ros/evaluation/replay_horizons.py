"""Futures by horizon: PSNR at every one of 25 frames, SSIM and perceptual distance at four, and
what true actions gain over held and late ones.

In: futures. Out: means by horizon, and a short score of each future for choosing pictures.

Axes: T time, H W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import metrics
from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay_futures import HELD, HORIZON, LATE, TRUE, Future
from wm_ros.evaluation.replay_hooks import PerceptualDistance
from wm_ros.evaluation.replay_tally import COPY_LAST, HOLD_LAST, MODEL, SHIFTED, Tally

MARKS = (1, 5, 10, 25)
JUDGED = 10  # frames ahead at which a whole future is judged for choosing pictures
BY_FRAME = ('psnr', 'psnr_whole', 'delta_hold', 'delta_shifted')
BY_MARK = ('ssim', 'perceptual')


@dataclass(frozen=True)
class Verdict:
    """One future in short, 10 frames ahead.

    Attributes:
        psnr_db: model, changed pixels; None where nothing changed.
        copy_db: copy of the anchor's frame.
        changed_share: pixels that changed, 0 to 1.
    """

    psnr_db: float | None
    copy_db: float | None
    changed_share: float


class Horizons:
    """Collects the scores of futures.

    Args:
        perceptual: the distance, None to leave it out.
    """

    def __init__(self, perceptual: PerceptualDistance | None) -> None:
        self.tally = Tally()
        self.futures = 0
        self._perceptual = perceptual
        self._features: dict[int, Any] = {}  # step -> of its true frame; the newest only

    def score(self, future: Future) -> Verdict:
        """Compare a future with what came; frames that are missing are left out."""
        self.futures += 1
        verdict = Verdict(None, None, 0.0)
        for horizon in range(1, HORIZON + 1):
            truth_HWC = future.truths[horizon - 1]
            if truth_HWC is None:
                continue
            mask_HW = pixels.changed(future.last_HWC, truth_HWC)
            self._score_pixels(future, horizon, truth_HWC, mask_HW)
            if horizon in MARKS:
                self._score_mark(future, horizon, truth_HWC)
            if horizon == JUDGED:
                verdict = _verdict(future, truth_HWC, mask_HW)
        self._forget(future.number)
        return verdict

    def results(self) -> dict[str, Any]:
        """Return the means, for JSON: metric -> contender -> horizon -> value, and counts."""
        frames = range(1, HORIZON + 1)
        counts = {str(h): self.tally.count('psnr_whole', COPY_LAST, h) for h in frames}
        changed = {str(h): self.tally.count('psnr', COPY_LAST, h) for h in frames}
        return {
            'anchors': self.futures,
            'counts': counts,
            'changed_counts': changed,
            **{metric: self.tally.table(metric, frames) for metric in BY_FRAME},
            **{metric: self.tally.table(metric, MARKS) for metric in BY_MARK},
        }

    def _score_pixels(
        self, future: Future, horizon: int, truth_HWC: ImageArray, mask_HW: pixels.MaskArray
    ) -> None:
        add, at = self.tally.add, horizon - 1
        for who, frames_BTHWC in future.imagined_BTHWC.items():
            true_db, held_db, late_db = (
                pixels.psnr(frames_BTHWC[row, at], truth_HWC, mask_HW)
                for row in (TRUE, HELD, LATE)
            )
            add('psnr', who, horizon, true_db)
            add('psnr_whole', who, horizon, pixels.psnr(frames_BTHWC[TRUE, at], truth_HWC))
            add('delta_hold', who, horizon, _less(true_db, held_db))
            add('delta_shifted', who, horizon, _less(true_db, late_db))
            if who == MODEL:
                add('psnr', HOLD_LAST, horizon, held_db)
                add('psnr', SHIFTED, horizon, late_db)
        add('psnr', COPY_LAST, horizon, pixels.psnr(future.last_HWC, truth_HWC, mask_HW))
        add('psnr_whole', COPY_LAST, horizon, pixels.psnr(future.last_HWC, truth_HWC))

    def _score_mark(self, future: Future, horizon: int, truth_HWC: ImageArray) -> None:
        for who, frames_BTHWC in future.imagined_BTHWC.items():
            shown_HWC = frames_BTHWC[TRUE, horizon - 1]
            self.tally.add('ssim', who, horizon, metrics.ssim(shown_HWC, truth_HWC))
            if self._perceptual is not None:
                features = self._perceptual.embed(np.ascontiguousarray(shown_HWC)[None])
                self._add_perceptual(who, future, horizon, features)
        copy = metrics.ssim(future.last_HWC, truth_HWC)
        self.tally.add('ssim', COPY_LAST, horizon, copy)
        if self._perceptual is not None:
            last = self._features_of(future, 0)
            self._add_perceptual(COPY_LAST, future, horizon, last)

    def _add_perceptual(self, who: str, future: Future, horizon: int, features: Any) -> None:
        if self._perceptual is None:
            return
        truth = self._features_of(future, horizon)
        (distance,) = self._perceptual.between(features, truth)
        self.tally.add('perceptual', who, horizon, float(distance))

    def _features_of(self, future: Future, horizon: int) -> Any:
        number = future.number + horizon
        if number not in self._features and self._perceptual is not None:
            image_HWC = future.last_HWC if horizon == 0 else future.truths[horizon - 1]
            if image_HWC is None:
                raise LookupError(f'step {number} has no frame')
            self._features[number] = self._perceptual.embed(np.ascontiguousarray(image_HWC)[None])
        return self._features[number]

    def _forget(self, number: int) -> None:
        self._features = {n: found for n, found in self._features.items() if n > number}


def _less(a_db: float | None, b_db: float | None) -> float | None:
    return None if a_db is None or b_db is None else a_db - b_db


def _verdict(future: Future, truth_HWC: ImageArray, mask_HW: pixels.MaskArray) -> Verdict:
    frames_BTHWC = future.imagined_BTHWC.get(MODEL)
    model_db = None
    if frames_BTHWC is not None:
        model_db = pixels.psnr(frames_BTHWC[TRUE, JUDGED - 1], truth_HWC, mask_HW)
    copy_db = pixels.psnr(future.last_HWC, truth_HWC, mask_HW)
    return Verdict(model_db, copy_db, float(mask_HW.mean()))
