"""What a planner wants, as ObjectiveTerm messages: one function per kind of term.

Axes: H W pixels, C channels, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header
from wm_ros_msgs.msg import ObjectiveTerm

from wm_ros.datatypes import ImageArray
from wm_ros.nodes import convert

Pictures: TypeAlias = 'ImageArray | Image | Sequence[ImageArray | Image]'


def goal_image(
    pictures: Pictures, *, weight: float = 1.0, over: str = ObjectiveTerm.LAST
) -> ObjectiveTerm:
    """Ask for frames that look like a picture.

    Args:
        pictures: one, or several alternatives of which the nearest counts: each uint8 RGB
            [H, W, 3] or sensor_msgs/Image, of the model's size, or as the camera sends them.
        weight: of the term.
        over: `last` frame, `mean` over the frames, or `best` of them.
    """
    if isinstance(pictures, Image) or (isinstance(pictures, np.ndarray) and pictures.ndim == 3):
        pictures = [pictures]
    goals = [_message(picture) for picture in pictures]
    return ObjectiveTerm(kind=ObjectiveTerm.GOAL_IMAGE, weight=weight, goals=goals, over=over)


def goal_region(
    pictures: Pictures,
    region: Sequence[int],
    *,
    weight: float = 1.0,
    over: str = ObjectiveTerm.LAST,
) -> ObjectiveTerm:
    """Ask for frames that look like a picture in one part of it.

    Args:
        pictures: as in `goal_image`.
        region: (left, top, width, height), px of the pictures.
        weight: of the term.
        over: as in `goal_image`.
    """
    term = goal_image(pictures, weight=weight, over=over)
    term.kind = ObjectiveTerm.GOAL_REGION
    left, top, width, height = region
    term.region = RegionOfInterest(x_offset=left, y_offset=top, width=width, height=height)
    return term


def smoothness(weight: float = 1.0) -> ObjectiveTerm:
    """Ask for actions that change evenly; mean squared second difference, normalised."""
    return ObjectiveTerm(kind=ObjectiveTerm.SMOOTHNESS, weight=weight)


def action_limits(
    low_A: npt.ArrayLike | None = None, high_A: npt.ArrayLike | None = None, weight: float = 1.0
) -> ObjectiveTerm:
    """Ask for actions inside limits that are tighter than the contract's.

    Args:
        low_A: lower limits in the actions' physical units; None for the contract's.
        high_A: upper limits, likewise.
        weight: of the term.
    """
    term = ObjectiveTerm(kind=ObjectiveTerm.ACTION_LIMITS, weight=weight)
    if low_A is not None:
        term.low = convert.float_array(low_A)
    if high_A is not None:
        term.high = convert.float_array(high_A)
    return term


def reward(weight: float = 1.0) -> ObjectiveTerm:
    """Ask for what the package's reward head rewards."""
    return ObjectiveTerm(kind=ObjectiveTerm.REWARD, weight=weight)


def _message(picture: Any) -> Image:
    if isinstance(picture, Image):
        return picture
    return convert.image_message(picture, Header())
