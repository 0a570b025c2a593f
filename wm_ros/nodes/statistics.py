"""Counters and short histories of one session: bounded in size, read by the status timer.

Written by the inference thread, read by another one; each entry is one assignment, so no lock is
needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray, ResetReason
from wm_ros.evaluation.metrics import psnr

SILENT_S = 1.0  # a camera that is silent for longer takes no time
MOST_SHARE = 0.9


@dataclass
class Ring:
    """The newest `size` numbers, preallocated."""

    size: int
    values: npt.NDArray[np.float32] = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.values = np.full(self.size, np.nan, np.float32)

    def add(self, value: float) -> None:
        """Keep one more number, forget the oldest."""
        self.values[self.count % self.size] = value
        self.count += 1

    def mean(self) -> float:
        """Mean of what is held; NaN when empty."""
        return float(np.nanmean(self.values)) if self.count else float('nan')

    def percentile(self, percent: float) -> float:
        """Percentile of what is held; NaN when empty."""
        return float(np.nanpercentile(self.values, percent)) if self.count else float('nan')


class Statistics:
    """What the status message and the diagnostics say about the running session.

    Attributes:
        predictions: frames answered with a prediction.
        deadline_misses: predictions later than one frame period after reception.
        resets: memories started afresh.
        not_finite: steps whose output was not finite (each starts the memory afresh).
        note: text of the newest trouble.
        camera_monotonic_ns: reception of the newest message of the (first) camera; 0 before it.
        view_monotonic_ns: the same for every further camera that has been heard, by topic.
        action_monotonic_ns: the same for commands.
        step_ms: time that the inference thread took for each of the newest frames.
    """

    def __init__(self, frames: int, period_ns: int) -> None:
        self.period_ms = period_ns / 1e6
        self.predictions = 0
        self.deadline_misses = 0
        self.resets = 0
        self.not_finite = 0
        self.note = ''
        self.last_reset: ResetReason | None = None
        self.camera_monotonic_ns = 0
        self.view_monotonic_ns: dict[str, int] = {}
        self.action_monotonic_ns = 0
        self.latency_ms = Ring(frames)
        self.step_ms = Ring(frames)
        self.drift_db = Ring(frames)
        self.copy_last_db = Ring(frames)

    def add_latency(self, latency_ms: float) -> None:
        """Count one published prediction, and a miss when it came later than the next frame."""
        self.predictions += 1
        self.latency_ms.add(latency_ms)
        self.deadline_misses += latency_ms > self.period_ms

    def stream_share(self, monotonic_ns: int) -> float:
        """Return the share of its time that the inference thread gives to frames at an instant."""
        silent_s = (monotonic_ns - self.camera_monotonic_ns) / 1e9
        if silent_s > SILENT_S or not self.step_ms.count:
            return 0.0
        return min(self.step_ms.mean() / self.period_ms, MOST_SHARE)

    def add_drift(
        self, seen_HWC: ImageArray, predicted_HWC: ImageArray, before_HWC: ImageArray
    ) -> None:
        """Compare a frame with its prediction and with the frame before it."""
        self.drift_db.add(psnr(seen_HWC, predicted_HWC))
        self.copy_last_db.add(psnr(seen_HWC, before_HWC))
