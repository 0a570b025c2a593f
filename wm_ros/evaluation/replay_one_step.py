"""One frame ahead: what each contender predicted for a frame, against the frame and a copy of the
last one.

In: two neighbouring steps. Out: means over the bag and over parts of it. Ratios are ratios of
sums. The pictures of several cameras are compared one by one, each as one more frame.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import replay_pixels as pixels
from wm_ros.evaluation.replay_tally import COPY_LAST, MODEL, Tally, Timeline, rounded
from wm_ros.evaluation.replay_window import Moment
from wm_ros.tiles import untile

METRICS = ('psnr', 'psnr_whole', 'ssim', 'ssim_whole', 'sharpness', 'motion', 'drift')
CURVES = ('psnr', 'psnr_whole')


class OneStep:
    """Collects the scores of one-step predictions.

    Args:
        timeline: parts of the bag for the curves.
        contenders: their names.
        cameras: that share a frame.

    Attributes:
        frames: pictures compared.
        changed_frames: those of them in which a pixel changed.
        not_finite: pictures left out, since a contender had no prediction for them.
    """

    def __init__(
        self, timeline: Timeline, contenders: Sequence[str] = (MODEL,), cameras: int = 1
    ) -> None:
        self.tally = Tally()
        self.curves = Tally()
        self.frames = 0
        self.changed_frames = 0
        self.not_finite = 0
        self._contenders = tuple(contenders)
        self._timeline = timeline
        self._cameras = cameras

    def score(self, before: Moment | None, now: Moment) -> None:
        """Compare a frame with what was predicted for it; nothing where either is missing, where
        a reset lies between, or where not every contender predicted it.
        """
        if before is None or now.step.reset is not None:
            return
        last_HWC, truth_HWC = before.image_HWC, now.image_HWC
        if last_HWC is None or truth_HWC is None:
            return
        if not all(who in now.predicted for who in self._contenders):
            self.not_finite += self._cameras
            return
        part = self._timeline.part_of(now.number)
        shown_HWC = {**now.predicted, COPY_LAST: last_HWC}
        for camera in range(self._cameras):
            last, truth, *shown = (
                untile(image_HWC, self._cameras)[camera]
                for image_HWC in (last_HWC, truth_HWC, *shown_HWC.values())
            )
            self._score(part, last, truth, dict(zip(shown_HWC, shown, strict=True)))

    def _score(
        self,
        part: int,
        last_HWC: ImageArray,
        truth_HWC: ImageArray,
        shown: Mapping[str, ImageArray],
    ) -> None:
        """Score the pictures of one camera."""
        mask_HW = pixels.changed(last_HWC, truth_HWC)
        self.frames += 1
        self.changed_frames += bool(mask_HW.any())
        errors = _Truth(last_HWC, truth_HWC)
        for who, shown_HWC in shown.items():
            changed_db = pixels.psnr(shown_HWC, truth_HWC, mask_HW)
            whole_db = pixels.psnr(shown_HWC, truth_HWC)
            self.tally.add('psnr', who, '', changed_db)
            self.tally.add('psnr_whole', who, '', whole_db)
            changed, whole = pixels.ssim(shown_HWC, truth_HWC, mask_HW)
            self.tally.add('ssim', who, '', changed)
            self.tally.add('ssim_whole', who, '', whole)
            self.curves.add('psnr', who, part, changed_db)
            self.curves.add('psnr_whole', who, part, whole_db)
            errors.add_ratios(self.tally, who, shown_HWC)

    def results(self) -> dict[str, Any]:
        """Return the means, for JSON: metric -> contender -> value."""
        means: Mapping[str, Any] = {
            metric: {
                who: rounded(self.tally.mean(metric, who)) for who in self.tally.contenders(metric)
            }
            for metric in METRICS
        }
        return {
            'frames': self.frames,
            'changed_frames': self.changed_frames,
            'not_finite': self.not_finite,
            **means,
        }


class _Truth:
    """What the ratios of one frame divide by."""

    def __init__(self, last_HWC: ImageArray, truth_HWC: ImageArray) -> None:
        self._last_HWC, self._truth_HWC = last_HWC, truth_HWC
        self._energy = pixels.gradient_energy(truth_HWC)
        self._motion = pixels.motion(last_HWC, truth_HWC)
        self._copy_error = pixels.squared_error(last_HWC, truth_HWC) or 0.0

    def add_ratios(self, tally: Tally, who: str, shown_HWC: ImageArray) -> None:
        energy = pixels.gradient_energy(shown_HWC)
        moved = pixels.motion(self._last_HWC, shown_HWC)
        error = pixels.squared_error(shown_HWC, self._truth_HWC)
        tally.add('sharpness', who, '', energy, self._energy)
        tally.add('motion', who, '', moved, self._motion)
        tally.add('drift', who, '', error, self._copy_error)
