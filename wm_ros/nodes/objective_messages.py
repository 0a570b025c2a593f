"""From an ObjectiveTerm message to a term of an objective, or the reason why not.

Axes: A action, G goals, H W pixels, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from wm_ros_msgs.msg import ObjectiveTerm

from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import GoalPictures, Region, Term
from wm_ros.planning.objectives import LAST, ActionLimits, Reward, Smoothness
from wm_ros.preprocess import crop_resize, decode_raw
from wm_ros.rejection import RejectedInput

GOAL_FIELDS = ('goals', 'over')
FIELDS = {
    ObjectiveTerm.GOAL_IMAGE: GOAL_FIELDS,
    ObjectiveTerm.GOAL_REGION: (*GOAL_FIELDS, 'region'),
    ObjectiveTerm.SMOOTHNESS: (),
    ObjectiveTerm.ACTION_LIMITS: ('low', 'high'),
    ObjectiveTerm.REWARD: (),
}


def term(message: ObjectiveTerm, contract: StreamContract) -> Term:
    """Return one term of an objective.

    Raises:
        QueryError: INVALID_OBJECTIVE, INVALID_GOAL or NOT_FINITE.
    """
    if message.kind not in FIELDS:
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE,
            f'term of kind {message.kind!r}: expected one of {", ".join(FIELDS)}',
        )
    if not math.isfinite(message.weight):
        raise QueryError(QueryCode.NOT_FINITE, f'{message.kind}: weight is {message.weight}')
    region = message.region
    given = {
        'goals': bool(message.goals),
        'region': bool(region.width or region.height or region.x_offset or region.y_offset),
        'over': bool(message.over),
        'low': bool(message.low),
        'high': bool(message.high),
    }
    strange = [name for name, there in given.items() if there and name not in FIELDS[message.kind]]
    if strange:
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE, f'{message.kind} does not take {", ".join(strange)}'
        )
    if message.kind == ObjectiveTerm.SMOOTHNESS:
        return Smoothness(message.weight)
    if message.kind == ObjectiveTerm.REWARD:
        return Reward(message.weight)
    if message.kind == ObjectiveTerm.ACTION_LIMITS:
        low_A = _limits(message.low, contract.limits_A2[:, 0], contract)
        high_A = _limits(message.high, contract.limits_A2[:, 1], contract)
        return ActionLimits(low_A, high_A, message.weight)
    return _goal(message, contract)


def _limits(values: Any, default_A: Any, contract: StreamContract) -> FloatArray:
    values_A = np.asarray(values if len(values) else default_A, np.float64)
    if values_A.size != contract.action_width:
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE,
            f'action_limits: {values_A.size} limits, contract {contract.name} has '
            f'{contract.action_width} action entries',
        )
    if not np.isfinite(values_A).all():
        raise QueryError(QueryCode.NOT_FINITE, 'action_limits: a limit is not finite')
    return contract.normalise(values_A)


def _goal(message: ObjectiveTerm, contract: StreamContract) -> Term:
    pictures = [_picture(index, goal) for index, goal in enumerate(message.goals)]
    if not pictures:
        raise QueryError(QueryCode.INVALID_GOAL, f'{message.kind}: no goal picture')
    size = contract.image_size
    sides = {picture_HWC.shape[:2] for picture_HWC in pictures}
    height, width = pictures[0].shape[:2]
    crop = None if (height, width) == (size, size) else contract.camera.crop
    if len(sides) > 1:
        raise QueryError(QueryCode.INVALID_GOAL, f'goal pictures of {len(sides)} sizes')
    if min(height, width) < size:
        raise QueryError(
            QueryCode.INVALID_GOAL,
            f'goals of {width} x {height} px: expected {size} x {size} px or larger',
        )
    try:
        images_GHWC = np.stack([crop_resize(picture, crop, size) for picture in pictures])
    except RejectedInput as error:
        raise QueryError(QueryCode.INVALID_GOAL, error.detail) from error
    region = None
    if message.kind == ObjectiveTerm.GOAL_REGION:
        box = message.region
        region = Region.of_camera(
            box.x_offset,
            box.y_offset,
            box.width,
            box.height,
            image_width=width,
            image_height=height,
            crop=crop,
            size=size,
        )
    return GoalPictures(
        images_GHWC, message.weight, region, over=message.over or LAST, name=message.kind
    )


def _picture(index: int, message: Any) -> ImageArray:
    try:
        return decode_raw(
            message.data,
            message.height,
            message.width,
            message.step,
            message.encoding,
            bool(message.is_bigendian),
        )
    except RejectedInput as error:
        raise QueryError(QueryCode.INVALID_GOAL, f'goal {index}: {error.detail}') from error
