"""Messages to commands and frames: every command type, joints by name, stamps by the contract."""

from types import SimpleNamespace as Message

import numpy as np
import pytest

from wm_ros.contract import StreamContract
from wm_ros.contract_fields import build_value
from wm_ros.feed import read
from wm_ros.messages import commands_from_message
from wm_ros.rejection import RejectedInput, RejectReason
from wm_ros.sources import ActionSource

RECEIVED_NS = 7_000_000_123


def stamped(sec: int, nanosec: int = 0) -> Message:
    return Message(stamp=Message(sec=sec, nanosec=nanosec), frame_id='cam')


def source(msgtype: str, names: str = 'a b', **more: object) -> ActionSource:
    entries = [{'name': name, 'unit': 'rad', 'low': -9.0, 'high': 9.0} for name in names.split()]
    values = {'topic': '/cmd', 'type': msgtype, 'entries': entries, **more}
    return build_value(ActionSource, values, 'source')


def joints(**fields: object) -> Message:
    named = {'name': ['c', 'b', 'a'], 'position': [3.0, 2.0, 1.0], 'velocity': [], 'effort': []}
    return Message(header=stamped(5, 9), **named | fields)


def test_joint_state_is_read_by_name() -> None:
    (command,) = commands_from_message(source('sensor_msgs/msg/JointState'), joints(), RECEIVED_NS)
    assert command.values_E.tolist() == [1, 2]
    assert command.stamp_ns == 5_000_000_009
    wanted = source('sensor_msgs/msg/JointState', field='velocity', stamp='receive')
    (command,) = commands_from_message(wanted, joints(velocity=[6, 5, 4]), RECEIVED_NS)
    assert command.values_E.tolist() == [4, 5]
    assert command.stamp_ns == RECEIVED_NS


@pytest.mark.parametrize(
    ('msgtype', 'message', 'reason', 'words'),
    [
        (
            'sensor_msgs/msg/JointState',
            joints(name=['c', 'b', 'x']),
            RejectReason.MISSING_ENTRY,
            ['a', 'x'],
        ),
        ('sensor_msgs/msg/JointState', joints(position=[1.0]), RejectReason.WIDTH, ['1', '3']),
        (
            'sensor_msgs/msg/JointState',
            joints(name=[], position=[]),
            RejectReason.MISSING_ENTRY,
            ['a, b'],
        ),
        (
            'wm_ros_msgs/msg/Action',
            Message(header=stamped(5), values=[1.0]),
            RejectReason.WIDTH,
            ['1', '2'],
        ),
        (
            'wm_ros_msgs/msg/Action',
            Message(header=stamped(5), values=[]),
            RejectReason.WIDTH,
            ['0', '2'],
        ),
        (
            'trajectory_msgs/msg/JointTrajectory',
            Message(header=stamped(5), joint_names=['a', 'b'], points=[]),
            RejectReason.WIDTH,
            ['without points'],
        ),
    ],
)
def test_commands_that_do_not_fit_are_refused(msgtype, message, reason, words: list[str]) -> None:
    with pytest.raises(RejectedInput) as error:
        commands_from_message(source(msgtype), message, RECEIVED_NS)
    assert error.value.reason is reason
    assert all(word in error.value.detail for word in words)


@pytest.mark.parametrize('bits', ['64', '32'])
def test_headerless_arrays_take_the_time_of_receipt(bits: str) -> None:
    wanted = source(f'std_msgs/msg/Float{bits}MultiArray', stamp='receive')
    (command,) = commands_from_message(wanted, Message(data=[0.5, -1]), RECEIVED_NS)
    assert (command.values_E.tolist(), command.stamp_ns) == ([0.5, -1], RECEIVED_NS)


def test_twists_give_six_velocities() -> None:
    twist = Message(linear=Message(x=1, y=2, z=3), angular=Message(x=4, y=5, z=6))
    bare = source('geometry_msgs/msg/Twist', 'x yaw', stamp='receive', integrate='body')
    with_header = source('geometry_msgs/msg/TwistStamped', 'x yaw', integrate='body')
    (one,) = commands_from_message(bare, twist, RECEIVED_NS)
    (two,) = commands_from_message(
        with_header, Message(header=stamped(5), twist=twist), RECEIVED_NS
    )
    assert one.values_E.tolist() == two.values_E.tolist() == [1, 2, 3, 4, 5, 6]
    assert (one.stamp_ns, two.stamp_ns) == (RECEIVED_NS, 5_000_000_000)


def trajectory(sec: int, *points: tuple[float, float]) -> Message:
    return Message(
        header=stamped(sec),
        joint_names=['b', 'a'],
        points=[
            Message(
                positions=[value, -value],
                velocities=[],
                effort=[],
                time_from_start=Message(sec=int(after), nanosec=round(after % 1 * 1e9)),
            )
            for value, after in points
        ],
    )


def test_each_trajectory_point_is_the_goal_until_its_time() -> None:
    wanted = source('trajectory_msgs/msg/JointTrajectory')
    commands = commands_from_message(wanted, trajectory(5, (1, 0.5), (2, 1.25)), RECEIVED_NS)
    assert [c.values_E.tolist() for c in commands] == [[-1, 1], [-2, 2]]
    assert [c.stamp_ns for c in commands] == [5_000_000_000, 5_500_000_000]
    (at_once,) = commands_from_message(wanted, trajectory(0, (1, 0.5)), RECEIVED_NS)
    assert at_once.stamp_ns == RECEIVED_NS


def test_frames_keep_stamp_and_frame_id(tabletop: StreamContract) -> None:
    image_HWC = np.arange(64 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 80, 3)
    message = Message(
        header=stamped(5, 9),
        height=64,
        width=80,
        step=240,
        encoding='rgb8',
        is_bigendian=0,
        data=image_HWC.tobytes(),
    )
    arrived = read(tabletop, '/camera/image_raw', message, RECEIVED_NS)
    assert arrived.receive_ns == RECEIVED_NS and arrived.camera_size == (64, 80)
    frame = arrived.frame
    assert np.array_equal(frame.image_HWC, image_HWC[:, 8:72])
    assert (frame.stamp_ns, frame.frame_id) == (5_000_000_009, 'cam')


@pytest.fixture
def tabletop() -> StreamContract:
    from wm_ros.contract import find_contract

    return StreamContract.load(find_contract('tabletop'))


def test_a_topic_that_the_contract_does_not_name_is_an_error(tabletop: StreamContract) -> None:
    with pytest.raises(KeyError, match='/elsewhere: contract .* names /camera/image_raw'):
        read(tabletop, '/elsewhere', Message(), RECEIVED_NS)
