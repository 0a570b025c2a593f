"""Futures by horizon: PSNR at every one of 25 frames, SSIM and perceptual distance at four, and
what true actions gain over held and late ones.

In: futures. Out: means by horizon, and a short score of each future for choosing pictures. The
pictures of several cameras are compared one by one, each as one more.

Axes: T time, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay_futures import HELD, HORIZON, LATE, TRUE, Future
from wm_ros.evaluation.replay_hooks import PerceptualDistance, distances
from wm_ros.evaluation.replay_tally import COPY_LAST, HOLD_LAST, MODEL, SHIFTED, Tally

MARKS = (1, 5, 10, 25)
JUDGED = 10  # frames ahead at which a whole future is judged for choosing pictures
BY_FRAME = ('psnr', 'psnr_whole', 'delta_hold', 'delta_shifted')
BY_MARK = ('ssim', 'ssim_whole', 'perceptual', 'perceptual_whole')


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


@dataclass(frozen=True)
class _Sight:
    """What one camera sees of a future, so many frames ahead.

    Attributes:
        camera: its name.
        number: step of the anchor.
        horizon: frames ahead.
        last_HWC: the anchor's frame.
        truth_HWC: what the camera saw.
        mask_HW: 1 where that differs from the anchor's frame.
        shown_BHWC: contender -> what was imagined: with true, held and late commands.
    """

    camera: str
    number: int
    horizon: int
    last_HWC: ImageArray
    truth_HWC: ImageArray
    mask_HW: pixels.MaskArray
    shown_BHWC: Mapping[str, ImageArray]


class Horizons:
    """Collects the scores of futures.

    Args:
        perceptual: the distance, None to leave it out.
        cameras: names of those that share a frame.
    """

    def __init__(
        self, perceptual: PerceptualDistance | None, cameras: Sequence[str] = ('camera',)
    ) -> None:
        self.tally = Tally()
        self.futures = 0
        self._perceptual = perceptual
        self._cameras = tuple(cameras)
        self._by_camera = {name: Tally() for name in cameras}
        # (step, camera) -> of its true picture; the newest only
        self._features: dict[tuple[int, str], Any] = {}

    def score(self, future: Future) -> Verdict:
        """Compare a future with what came; frames that are missing are left out."""
        self.futures += 1
        views = future.of_cameras(len(self._cameras))
        for camera, view in zip(self._cameras, views, strict=True):
            self._score_view(camera, view)
        self._forget(future.number)
        return _verdict(future)

    def _score_view(self, camera: str, view: Future) -> None:
        for horizon in range(1, HORIZON + 1):
            truth_HWC = view.truths[horizon - 1]
            if truth_HWC is None:
                continue
            mask_HW = pixels.changed(view.last_HWC, truth_HWC)
            shown = {who: x[:, horizon - 1] for who, x in view.imagined_BTHWC.items()}
            sight = _Sight(
                camera, view.number, horizon, view.last_HWC, truth_HWC, mask_HW, shown
            )
            self._score_pixels(sight)
            if horizon in MARKS:
                self._score_mark(sight)

    def results(self) -> dict[str, Any]:
        """Return the means, for JSON: metric -> contender -> horizon -> value; how many pictures
        they are means of; PSNR by camera, None where there is one.
        """
        frames = range(1, HORIZON + 1)
        by_camera = {who: tally.table('psnr', MARKS) for who, tally in self._by_camera.items()}
        counts = {str(h): self.tally.count('psnr_whole', COPY_LAST, h) for h in frames}
        changed = {str(h): self.tally.count('psnr', COPY_LAST, h) for h in frames}
        return {
            'anchors': self.futures,
            'counts': counts,
            'changed_counts': changed,
            **{metric: self.tally.table(metric, frames) for metric in BY_FRAME},
            **{metric: self.tally.table(metric, MARKS) for metric in BY_MARK},
            'psnr_by_camera': by_camera if len(by_camera) > 1 else None,
        }

    def _score_pixels(self, sight: _Sight) -> None:
        add, of_camera = self.tally.add, self._by_camera[sight.camera]
        horizon, truth_HWC, mask_HW = sight.horizon, sight.truth_HWC, sight.mask_HW
        for who, shown_BHWC in sight.shown_BHWC.items():
            true_db, held_db, late_db = (
                pixels.psnr(shown_BHWC[row], truth_HWC, mask_HW) for row in (TRUE, HELD, LATE)
            )
            add('psnr', who, horizon, true_db)
            of_camera.add('psnr', who, horizon, true_db)
            add('psnr_whole', who, horizon, pixels.psnr(shown_BHWC[TRUE], truth_HWC))
            add('delta_hold', who, horizon, _less(true_db, held_db))
            add('delta_shifted', who, horizon, _less(true_db, late_db))
            if who == MODEL:
                add('psnr', HOLD_LAST, horizon, held_db)
                add('psnr', SHIFTED, horizon, late_db)
        copy_db = pixels.psnr(sight.last_HWC, truth_HWC, mask_HW)
        add('psnr', COPY_LAST, horizon, copy_db)
        of_camera.add('psnr', COPY_LAST, horizon, copy_db)
        add('psnr_whole', COPY_LAST, horizon, pixels.psnr(sight.last_HWC, truth_HWC))

    def _score_mark(self, sight: _Sight) -> None:
        horizon, truth_HWC, mask_HW = sight.horizon, sight.truth_HWC, sight.mask_HW
        shown = {who: shown_BHWC[TRUE] for who, shown_BHWC in sight.shown_BHWC.items()}
        shown[COPY_LAST] = sight.last_HWC
        for who, shown_HWC in shown.items():
            changed, whole = pixels.ssim(shown_HWC, truth_HWC, mask_HW)
            self.tally.add('ssim', who, horizon, changed)
            self.tally.add('ssim_whole', who, horizon, whole)
        if self._perceptual is None:
            return
        camera, number = sight.camera, sight.number
        truth = self._features_of(self._perceptual, camera, number + horizon, truth_HWC)
        for who, shown_HWC in shown.items():
            if who == COPY_LAST:
                own = self._features_of(self._perceptual, camera, number, shown_HWC)
            else:
                own = self._perceptual.embed(np.ascontiguousarray(shown_HWC)[None])
            changed, whole = distances(self._perceptual, own, truth, mask_HW)
            self.tally.add('perceptual', who, horizon, changed)
            self.tally.add('perceptual_whole', who, horizon, whole)

    def _features_of(
        self, perceptual: PerceptualDistance, camera: str, number: int, image_HWC: ImageArray
    ) -> Any:
        """Return those of a true picture, which several futures ask for."""
        key = (number, camera)
        if key not in self._features:
            self._features[key] = perceptual.embed(np.ascontiguousarray(image_HWC)[None])
        return self._features[key]

    def _forget(self, number: int) -> None:
        self._features = {key: found for key, found in self._features.items() if key[0] > number}


def _less(a_db: float | None, b_db: float | None) -> float | None:
    return None if a_db is None or b_db is None else a_db - b_db


def _verdict(future: Future) -> Verdict:
    truth_HWC = future.truths[JUDGED - 1]
    if truth_HWC is None:
        return Verdict(None, None, 0.0)
    mask_HW = pixels.changed(future.last_HWC, truth_HWC)
    shown_HWC = future.imagined_BTHWC[MODEL][TRUE, JUDGED - 1]
    model_db = pixels.psnr(shown_HWC, truth_HWC, mask_HW)
    copy_db = pixels.psnr(future.last_HWC, truth_HWC, mask_HW)
    return Verdict(model_db, copy_db, float(mask_HW.mean()))
