"""From an ObjectiveTerm message to a term of an objective, or the reason why not.

Axes: A action, G goals, H W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from wm_ros_msgs.msg import ObjectiveTerm

from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.messages import raw_image
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import GoalPictures, Region, Term
from wm_ros.planning.objectives import LAST, ActionLimits, Reward, Smoothness, check_over
from wm_ros.planning.query import Limits
from wm_ros.preprocess import crop_box, crop_resize
from wm_ros.rejection import RejectedInput
from wm_ros.sources import CropBox

GOAL_FIELDS = ('goals', 'over')
FIELDS = {
    ObjectiveTerm.GOAL_IMAGE: GOAL_FIELDS,
    ObjectiveTerm.GOAL_REGION: (*GOAL_FIELDS, 'region'),
    ObjectiveTerm.SMOOTHNESS: (),
    ObjectiveTerm.ACTION_LIMITS: ('low', 'high'),
    ObjectiveTerm.REWARD: (),
}


def terms(
    messages: Sequence[ObjectiveTerm], contract: StreamContract, limits: Limits
) -> tuple[Term, ...]:
    """Return the terms of an objective. Pictures are decoded in the caller's thread, so how many
    and how large they are is looked at first.

    Raises:
        QueryError: INVALID_OBJECTIVE, INVALID_GOAL or NOT_FINITE.
    """
    if len(messages) > limits.terms:
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE,
            f'{len(messages)} objective terms: at most {limits.terms}',
        )
    for message in messages:
        if len(message.goals) > limits.goals:
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'{message.kind}: {len(message.goals)} goal pictures, at most {limits.goals}',
            )
    pixels = sum(goal.height * goal.width for message in messages for goal in message.goals)
    if pixels > limits.goal_pixels:
        raise QueryError(
            QueryCode.INVALID_GOAL,
            f'goal pictures of {pixels} px in all: at most {limits.goal_pixels}; send them in '
            "the model's size",
        )
    return tuple([term(message, contract) for message in messages])


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
    if len(values) not in (0, contract.action_width):
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE,
            f'action_limits: {len(values)} limits, contract {contract.name} has '
            f'{contract.action_width} action entries',
        )
    values_A = np.asarray(values if len(values) else default_A, np.float64)
    if not np.isfinite(values_A).all():
        raise QueryError(QueryCode.NOT_FINITE, 'action_limits: a limit is not finite')
    return contract.normalise(values_A)


def _goal(message: ObjectiveTerm, contract: StreamContract) -> Term:
    if not message.goals:
        raise QueryError(QueryCode.INVALID_GOAL, f'{message.kind}: no goal picture')
    check_over(message.over or LAST)
    size = contract.image_size
    sides = {(goal.height, goal.width) for goal in message.goals}
    height, width = message.goals[0].height, message.goals[0].width
    crop = None if (height, width) == (size, size) else contract.camera.crop
    if len(sides) > 1:
        raise QueryError(QueryCode.INVALID_GOAL, f'goal pictures of {len(sides)} sizes')
    if len(contract.cameras) > 1 and (height, width) != (size, size):
        raise QueryError(
            QueryCode.INVALID_GOAL,
            f'goals of {width} x {height} px: contract {contract.name} has '
            f'{len(contract.cameras)} cameras, a goal is the picture of all, {size} x {size} px, '
            'as in ~/prediction',
        )
    if min(height, width) < size:
        raise QueryError(
            QueryCode.INVALID_GOAL,
            f'goals of {width} x {height} px: expected {size} x {size} px or larger',
        )
    try:
        crop_box(height, width, crop)
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
    images_GHWC = np.stack(
        [_picture(index, goal, crop, size) for index, goal in enumerate(message.goals)]
    )
    return GoalPictures(
        images_GHWC, message.weight, region, over=message.over or LAST, name=message.kind
    )


def _picture(index: int, message: Any, crop: CropBox | None, size: int) -> ImageArray:
    try:
        return crop_resize(raw_image(message), crop, size)
    except RejectedInput as error:
        raise QueryError(QueryCode.INVALID_GOAL, f'goal {index}: {error.detail}') from error
