"""`wm play` and `player_node` as processes: loops, /clock, offsets, ROS 1 bags, clear refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from robot import PERIOD_NS, Child, Robot
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

from wm_ros.bag import BagRecorder
from wm_ros.bag.record import LATCHED
from wm_ros.bag.stream import STRING, image_bytes, string_bytes
from wm_ros.config import CAMERA_TOPIC
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes.offered import DEPTH, MANY, offered
from wm_ros.sources import IMAGE

pytestmark = pytest.mark.ros

FRAMES, T0 = 12, 1_700_000_000_000_000_000


def record(path: Path, static: str = '') -> Path:
    """Frames whose shade is their number; first of all a latched text, if any."""
    with BagRecorder(path) as recorder:
        if static:
            recorder.add_topic('/static', STRING, qos=LATCHED)
            recorder.write('/static', STRING, string_bytes(static), T0)
        for i in range(FRAMES):
            stamp_ns = T0 + i * PERIOD_NS
            data = image_bytes(np.full((8, 8, 3), i, np.uint8), stamp_ns, 'cam')
            recorder.write(CAMERA_TOPIC, IMAGE, data, stamp_ns)
    return path


class Listener:
    """Keeps stamps and shades of frames, and what /clock showed, in the order of arrival."""

    def __init__(self, robot: Robot, topic: str = CAMERA_TOPIC) -> None:
        self.frames: list[tuple[int, int]] = []
        self.clock: list[int] = []
        deep = QoSProfile(depth=200)
        robot.node.create_subscription(Image, topic, self.take, deep)
        robot.node.create_subscription(
            Clock, '/clock', lambda message: self.clock.append(stamp_to_ns(message.clock)), deep
        )

    def take(self, message: Any) -> None:
        self.frames.append((stamp_to_ns(message.header.stamp), int(message.data[0])))

    @property
    def stamps(self) -> list[int]:
        return [stamp_ns for stamp_ns, _ in self.frames]

    @property
    def shades(self) -> list[int]:
        return [shade for _, shade in self.frames]


@pytest.mark.parametrize('restamp', [True, False])
def test_a_loop_goes_on_in_time_or_jumps_back(tmp_path: Path, restamp: bool) -> None:
    bag = record(tmp_path / 'bag')
    with Robot(publishes=False) as robot:
        heard = Listener(robot)
        with Child(
            'player', tmp_path / 'log', bag=str(bag), loop=True, clock_hz=50.0, rate=2.0,
            restamp=restamp, wait_subscribers=1, settle_s=0.5,
        ) as player:  # fmt: skip
            robot.until(lambda: len(heard.frames) > 2 * FRAMES + 2, 'two laps and more are played')
            assert player.stop(signal.SIGINT) == 0
        robot.spin(0.5)  # what is still on its way
    assert heard.shades == [i % FRAMES for i in range(len(heard.shades))]
    jumps = np.flatnonzero(np.diff(heard.clock) < 0)
    if restamp:
        np.testing.assert_allclose(np.diff(heard.stamps), PERIOD_NS, atol=1000)
        assert len(jumps) == 0
    else:
        assert heard.stamps == [T0 + i * PERIOD_NS for i in heard.shades]
        assert len(jumps) == heard.shades.count(0) - 1
    assert set(heard.stamps) <= set(heard.clock), 'the clock shows the time of every message'
    assert len(heard.clock) > len(heard.stamps)


def wm(*words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-m', 'wm_ros.cli', *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def write_ros1(path: Path) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    kinds = store.types
    with Ros1Writer(path) as writer:
        camera = writer.add_connection('/left/image', IMAGE, typestore=store)
        for i in range(FRAMES):
            stamp_ns = T0 + i * PERIOD_NS
            stamp = kinds['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
            head = kinds['std_msgs/msg/Header'](seq=i, stamp=stamp, frame_id='cam')
            image = kinds[IMAGE](head, 8, 8, 'rgb8', 0, 24, np.full(192, i, np.uint8))
            writer.write(camera, stamp_ns, store.serialize_ros1(image, IMAGE))
    return path


def test_the_command_plays_a_ros_1_bag_from_an_offset(tmp_path: Path) -> None:
    bag = write_ros1(tmp_path / 'one.bag')
    with Robot(publishes=False) as robot:
        heard = Listener(robot, '/renamed')
        process = wm('play', str(bag), '--start-offset', '0.2', '--remap', '/left/image:=/renamed')
        robot.until(lambda: len(heard.frames) >= FRAMES - 5, 'it is played')
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert 'begins with 1 subscriber' in out and 'playing' in out
    assert heard.shades == list(range(5, FRAMES))
    assert set(np.diff(heard.stamps)) == {PERIOD_NS} and heard.stamps[0] > T0 + 10**15
    assert not heard.clock


@pytest.mark.parametrize('loop', [[], ['--loop']])
def test_an_offset_beyond_the_end_is_refused(tmp_path: Path, loop: list[str]) -> None:
    process = wm('play', str(record(tmp_path / 'bag')), '--start-offset', '9', *loop)
    try:
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert f'no message of {CAMERA_TOPIC} to play from 9 s on; it is 0.440 s long' in out


def test_a_latched_topic_reaches_whoever_comes_late(tmp_path: Path) -> None:
    bag, heard = record(tmp_path / 'bag', static='the table'), []
    with Robot(publishes=False) as robot:
        frames = Listener(robot)
        with Child(
            'player', tmp_path / 'log', bag=str(bag), loop=True, rate=0.1, wait_subscribers=1,
            settle_s=0.2,
        ) as player:  # fmt: skip
            robot.until(lambda: len(frames.frames) > 1, 'the text was sent before the frames')
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            robot.node.create_subscription(String, '/static', heard.append, latched)
            robot.until(lambda: heard, 'what was sent before is there')
            assert len(frames.frames) < FRAMES, 'in the first lap still'
            assert player.stop(signal.SIGINT) == 0
    assert [message.data for message in heard] == ['the table']


def test_what_several_publishers_offered_becomes_one_offer() -> None:
    latched, volatile = LATCHED, LATCHED.replace('transient_local', 'volatile')
    weak = volatile.replace('reliable', 'best_effort')

    def offer(*texts: str) -> tuple[int, bool, bool]:
        profile = offered([one for text in texts for one in parse_qos(text)])
        return (
            profile.depth,
            profile.reliability is ReliabilityPolicy.RELIABLE,
            profile.durability is DurabilityPolicy.TRANSIENT_LOCAL,
        )

    assert offer() == (DEPTH, True, False)
    assert offer(volatile) == (DEPTH, True, False)
    assert offer(weak, weak) == (DEPTH, False, False)
    assert offer(weak, volatile.replace('depth: 1', 'depth: 40')) == (41, True, False)
    assert offer(latched, latched, weak) == (2, True, True), 'one message of each that latches'
    unknown = latched.replace('depth: 1', 'depth: 0').replace('keep_last', 'unknown')
    assert offer(unknown) == (DEPTH, True, True)
    assert offer(latched.replace('keep_last', 'keep_all')) == (MANY, True, True)


def test_a_message_without_room_for_its_stamp_ends_the_playing(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / 'bag') as recorder:
        for i, data in enumerate([image_bytes(np.zeros((8, 8, 3), np.uint8), T0), b'\0\1\0\0']):
            recorder.write(CAMERA_TOPIC, IMAGE, data, T0 + i * PERIOD_NS)
    process = wm('play', str(tmp_path / 'bag'), '--wait-subscribers', '0')
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1 and 'Traceback' not in out
    assert f'message 2, of {CAMERA_TOPIC} at {T0 + PERIOD_NS} ns, is no {IMAGE}: 4 bytes' in out


def test_without_ros_the_command_says_what_is_missing(tmp_path: Path) -> None:
    hidden = tmp_path / 'hidden' / 'rclpy'
    hidden.mkdir(parents=True)
    (hidden / '__init__.py').write_text('raise ImportError("No module named rclpy")')
    path = os.pathsep.join([str(hidden.parent), os.environ.get('PYTHONPATH', '')])
    process = wm('play', str(record(tmp_path / 'bag')), PYTHONPATH=path)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert 'wm play needs ROS 2' in out and 'Traceback' not in out
