"""recorder_node and player_node as processes: what is recorded survives, what is played is it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import (
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from robot import PERIOD_NS, Child, Robot
from std_msgs.msg import String
from trajectory_msgs.msg import MultiDOFJointTrajectory
from wm_ros_msgs.msg import Prediction

from wm_ros.bag import BagRecorder, bag_info, recover
from wm_ros.bag.raw import raw_topics
from wm_ros.bag.read import iter_messages
from wm_ros.bag.stamps import read_stamp_ns, with_stamp
from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC, PREDICTION_TOPIC
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.nodes.logs import read_log
from wm_ros.nodes.offered import offered

pytestmark = pytest.mark.ros

KINDS = {CAMERA_TOPIC: 'sensor_msgs/msg/Image', COMMAND_TOPIC: 'wm_ros_msgs/msg/Action'}


def send(robot: Robot, seconds: float) -> list[int]:
    """Send frames and commands at 25 Hz; return their stamps."""
    stamps, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        stamps.append(robot.tick())
        robot.spin(0.04)
    return stamps


def test_a_kill_loses_at_most_the_last_second(tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    with (
        Robot() as robot,
        Child(
            'recorder', tmp_path / 'log', out=str(bag), topics=(CAMERA_TOPIC, COMMAND_TOPIC)
        ) as child,
    ):
        robot.stamp_ns = robot.now_ns()
        robot.until(robot.camera.get_subscription_count, 'the recorder listens')
        robot.until(robot.command.get_subscription_count, 'the recorder listens')
        stamps = send(robot, 4.0)
        sent_s = time.time()
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
    (recovery,) = recover(bag)
    assert not recovery.complete and recovery.damaged_chunks == recovery.orphans == 0
    assert recovery.messages.keys() == KINDS.keys()
    assert min(recovery.messages.values()) > len(stamps) / 2
    images = [message for topic, message, _ in iter_messages(bag, KINDS) if topic == CAMERA_TOPIC]
    found = [stamp_to_ns(message.header.stamp) for message in images]
    assert found == stamps[: len(found)], 'nothing is missing before the cut'
    last_log_s = max(log_ns for _, _, log_ns in iter_messages(bag, KINDS)) / 1e9
    assert sent_s - last_log_s < 1.3


def test_what_came_before_a_silence_survives_a_kill(tmp_path: Path) -> None:
    bag, topics = tmp_path / 'bag', tuple(KINDS)
    with (
        Robot() as robot,
        Child('recorder', tmp_path / 'log', out=str(bag), topics=topics) as child,
    ):
        robot.stamp_ns = robot.now_ns()
        robot.until(robot.camera.get_subscription_count, 'the recorder listens')
        robot.until(robot.command.get_subscription_count, 'the recorder listens')
        robot.spin(0.5)  # the other side may see the match later
        stamps = send(robot, 0.3)  # too short to fill a chunk of one second
        robot.spin(1.0)
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
    assert recover(bag)[0].messages == dict.fromkeys(KINDS, len(stamps))


def test_a_topic_of_unknown_type_is_left_out_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / 'hidden' / 'trajectory_msgs' / 'msg'  # for the recorder alone
    hidden.mkdir(parents=True)
    for folder in (hidden, hidden.parent):
        (folder / '__init__.py').touch()
    paths = [str(hidden.parents[1]), *filter(None, [os.environ.get('PYTHONPATH')])]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))
    bag, topics = tmp_path / 'bag', ('/odd', CAMERA_TOPIC)
    with Robot() as robot, Child(
        'recorder', tmp_path / 'log', out=str(bag), topics=topics, wait_for_all=True
    ) as child:  # fmt: skip
        odd = robot.node.create_publisher(MultiDOFJointTrajectory, '/odd', 10)
        robot.until(robot.camera.get_subscription_count, 'the recorder listens to the other')
        robot.spin(0.5)  # the other side may see the match later
        robot.stamp_ns = robot.now_ns()
        stamps = send(robot, 0.5)
        odd.publish(MultiDOFJointTrajectory())
        robot.spin(0.5)
        assert child.stop(signal.SIGTERM) == 0, child.log.read_text()
    text = child.log.read_text()
    odd_text = '/odd is not recorded: message type trajectory_msgs/msg/MultiDOF'
    assert text.count(odd_text) == text.count('/odd') == 1, text
    assert 'Traceback' not in text
    assert {t.name: t.messages for t in bag_info(bag).topics} == {CAMERA_TOPIC: len(stamps)}


def test_keeps_how_a_topic_was_offered(tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    latching = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with (
        Robot(publishes=False) as robot,
        Child('recorder', tmp_path / 'log', out=str(bag), topics=('/static', '/weak')) as child,
    ):
        static = robot.node.create_publisher(String, '/static', latching)
        weak = robot.node.create_publisher(String, '/weak', qos_profile_sensor_data)
        static.publish(String(data='the table'))  # nobody may listen yet
        robot.until(weak.get_subscription_count, 'the recorder listens')
        robot.spin(0.5)  # the other side may see the match later
        weak.publish(String(data='a gust'))
        robot.spin(0.5)
        assert child.stop(signal.SIGTERM) == 0, child.log.read_text()
    kept = {name: offered(topic.offers) for name, topic in raw_topics(bag).items()}
    latches = DurabilityPolicy.TRANSIENT_LOCAL, ReliabilityPolicy.RELIABLE
    assert (kept['/static'].durability, kept['/static'].reliability) == latches
    lossy = DurabilityPolicy.VOLATILE, ReliabilityPolicy.BEST_EFFORT
    assert (kept['/weak'].durability, kept['/weak'].reliability) == lossy
    assert {topic.name: topic.messages for topic in bag_info(bag).topics} == {
        '/static': 1,
        '/weak': 1,
    }


def test_records_predictions_and_when_they_arrived(tmp_path: Path) -> None:
    bag, log = tmp_path / 'bag', tmp_path / 'receive.csv'
    with Robot() as robot, Child(
        'recorder', tmp_path / 'log', out=str(bag), receive_log=str(log), wait_for_all=True,
        topics=(CAMERA_TOPIC, PREDICTION_TOPIC),
    ) as child:  # fmt: skip
        robot.spin(1.0)
        assert not robot.camera.get_subscription_count(), 'it waits for the second topic'
        out = robot.node.create_publisher(Prediction, PREDICTION_TOPIC, 10)
        robot.until(out.get_subscription_count, 'the recorder listens')
        robot.until(robot.camera.get_subscription_count, 'the recorder listens')
        robot.spin(0.5)  # the other side may see the match later
        before_ns = time.monotonic_ns()
        for index in range(10):
            message = Prediction(horizon=1, index=index, latency_ms=1.5)
            message.source_stamp = convert.ns_to_stamp(1_000_000_000 + index)
            out.publish(message)
            robot.spin(0.02)
        robot.until(lambda: log.read_text().count('\n') == 11, 'ten rows are logged')
        assert child.stop(signal.SIGTERM) == 0, child.log.read_text()
    rows = read_log(log)
    assert [row['source_stamp_ns'] for row in rows] == [1_000_000_000 + i for i in range(10)]
    assert all(before_ns < row['monotonic_ns'] < time.monotonic_ns() for row in rows)
    assert {row['latency_ms'] for row in rows} == {1.5}
    assert {topic.name: topic.messages for topic in bag_info(bag).topics}[PREDICTION_TOPIC] == 10


@pytest.mark.parametrize('restamp', [True, False])
def test_plays_a_bag_as_it_was_recorded(tmp_path: Path, restamp: bool) -> None:
    from rclpy.serialization import serialize_message
    from wm_ros_msgs.msg import Action

    bag, start_ns, count = tmp_path / 'bag', 1_700_000_000_000_000_000, 20
    pictures = np.random.default_rng(0).integers(0, 255, (count, 8, 8, 3), np.uint8)
    with BagRecorder(bag) as recorder:
        for index, picture_HWC in enumerate(pictures):
            stamp_ns = start_ns + index * PERIOD_NS
            head = convert.header(stamp_ns, 'cam')
            image = convert.image_message(picture_HWC, head)
            command = Action(header=head, values=convert.float_array([index]))
            for topic, message in ((CAMERA_TOPIC, image), (COMMAND_TOPIC, command)):
                recorder.write(topic, KINDS[topic], serialize_message(message), stamp_ns)
    copy, log = tmp_path / 'copy', tmp_path / 'publish.csv'
    began_ns = time.time_ns()
    with Child(
        'recorder', tmp_path / 'rec', out=str(copy), topics=tuple(KINDS), wait_for_all=True
    ) as listener, Child(
        'player', tmp_path / 'log', bag=str(bag), restamp=restamp, wait_subscribers=1,
        settle_s=1.0, publish_log=str(log),
    ) as player:  # fmt: skip
        assert player.process.wait(90) == 0, player.log.read_text()
        assert listener.stop() == 0, listener.log.read_text()
    played = list(iter_messages(copy, KINDS))
    images = [message for topic, message, _ in played if topic == CAMERA_TOPIC]
    stamps = [stamp_to_ns(message.header.stamp) for message in images]
    assert len(images) == count and set(np.diff(stamps)) == {PERIOD_NS}
    assert (stamps[0] > began_ns) if restamp else (stamps[0] == start_ns)
    for message, picture_HWC in zip(images, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(message.data).reshape(8, 8, 3), picture_HWC)
    commands = [message for topic, message, _ in played if topic == COMMAND_TOPIC]
    assert [stamp_to_ns(message.header.stamp) for message in commands] == stamps
    assert [row['stamp_ns'] for row in read_log(log)] == stamps
    paced_s = np.diff([row['monotonic_ns'] for row in read_log(log)]).sum() / 1e9
    recorded_s = (count - 1) * PERIOD_NS / 1e9
    assert paced_s > recorded_s / 4, 'paced; a busy machine may be late, with the first one too'


def test_player_refuses_a_bag_without_the_camera(tmp_path: Path) -> None:
    with Child('player', tmp_path / 'log', bag=str(tmp_path / 'none')) as child:
        assert child.process.wait(20) == 1
        assert str(tmp_path / 'none') in child.log.read_text()


def test_stamps_in_cdr_bytes_are_replaced_in_place() -> None:
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import JointState

    message = JointState(header=convert.header(5_000_000_007, 'frame'), name=['a'], position=[1.0])
    data = serialize_message(message)
    assert read_stamp_ns(data) == 5_000_000_007
    moved = deserialize_message(with_stamp(data, 9_999_999_999), JointState)
    message.header.stamp = convert.ns_to_stamp(9_999_999_999)
    assert moved == message
