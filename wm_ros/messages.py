"""From a ROS message to an image or to commands, by the contract, for live node and bag reader.

Messages are read by their field names only, so an rclpy message and a `rosbags` message are the
same here. Nothing here imports ROS, and nothing here looks at a clock: the time of receipt is
passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray
from wm_ros.preprocess import decode_compressed, decode_raw
from wm_ros.rejection import RejectedInput, RejectReason
from wm_ros.sources import (
    ACTION,
    COMPRESSED_IMAGE,
    FLOAT32_ARRAY,
    FLOAT64_ARRAY,
    JOINT_FIELDS,
    JOINT_STATE,
    JOINT_TRAJECTORY,
    TWIST_STAMPED,
    ActionSource,
    CameraSource,
)

CommandValues = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Command:
    """One command of one source, in its own units, before normalisation.

    Attributes:
        values_E: float64 [E], one per entry of the source; for twists the six velocities
            (linear x y z, angular x y z).
        stamp_ns: instant from which it is in force.
        planned: part of a trajectory, so its stamp may lie ahead of now.
    """

    values_E: CommandValues
    stamp_ns: int
    planned: bool = False


def stamp_to_ns(stamp: Any) -> int:
    """Turn a builtin_interfaces Time or Duration (`sec`, `nanosec`) into nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def image_from_message(camera: CameraSource, message: Any) -> ImageArray:
    """Decode one camera message.

    Returns:
        uint8 RGB [H, W, 3], the whole image of the camera.

    Raises:
        RejectedInput: encoding, size, padding or broken compressed data.
    """
    if camera.type == COMPRESSED_IMAGE:
        return decode_compressed(message.data, message.format)
    return raw_image(message)


def raw_image(message: Any) -> ImageArray:
    """Decode a sensor_msgs Image; uint8 RGB [H, W, 3].

    Raises:
        RejectedInput: encoding, size or padding.
    """
    return decode_raw(
        message.data,
        message.height,
        message.width,
        message.step,
        message.encoding,
        bool(message.is_bigendian),
    )


def commands_from_message(
    source: ActionSource, message: Any, receive_ns: int
) -> tuple[Command, ...]:
    """Take a source's entries from one message of its type.

    Args:
        source: the contract's description of the topic.
        message: the message.
        receive_ns: time of receipt; used where the contract says `stamp: receive`.

    Returns:
        One command; for a trajectory one per point, each in force from the time of the point
        before.

    Raises:
        RejectedInput: wrong width, or a joint that the message does not name.
    """
    at_ns = receive_ns if source.stamp == 'receive' else stamp_to_ns(message.header.stamp)
    if source.type == JOINT_TRAJECTORY:
        return _trajectory(source, message, at_ns or receive_ns)
    if source.type == JOINT_STATE:
        values_E = _by_name(
            source, message.name, getattr(message, JOINT_FIELDS[JOINT_STATE][source.field])
        )
    elif source.type == ACTION:
        values_E = _in_order(source, message.values)
    elif source.type in (FLOAT64_ARRAY, FLOAT32_ARRAY):
        values_E = _in_order(source, message.data)
    else:
        twist = message.twist if source.type == TWIST_STAMPED else message
        parts = (
            twist.linear.x,
            twist.linear.y,
            twist.linear.z,
            twist.angular.x,
            twist.angular.y,
            twist.angular.z,
        )
        values_E = np.array(parts, np.float64)
    return (Command(values_E, at_ns),)


def _trajectory(source: ActionSource, message: Any, start_ns: int) -> tuple[Command, ...]:
    """Give each point as the goal in force from the time of the point before."""
    commands = []
    from_ns = start_ns
    for point in message.points:
        numbers = getattr(point, JOINT_FIELDS[JOINT_TRAJECTORY][source.field])
        values_E = _by_name(source, message.joint_names, numbers)
        commands.append(Command(values_E, from_ns, planned=True))
        from_ns = start_ns + stamp_to_ns(point.time_from_start)
    if not commands:
        raise RejectedInput(RejectReason.WIDTH, f'{source.topic}: trajectory without points')
    return tuple(commands)


def _in_order(source: ActionSource, numbers: Any) -> CommandValues:
    values_E = np.array(numbers, np.float64)
    if values_E.shape != (len(source.entries),):
        raise RejectedInput(
            RejectReason.WIDTH,
            f'{source.topic}: {values_E.size} values, expected {len(source.entries)}',
        )
    return values_E


def _by_name(source: ActionSource, names: Any, numbers: Any) -> CommandValues:
    given = list(names)
    if len(given) != len(numbers):
        raise RejectedInput(
            RejectReason.WIDTH,
            f'{source.topic}: {len(numbers)} {source.field} values for {len(given)} joint names',
        )
    by_name = dict(zip(given, numbers, strict=True))
    if missing := [entry.name for entry in source.entries if entry.name not in by_name]:
        raise RejectedInput(
            RejectReason.MISSING_ENTRY,
            f'{source.topic}: no {source.field} for '
            f'{", ".join(missing)}; found {", ".join(given) or "no names"}',
        )
    return np.array([by_name[entry.name] for entry in source.entries], np.float64)
