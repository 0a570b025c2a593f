"""The film of a replay: camera beside what had been imagined for that instant about a second
before, at most two minutes, evenly thinned where the bag is longer.

In: steps, and futures as they are made. Out: frames of an MP4, written as they come.

Each frame shows the future in which it lies 16 to 25 frames ahead; anchors are 10 frames apart, so
that is one. The film lags behind the bag by as long as a future may take to be imagined.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import pictures
from wm_ros.evaluation.replay_futures import EVERY, HORIZON, LONGEST_WAIT, TRUE, Future
from wm_ros.evaluation.replay_window import Moment, Window

LONGEST_S = 120.0
PANEL_PX = 192
BEHIND = LONGEST_WAIT
NOTHING = 128  # grey: no future covers this frame


def stride_of(frames: int, rate_hz: float) -> int:
    """Return how many steps of the bag one frame of the film stands for."""
    return max(1, math.ceil(frames / (LONGEST_S * rate_hz)))


class Film:
    """Draws the film.

    Args:
        video: where frames go.
        contenders: their names, one panel each.
        window: holds the newest steps.
        stride: every how many steps a frame is drawn.
        period_s: seconds from step to step.
    """

    def __init__(
        self,
        video: pictures.Video,
        contenders: Sequence[str],
        window: Window,
        stride: int,
        period_s: float,
    ) -> None:
        self._video = video
        self._contenders = contenders
        self._window = window
        self._stride = stride
        self._period_s = period_s
        self._next = 0
        self._imagined: dict[int, dict[str, tuple[int, ImageArray]]] = {}

    def add(self, future: Future) -> None:
        """Take what a future shows of frames 16 to 25 ahead."""
        for ahead in range(HORIZON - EVERY + 1, HORIZON + 1):
            self._imagined[future.number + ahead] = {
                who: (ahead, frames_BTHWC[TRUE, ahead - 1].copy())
                for who, frames_BTHWC in future.imagined_BTHWC.items()
            }

    def advance(self, newest: int, *, to_the_end: bool = False) -> None:
        """Draw the steps that nothing can be added to any more, or all that are left."""
        last = newest if to_the_end else newest - BEHIND
        while self._next <= last:
            moment = self._window.at(self._next)
            shown = self._imagined.pop(self._next, {})
            if moment is not None and self._next % self._stride == 0:
                self._draw(moment, shown)
            self._next += 1

    def _draw(self, moment: Moment, shown: dict[str, tuple[int, ImageArray]]) -> None:
        truth_HWC = moment.image_HWC
        if truth_HWC is None:
            return
        blank_HWC = np.full_like(truth_HWC, NOTHING)
        panels = {f'camera {moment.number * self._period_s:7.2f} s': truth_HWC}
        for who in self._contenders:
            ahead, image_HWC = shown.get(who, (0, blank_HWC))
            text = f'{who}, {ahead} ahead' if ahead else f'{who}: nothing'
            panels[text] = image_HWC
            gap_HWC = pictures.difference(truth_HWC, image_HWC) if ahead else blank_HWC
            panels[f'difference x{pictures.DIFFERENCE_GAIN}' + ' ' * len(panels)] = gap_HWC
        self._video.add(_picture(panels))


def _picture(panels: dict[str, ImageArray]) -> ImageArray:
    large = [pictures.enlarge(image_HWC, PANEL_PX) for image_HWC in panels.values()]
    heads = [pictures.label(text, large[0].shape[1]) for text in panels]
    picture_HWC = np.vstack([np.hstack(heads), np.hstack(large)])
    height, width = picture_HWC.shape[:2]
    return np.ascontiguousarray(picture_HWC[: height // 2 * 2, : width // 2 * 2])  # H.264: even
