"""The parts of a stream contract: one camera, one command topic and its entries, the reset policy.

Each checks itself when it is made, so a contract that exists is a contract that can be used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_ros.contract_fields import ContractError

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
ACTION = 'wm_ros_msgs/msg/Action'
JOINT_STATE = 'sensor_msgs/msg/JointState'
JOINT_TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
TWIST = 'geometry_msgs/msg/Twist'
TWIST_STAMPED = 'geometry_msgs/msg/TwistStamped'
FLOAT64_ARRAY = 'std_msgs/msg/Float64MultiArray'
FLOAT32_ARRAY = 'std_msgs/msg/Float32MultiArray'

CAMERA_TYPES = (IMAGE, COMPRESSED_IMAGE)
TWIST_TYPES = (TWIST, TWIST_STAMPED)
NAMED_TYPES = (JOINT_STATE, JOINT_TRAJECTORY)
HEADERLESS_TYPES = (TWIST, FLOAT64_ARRAY, FLOAT32_ARRAY)
ACTION_TYPES = (ACTION, *NAMED_TYPES, *TWIST_TYPES, FLOAT64_ARRAY, FLOAT32_ARRAY)

JOINT_FIELDS = {
    JOINT_STATE: {'position': 'position', 'velocity': 'velocity', 'effort': 'effort'},
    JOINT_TRAJECTORY: {'position': 'positions', 'velocity': 'velocities', 'effort': 'effort'},
}
POSE_ENTRIES = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')
STAMPS = ('header', 'receive')
TWIST_FRAMES = ('body', 'world')


def require(condition: bool, message: str) -> None:
    """Raise ContractError with the message unless the condition holds."""
    if not condition:
        raise ContractError(message)


def _choice(value: str, allowed: tuple[str, ...], where: str) -> None:
    require(value in allowed, f'{where} is {value!r}, expected one of {", ".join(allowed)}')


def _topic(value: str, where: str) -> None:
    require(bool(value) and ' ' not in value, f'{where} is {value!r}, expected a ROS topic name')


@dataclass(frozen=True)
class CropBox:
    """The part of the camera image that the model sees, in pixels of the camera image. Which shape
    it has is for the contract to check (cameras.py).
    """

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        require(
            self.left >= 0 and self.top >= 0,
            f'crop starts at {self.left}, {self.top}: expected >= 0',
        )
        require(
            self.width > 0 and self.height > 0,
            f'crop is {self.width} x {self.height} px: expected at least 1 px each way',
        )


@dataclass(frozen=True)
class CameraSource:
    """One camera topic. `crop` None takes the largest centred box of the shape of its tile: a
    square, or with two cameras one that is twice as wide as high.
    """

    topic: str
    type: str
    crop: CropBox | None = None

    def __post_init__(self) -> None:
        _topic(self.topic, 'camera topic')
        _choice(self.type, CAMERA_TYPES, f'type of camera {self.topic}')


@dataclass(frozen=True)
class ActionEntry:
    """One number of the action vector: `low` becomes -1 and `high` becomes 1."""

    name: str
    unit: str
    low: float
    high: float

    def __post_init__(self) -> None:
        require(
            bool(np.isfinite([self.low, self.high]).all()) and self.low < self.high,
            f'limits of entry {self.name} are {self.low} to {self.high}: '
            'expected finite, low < high',
        )


@dataclass(frozen=True)
class ActionSource:
    """One command topic.

    Attributes:
        topic: ROS topic name.
        type: one of `ACTION_TYPES`.
        entries: what is taken from a message: joints by name, pose parts by name, arrays in order.
        field: which numbers of a JointState or JointTrajectory.
        stamp: `header`, or `receive` for types that have no header (required there).
        integrate: for twists, the frame that the velocities are in; without it a twist is refused.
    """

    topic: str
    type: str
    entries: tuple[ActionEntry, ...]
    field: str = 'position'
    stamp: str = 'header'
    integrate: str | None = None

    def __post_init__(self) -> None:
        where = f'action source {self.topic}'
        _topic(self.topic, 'action topic')
        _choice(self.type, ACTION_TYPES, f'type of {where}')
        _choice(self.field, tuple(JOINT_FIELDS[JOINT_STATE]), f'field of {where}')
        _choice(self.stamp, STAMPS, f'stamp of {where}')
        require(bool(self.entries), f'{where} has no entries')
        require(
            self.type not in HEADERLESS_TYPES or self.stamp == 'receive',
            f'{where}: {self.type} has no header; say "stamp: receive" to use the time of receipt',
        )
        if self.type in TWIST_TYPES:
            require(
                self.integrate is not None,
                f'{where}: a velocity is no absolute pose; '
                'say "integrate: body" or "integrate: world"',
            )
            _choice(str(self.integrate), TWIST_FRAMES, f'integrate of {where}')
            for entry in self.entries:
                _choice(entry.name, POSE_ENTRIES, f'pose entry of {where}')
        else:
            require(
                self.integrate is None, f'{where}: only twists are integrated, not {self.type}'
            )


@dataclass(frozen=True)
class ResetPolicy:
    """What makes the memory start afresh.

    Attributes:
        gap_s: a silence of the camera longer than this; also how far a stamp may run backwards
            before it counts as a clock jump, how far ahead of now before it is refused, and how
            old a view of a further camera may be that is held.
        clock_jump: reset when stamps jump backwards; otherwise such frames are refused.
        topic: a std_msgs/msg/Empty topic that resets, or None.
        service: offer the reset service.
    """

    gap_s: float = 1.0
    clock_jump: bool = True
    topic: str | None = None
    service: bool = True

    def __post_init__(self) -> None:
        require(0 < self.gap_s < 3600, f'reset.gap_s is {self.gap_s}: expected 0 to 3600 s')
