"""Filmstrips of a replay: camera, what was imagined, a copy of the last frame, the difference.

In: strips of pictures. Out: one sheet each. Chooses and measures nothing.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import pictures
from wm_ros.evaluation.replay_marks import LongStrip
from wm_ros.evaluation.replay_moments import Strip
from wm_ros.evaluation.replay_tally import MODEL

NOTHING = 128  # grey: not predicted


def future_sheet(strip: Strip) -> ImageArray:
    """Return one re-anchored future: the anchor's frame, then 1, 5, 10 and 25 frames ahead."""
    return _sheet(strip, [f'{horizon} ahead' for horizon in strip.truths])


def long_sheet(strip: LongStrip) -> ImageArray:
    """Return one free-running future: the anchor's frame, then every mark that it reached."""
    return _sheet(strip, [f'{name[:-1]} s ahead' for name in strip.truths])


def _sheet(strip: Strip | LongStrip, captions: list[str]) -> ImageArray:
    last_HWC = strip.last_HWC
    blank_HWC = np.full_like(last_HWC, NOTHING)
    truths: Mapping[Any, ImageArray] = strip.truths
    shown: Mapping[str, Mapping[Any, ImageArray]] = strip.shown
    rows = {'camera': [last_HWC, *truths.values()]}
    for who, found in shown.items():
        rows[who] = [last_HWC, *[found.get(key, blank_HWC) for key in truths]]
    rows['copy last'] = [last_HWC for _ in rows['camera']]
    if MODEL in shown:
        rows[f'diff. x{pictures.DIFFERENCE_GAIN}'] = [
            pictures.difference(a, b) for a, b in zip(rows['camera'], rows[MODEL], strict=True)
        ]
    return pictures.sheet(rows, [f'step {strip.number}', *captions])
