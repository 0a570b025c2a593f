"""Frames and commands into a bag as a robot would have sent them: for simulators and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.bag.record import BagRecorder
from wm_ros.bag.types import BagError, ros_types
from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray
from wm_ros.sources import ACTION, COMPRESSED_IMAGE, IMAGE, JOINT_STATE

STRING = 'std_msgs/msg/String'


def header(stamp_ns: int, frame_id: str = '') -> Any:
    """Make a std_msgs/msg/Header."""
    types = ros_types().types
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds)
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def image_bytes(image_HWC: ImageArray, stamp_ns: int, frame_id: str = '') -> bytes:
    """Serialise a uint8 RGB image [H, W, 3] as sensor_msgs/msg/Image, rgb8."""
    height, width, _ = image_HWC.shape
    message = ros_types().types[IMAGE](
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=width * 3,
        data=np.ascontiguousarray(image_HWC).reshape(-1),
    )
    return bytes(ros_types().serialize_cdr(message, IMAGE))


def action_bytes(values_A: npt.ArrayLike, stamp_ns: int) -> bytes:
    """Serialise commands in their own units, in order, as wm_ros_msgs/msg/Action."""
    message = ros_types().types[ACTION](
        header=header(stamp_ns), values=np.asarray(values_A, np.float32)
    )
    return bytes(ros_types().serialize_cdr(message, ACTION))


def compressed_image_bytes(data: bytes, kind: str, stamp_ns: int, frame_id: str = '') -> bytes:
    """Serialise an encoded image, `kind` png or jpeg, as sensor_msgs/msg/CompressedImage."""
    message = ros_types().types[COMPRESSED_IMAGE](
        header=header(stamp_ns, frame_id), format=kind, data=np.frombuffer(data, np.uint8)
    )
    return bytes(ros_types().serialize_cdr(message, COMPRESSED_IMAGE))


def joint_state_bytes(names: Sequence[str], positions_D: npt.ArrayLike, stamp_ns: int) -> bytes:
    """Serialise positions, float64 [D], by name as sensor_msgs/msg/JointState."""
    message = ros_types().types[JOINT_STATE](
        header=header(stamp_ns),
        name=list(names),
        position=np.asarray(positions_D, np.float64),
        velocity=np.empty(0),
        effort=np.empty(0),
    )
    return bytes(ros_types().serialize_cdr(message, JOINT_STATE))


def string_bytes(text: str) -> bytes:
    """Serialise a std_msgs/msg/String."""
    return bytes(ros_types().serialize_cdr(ros_types().types[STRING](data=text), STRING))


class StreamRecorder:
    """Writes what a simple contract describes: one raw camera and one Action topic.

    Args:
        recorder: an open bag.
        contract: names the topics.

    Raises:
        BagError: the contract has not one raw camera, or its commands are not one Action topic.
    """

    def __init__(self, recorder: BagRecorder, contract: StreamContract) -> None:
        cameras = [camera.type for camera in contract.cameras]
        types = (*cameras, *[source.type for source in contract.actions])
        if types != (IMAGE, ACTION):
            raise BagError(f'contract {contract.name!r} has {types}, expected {(IMAGE, ACTION)}')
        self._recorder = recorder
        self._camera, self._command = contract.camera.topic, contract.actions[0].topic
        recorder.add_topic(self._camera, IMAGE)
        recorder.add_topic(self._command, ACTION)

    def write_frame(self, image_HWC: ImageArray, stamp_ns: int, frame_id: str = 'camera') -> None:
        """Record one frame, received at its stamp."""
        self._recorder.write(
            self._camera, IMAGE, image_bytes(image_HWC, stamp_ns, frame_id), stamp_ns
        )

    def write_action(self, values_A: npt.ArrayLike, stamp_ns: int) -> None:
        """Record one command, received at its stamp."""
        self._recorder.write(self._command, ACTION, action_bytes(values_A, stamp_ns), stamp_ns)
