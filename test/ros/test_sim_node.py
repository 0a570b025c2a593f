"""sim_node as a process on real ROS 2: what a robot made of a simulator sends and obeys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot import PERIOD_NS, Child
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from wm_ros_msgs.msg import Action

from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.nodes.logs import read_log
from wm_ros.nodes.sim_node import episode
from wm_ros.nodes.table import CAMERA_INFO_TOPIC
from wm_ros.sim.episodes import play

pytestmark = pytest.mark.ros

FRAMES = 40


class Onlooker:
    """Keeps everything that the simulator publishes; may send commands."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('onlooker', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.got: dict[str, list[Any]] = {}
        for topic, kind in (
            (CAMERA_INFO_TOPIC, CameraInfo), (COMMAND_TOPIC, Action), ('/clock', Clock),
            (CAMERA_TOPIC, Image),
        ):  # fmt: skip
            self.got[topic] = []
            self.node.create_subscription(
                kind, topic, self.got[topic].append, QoSProfile(depth=200)
            )
        self.got['/camera/renderer'] = []
        self.node.create_subscription(
            String, '/camera/renderer', self.got['/camera/renderer'].append,
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )  # fmt: skip
        self.command = self.node.create_publisher(Action, COMMAND_TOPIC, QoSProfile(depth=10))

    def watch(self, child: Child) -> None:
        """Spin until the process has ended."""
        while child.process.poll() is None:
            self.executor.spin_once(timeout_sec=0.05)
        for _ in range(20):
            self.executor.spin_once(timeout_sec=0.01)

    def stamps(self, topic: str) -> list[int]:
        """Header stamps of what has arrived."""
        return [stamp_to_ns(message.header.stamp) for message in self.got[topic]]

    def close(self) -> None:
        """Destroy the node and its context."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def onlooker() -> Any:
    """An onlooker for one test."""
    made = Onlooker()
    yield made
    made.close()


def pixels(message: Image) -> np.ndarray:
    """The picture of an Image."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def test_plays_an_episode_with_commands_truth_and_log(onlooker: Onlooker, tmp_path: Path) -> None:
    truth, log = tmp_path / 'truth.jsonl', tmp_path / 'publish.csv'
    with Child(
        'sim', tmp_path / 'log', kind='practice', seed=3, frames=FRAMES, wait_subscribers=1,
        settle_s=0.5, truth_file=str(truth), publish_log=str(log),
    ) as child:  # fmt: skip
        onlooker.watch(child)
        assert child.process.returncode == 0
    stamps = onlooker.stamps(CAMERA_TOPIC)
    assert len(stamps) == FRAMES, 'nobody misses the opening, nothing is lost'
    assert set(np.diff(stamps)) == {PERIOD_NS}
    assert onlooker.stamps(COMMAND_TOPIC) == stamps == onlooker.stamps(CAMERA_INFO_TOPIC)
    plan, count = episode('practice', 3, FRAMES)
    assert count == FRAMES
    from wm_ros.sim.scene import TableTop

    sim = TableTop()
    for frame, image, command in zip(play(plan, sim), onlooker.got[CAMERA_TOPIC],
                                     onlooker.got[COMMAND_TOPIC], strict=True):  # fmt: skip
        np.testing.assert_array_equal(pixels(image), frame.image_HWC)
        np.testing.assert_array_equal(command.values, frame.action_A)
    assert [message.data for message in onlooker.got['/camera/renderer']] == [sim.renderer]
    sim.close()
    info = onlooker.got[CAMERA_INFO_TOPIC][0]
    assert (info.width, info.height) == (64, 64) and info.k[0] > 0 and info.k[2] == 31.5
    rows = read_log(log)
    assert [row['stamp_ns'] for row in rows] == stamps
    assert (np.diff([row['monotonic_ns'] for row in rows]) > 0).all()
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [line['index'] for line in lines] == list(range(FRAMES))
    shown = np.array([line['visible_px'] for line in lines]) > 0
    np.testing.assert_array_equal(shown, plan.visible_TF[:FRAMES])


def test_follows_commands_from_outside_on_simulated_time(
    onlooker: Onlooker, tmp_path: Path
) -> None:
    with Child(
        'sim', tmp_path / 'log', kind='free', seed=3, frames=FRAMES, wait_subscribers=1,
        settle_s=0.5, driver='external', clock=True,
    ) as child:  # fmt: skip
        commanded = False
        while child.process.poll() is None:
            onlooker.executor.spin_once(timeout_sec=0.02)
            if not commanded and len(onlooker.got[CAMERA_TOPIC]) > 5:
                plan, _ = episode('free', 3, FRAMES)
                away_A = plan.actions_TA[0].copy()
                away_A[9] = 0.7  # pan
                head = convert.header(onlooker.stamps(CAMERA_TOPIC)[-1], '')
                bad_A = np.full_like(away_A, np.nan)
                for values_A in (away_A, bad_A):
                    message = Action(header=head, values=convert.float_array(values_A))
                    onlooker.command.publish(message)
                commanded = True
        assert child.process.returncode == 0, child.log.read_text()
        assert 'command refused' in child.log.read_text()
    stamps = onlooker.stamps(CAMERA_TOPIC)
    assert stamps[0] == 1_000_000_000 and set(np.diff(stamps)) == {PERIOD_NS}
    clock = [stamp_to_ns(message.clock) for message in onlooker.got['/clock']]
    assert clock == stamps
    pictures = [pixels(message).astype(int) for message in onlooker.got[CAMERA_TOPIC]]
    assert np.array_equal(pictures[0], pictures[3]), 'it stays at rest until commanded'
    assert np.abs(pictures[-1] - pictures[3]).mean() > 5, 'the camera has turned'


def test_refuses_more_frames_than_the_episode_has(tmp_path: Path) -> None:
    with Child('sim', tmp_path / 'log', kind='cup', frames=5000) as child:
        assert child.process.wait(30) == 1
        assert 'cup episodes have 1650 frames, 5000 asked for' in child.log.read_text()
