"""How the node hears its topics: as reliably as they are published, and as somebody has fixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from robot import Child, Robot
from wm_ros_msgs.msg import Action

from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC
from wm_ros.contract import StreamContract
from wm_ros.model_package import ModelPackage
from wm_ros.nodes.listening import FOLLOW, Listening
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
RELIABLE = QoSProfile(depth=100)
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_toy_package(tmp_path_factory.mktemp('packages') / 'toy', CONTRACT)


def large_HWC(shade: int) -> np.ndarray:
    """A raw 640x480 picture: 900 KiB, beyond what best effort carries on Fast DDS."""
    return np.full((480, 640, 3), shade, np.uint8)


def test_a_large_reliable_camera_and_best_effort_commands_both_arrive(
    package: ModelPackage, tmp_path: Path
) -> None:
    """The node is there first, so it must adapt to a command publisher that offers less."""
    with Child(
        'world_model', tmp_path / 'log', package=str(package.path), backend='toy',
        status_period_s=0.1,
    ) as node:  # fmt: skip
        with Robot(command_qos=BEST_EFFORT) as robot:
            robot.until(lambda: robot.camera.get_subscription_count(), 'the camera is heard')
            robot.wait_matched()
            # Best effort may lose what is sent while the other side has not matched yet.
            robot.until(lambda: robot.tick(large_HWC(0)) and robot.spin(0.1) is None
                        and robot.got['prediction'], 'a first prediction')  # fmt: skip
            for shade in range(20):
                prediction = robot.step(large_HWC(10 * shade))
                shown = np.frombuffer(prediction.image.data, np.uint8).mean()
                assert abs(shown - 10 * shade) < 20
            values = robot.diagnosed(lambda v: v[f'heard {COMMAND_TOPIC}'] == 'best_effort')
            assert values[f'heard {CAMERA_TOPIC}'] == 'reliable'
        assert node.stop() == 0


@pytest.fixture
def robot() -> Robot:
    with Robot(command_qos=BEST_EFFORT) as made:
        yield made


def heard(listening: Listening) -> tuple[str, str]:
    return listening.reliability[CAMERA_TOPIC], listening.reliability[COMMAND_TOPIC]


def test_a_subscription_follows_its_publishers(robot: Robot) -> None:
    with Robot('listener', publishes=False) as other:
        got: list[Action] = []
        listening = Listening(other.node)
        robot.node.destroy_publisher(robot.command)
        other.until(lambda: not other.node.count_publishers(COMMAND_TOPIC), 'nobody commands')
        listening.add('sensor_msgs/msg/Image', CAMERA_TOPIC, lambda _: None, 5)
        listening.add('wm_ros_msgs/msg/Action', COMMAND_TOPIC, got.append, 10)
        assert listening.reliability[COMMAND_TOPIC] == 'reliable', 'while nobody publishes'
        robot.command = robot.node.create_publisher(Action, COMMAND_TOPIC, BEST_EFFORT)
        other.until(lambda: heard(listening) == ('reliable', 'best_effort'), 'adapted')

        def arrived() -> bool:
            robot.send_command(1)
            return bool(got)

        other.until(arrived, 'a best effort command')
        robot.node.destroy_publisher(robot.command)
        robot.command = robot.node.create_publisher(Action, COMMAND_TOPIC, RELIABLE)
        other.until(lambda: heard(listening) == ('reliable', 'reliable'), 'and back')
        got.clear()
        other.until(arrived, 'a reliable command')
        listening.close()
        assert not other.node.get_subscriptions_info_by_topic(CAMERA_TOPIC)


def test_the_standard_parameter_fixes_it(robot: Robot) -> None:
    name = f'qos_overrides.{CAMERA_TOPIC}.subscription.{{}}'
    given = {name.format('reliability'): 'best_effort', name.format('depth'): 2}
    with Robot('listener', publishes=False, parameters=given) as other:
        listening = Listening(other.node)
        for _ in range(2):  # as at a second activation
            listening.add('sensor_msgs/msg/Image', CAMERA_TOPIC, lambda _: None, 5)
            other.until(lambda: other.node.count_publishers(CAMERA_TOPIC), 'a reliable camera')
            listening.adapt()
            (info,) = other.node.get_subscriptions_info_by_topic(CAMERA_TOPIC)
            assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
            assert listening.reliability == {CAMERA_TOPIC: 'best_effort'}
            assert other.node.get_parameter(name.format('depth')).value == 2
            listening.close()
            listening = Listening(other.node)
    wrong = {name.format('reliability'): 'perfect'}
    with Robot('listener', publishes=False, parameters=wrong) as other:
        with pytest.raises(ValueError, match=f"is 'perfect': expected one of {FOLLOW}"):
            Listening(other.node).add('sensor_msgs/msg/Image', CAMERA_TOPIC, lambda _: None, 5)


def test_types_that_are_not_installed_are_named(robot: Robot) -> None:
    with pytest.raises(ValueError, match='no_such_msgs/msg/Thing is not installed'):
        Listening(robot.node).add('no_such_msgs/msg/Thing', '/x', lambda _: None, 5)
