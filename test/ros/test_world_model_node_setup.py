"""world_model_node: transitions, horizons, other contracts, and what is refused before it runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot import PERIOD_NS, Child, Robot
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from wm_ros_msgs.srv import ResetMemory

from wm_ros.config import RuntimeConfig
from wm_ros.contract import StreamContract
from wm_ros.contract_fields import ContractError
from wm_ros.messages import stamp_to_ns
from wm_ros.model_package import ModelPackage
from wm_ros.nodes import convert
from wm_ros.nodes.loading import ParityMismatch, load
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_toy_package(tmp_path_factory.mktemp('packages') / 'toy', CONTRACT)


def state_of(robot: Robot) -> int:
    """The lifecycle state of the node."""
    return int(robot.call(GetState, '/world_model/get_state').current_state.id)


def change(robot: Robot, transition: int) -> bool:
    """Ask for a transition; return whether it succeeded."""
    request = Transition(id=transition)
    return bool(robot.call(ChangeState, '/world_model/change_state', transition=request).success)


def set_text(robot: Robot, name: str, text: str) -> tuple[bool, str]:
    """Set a text parameter; return success and reason."""
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
    answer = robot.call(
        SetParameters,
        '/world_model/set_parameters',
        parameters=[Parameter(name=name, value=value)],
    )
    return answer.results[0].successful, answer.results[0].reason


def test_every_transition_and_what_it_refuses(package: ModelPackage, tmp_path: Path) -> None:
    log = tmp_path / 'log'
    with (
        Robot() as robot,
        Child(
            'world_model', log, package='no_such_package', backend='toy', autostart=False
        ) as node,
    ):
        assert state_of(robot) == State.PRIMARY_STATE_UNCONFIGURED
        assert not change(robot, Transition.TRANSITION_CONFIGURE)
        assert state_of(robot) == State.PRIMARY_STATE_UNCONFIGURED
        assert "no model package 'no_such_package'" in log.read_text()
        assert set_text(robot, 'package', str(package.path)) == (True, '')
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        assert state_of(robot) == State.PRIMARY_STATE_INACTIVE
        success, reason = set_text(robot, 'package', 'other')
        assert not success and 'read at configure' in reason
        answer = robot.call(ResetMemory, '/world_model/reset_memory')
        assert answer.error_code == ResetMemory.Response.NOT_ACTIVE and not answer.success
        assert robot.camera.get_subscription_count() == 0, 'an inactive node does not listen'
        for _ in range(2):
            robot.got['prediction'].clear()
            assert change(robot, Transition.TRANSITION_ACTIVATE)
            robot.wait_matched()
            assert [robot.step().index for _ in range(3)] == [0, 1, 2]
            assert change(robot, Transition.TRANSITION_DEACTIVATE)
            robot.until(lambda: robot.camera.get_subscription_count() == 0, 'no listener')
        assert change(robot, Transition.TRANSITION_CLEANUP)
        robot.until(lambda: not robot.node.count_publishers('/world_model/prediction'), 'gone')
        assert set_text(robot, 'package', 'other') == (True, '')
        assert change(robot, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert state_of(robot) == State.PRIMARY_STATE_FINALIZED
        assert node.stop() == 0


def test_horizons_come_from_a_fork(package: ModelPackage, tmp_path: Path) -> None:
    with Robot() as robot, Child(
        'world_model', tmp_path / 'log', package=str(package.path), backend='toy', horizon=3,
        status_period_s=0.1,
    ) as node:  # fmt: skip
        robot.wait_matched()
        for frames in range(1, 6):
            source_ns = robot.tick()
            ahead = [robot.predicted(source_ns, horizon) for horizon in (1, 2, 3)]
            stamps = [stamp_to_ns(p.header.stamp) - source_ns for p in ahead]
            assert stamps == [PERIOD_NS, 2 * PERIOD_NS, 3 * PERIOD_NS]
            assert len({bytes(p.image.data) for p in ahead}) == 3
            robot.status(lambda s, n=frames: s.frames == n, 'imagined frames are not counted')
        last = robot.until(
            lambda: next((m for m in robot.got['predicted/image']
                          if m.header.stamp == ahead[2].header.stamp), None),
            'the picture topic shows the last horizon',
        )  # fmt: skip
        assert last.data == ahead[2].image.data
        assert node.stop() == 0


def test_joint_commands_and_compressed_camera(tmp_path: Path) -> None:
    source = {
        'topic': '/command', 'type': 'sensor_msgs/msg/JointState',
        'entries': [{'name': name, 'unit': 'rad', 'low': -1.0, 'high': 1.0} for name in 'ab'],
    }  # fmt: skip
    values = CONTRACT.to_dict() | {
        'name': 'joints', 'actions': [source],
        'cameras': [{'topic': '/camera/image_raw', 'type': 'sensor_msgs/msg/CompressedImage'}],
        'reset': {'topic': '/restart'},
    }  # fmt: skip
    contract = StreamContract.from_dict(values)
    package = write_toy_package(tmp_path / 'toy', contract)
    with (
        Robot(command_type=JointState, camera_type=CompressedImage) as robot,
        Child('world_model', tmp_path / 'log', package=str(package.path), backend='toy') as node,
    ):
        robot.wait_matched()
        colour = (200, 40, 90)
        for index in range(3):
            robot.stamp_ns += PERIOD_NS
            head = convert.header(robot.stamp_ns, 'head')
            robot.command.publish(JointState(header=head, name=['b', 'other', 'a'],
                                             position=[0.2, 9.0, -0.2]))  # fmt: skip
            picture_HWC = np.full((96, 128, 3), colour, np.uint8)
            robot.camera.publish(convert.compressed_message(picture_HWC, head, 95))
            prediction = robot.predicted(robot.stamp_ns)
            assert prediction.index == index and prediction.header.frame_id == 'head'
        shown = np.frombuffer(prediction.image.data, np.uint8).reshape(64, 64, 3)
        assert np.abs(shown.mean((0, 1)) - colour).max() < 20
        bgr_HWC = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR)
        robot.stamp_ns += PERIOD_NS
        cut = CompressedImage(header=convert.header(robot.stamp_ns, 'head'), format='jpeg')
        cut.data = cv2.imencode('.jpg', bgr_HWC)[1].tobytes()[:200]
        robot.camera.publish(cut)
        robot.until(lambda: 'frame refused (decode)' in node.log.read_text(), 'refusal is logged')
        assert node.stop() == 0


def test_a_contract_that_does_not_fit_is_refused(package: ModelPackage, tmp_path: Path) -> None:
    values = CONTRACT.to_dict()
    values['actions'][0]['entries'][2]['high'] = 9.0
    path = tmp_path / 'contract.yaml'
    path.write_text(yaml.safe_dump(values))
    config = RuntimeConfig(package=str(package.path), backend='toy', contract=str(path))
    with pytest.raises(ContractError, match='does not fit the model'):
        load(config)
    moved = CONTRACT.to_dict()
    moved['cameras'][0]['topic'] = '/elsewhere/image'
    path.write_text(yaml.safe_dump(moved))
    assert load(config).contract.camera.topic == '/elsewhere/image'
    with pytest.raises(ContractError, match='no contract .*none.yaml.: not a file'):
        load(dataclasses.replace(config, contract=str(tmp_path / 'none.yaml')))


def test_a_contract_is_found_by_name(package: ModelPackage) -> None:
    config = RuntimeConfig(package=str(package.path), backend='toy', contract='tabletop')
    assert load(config).contract == CONTRACT
    with pytest.raises(ContractError, match="'g1_bottle' does not fit the model"):
        load(dataclasses.replace(config, contract='g1_bottle'))


def test_frames_of_another_renderer_are_warned_of(package: ModelPackage, tmp_path: Path) -> None:
    drawn = write_toy_package(tmp_path / 'toy', CONTRACT)
    manifest = json.loads((drawn.path / 'manifest.json').read_text())
    (drawn.path / 'manifest.json').write_text(json.dumps(manifest | {'renderer': 'egl'}))
    with (
        Robot() as robot,
        Child('world_model', tmp_path / 'log', package=str(drawn.path), backend='toy',
              status_period_s=0.1) as node,
    ):  # fmt: skip
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        robot.node.create_publisher(String, '/camera/renderer', latched).publish(
            String(data='ray')
        )
        robot.wait_matched()
        values = robot.diagnosed(lambda v: v['camera_renderer'])
        assert (values['camera_renderer'], values['package_renderer']) == ('ray', 'egl')
        assert robot.got['model_info'][-1].renderer == 'egl'
        assert node.log.read_text().count('was trained on frames drawn by egl') == 1
        assert node.stop() == 0


def test_an_engine_that_computes_something_else_is_refused(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('wm_ros.backends.toy_backend.ACTION_GAIN', 0.2)
    with pytest.raises(ParityMismatch, match='toy is refused on this machine.*MISMATCH'):
        load(RuntimeConfig(package=str(package.path), backend='toy'))
