"""Two cameras live: a bag's steps through the node are the library's, each camera's prediction has
its own topic, a planner's goal is the picture of all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_both_ways import (  # noqa: F401  node is a fixture
    assert_same_steps,
    node,
    through_the_library,
    through_the_node,
)
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile
from robot import PERIOD_NS, Child, Robot
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from wm_ros_msgs.msg import ObjectiveTerm

from wm_ros.bag import BagRecorder
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.model_package import ModelPackage
from wm_ros.nodes import convert
from wm_ros.nodes.diagnostics import Ages, Surroundings, judge
from wm_ros.nodes.inputs import info_topics
from wm_ros.nodes.objective_messages import term
from wm_ros.nodes.world_model_node import WorldModelNode
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.sources import ACTION, IMAGE
from wm_ros.tiles import untile
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

CAMERAS = ('/camera/image_raw', '/wrist/image_raw')
START_NS = 10**15
EVENTS = {
    'frame.missing': 7,  # one never came, of six the view was too old
    'frame.no_view': 2,
    'view.encoding': 1,
    'view.duplicate_stamp': 1,
    'view.backward_stamp': 1,  # of the clock that jumped, until the frame that says so
    'view.held /wrist/image_raw': 8,
    'view.lost /wrist/image_raw': 6,
    'reset.start': 1,
    'reset.clock_jump': 1,
}


def two_eyed() -> StreamContract:
    """The table-top's robot with a second camera; patient, for busy machines."""
    values = StreamContract.load(find_contract('tabletop')).to_dict()
    values['cameras'] = [{'topic': topic, 'type': IMAGE} for topic in CAMERAS]
    values['reset'] |= {'gap_s': 0.2}
    return StreamContract.from_dict(values | {'name': 'two_eyed', 'action_wait_ms': 1000.0})


CONTRACT = two_eyed()


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return write_toy_package(tmp_path / 'toy', CONTRACT)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Two cameras of different size; the second 3 ms early, in between 3 ms late: `EVENTS`."""
    rng = np.random.default_rng(0)
    with BagRecorder(tmp_path / 'bag') as recorder:
        for i in range(60):
            log_ns = START_NS + i * PERIOD_NS
            stamp_ns = log_ns - (60_000_000_000 if i >= 50 else 0)  # a clock that jumps
            data = image_bytes(rng.integers(0, 255, (64, 80, 3), np.uint8), stamp_ns, 'cam')
            early = not 30 <= i < 50
            phase_ns = -3_000_000 if early else 3_000_000
            view = image_bytes(
                rng.integers(0, 255, (48, 120, 3), np.uint8), stamp_ns + phase_ns, 'wrist'
            )
            if i == 7:
                view = view.replace(b'rgb8', b'xyz8')
            command = action_bytes(rng.uniform(-0.2, 0.2, 11), stamp_ns)
            recorder.write('/command', ACTION, command, log_ns)
            before, after = log_ns - 3_000_000, log_ns + 3_000_000
            seen = i not in (0, 1, 12, 13, 14, *range(20, 30))
            if seen and early:
                recorder.write(CAMERAS[1], IMAGE, view, before)
            if i != 40:
                recorder.write(CAMERAS[0], IMAGE, data, log_ns)
            if seen and not early:
                recorder.write(CAMERAS[1], IMAGE, view, after)
            if i == 18:
                recorder.write(CAMERAS[1], IMAGE, view, after)
    return tmp_path / 'bag'


def test_live_and_library_agree_to_the_bit(
    node: WorldModelNode,  # noqa: F811
    package: ModelPackage,
    bag: Path,
) -> None:
    live_steps, live_pictures, live_counts = through_the_node(node, bag)
    steps, pictures, counts = through_the_library(package, bag, CONTRACT)
    assert {name: counts[name] for name in EVENTS} == EVENTS, 'the bag holds what it is for'
    assert {k: v for k, v in live_counts.items() if v} == {k: v for k, v in counts.items() if v}
    assert_same_steps(live_steps, steps)
    np.testing.assert_array_equal(live_pictures, pictures)


def picture_term(kind: str, side: int, **fields: object) -> ObjectiveTerm:
    """A goal of noise: what counts here is its size."""
    image_HWC = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    message = ObjectiveTerm(kind=kind, weight=1.0, **fields)
    message.goals = [convert.image_message(image_HWC, convert.header(1, 'cam'))]
    return message


def test_a_goal_is_the_picture_of_all_cameras() -> None:
    goal = term(picture_term(ObjectiveTerm.GOAL_IMAGE, 64), CONTRACT)
    assert goal.images_GHWC.shape == (1, 64, 64, 3)
    region = picture_term(ObjectiveTerm.GOAL_REGION, 64)
    region.region.x_offset, region.region.y_offset = 0, 32  # what the wrist is to see
    region.region.width, region.region.height = 64, 32
    assert term(region, CONTRACT).region is not None
    with pytest.raises(QueryError, match='2 cameras, a goal is the picture of all') as error:
        term(picture_term(ObjectiveTerm.GOAL_IMAGE, 96), CONTRACT)
    assert error.value.code is QueryCode.INVALID_GOAL


def test_a_silent_camera_is_reported_by_its_topic(
    node: WorldModelNode,  # noqa: F811
) -> None:
    loaded, session = node.loaded, node.session
    ages = Ages.at(session, 10**9)
    assert ages.views_s == {CAMERAS[1]: float('inf')}
    ages = Ages(0.1, 0.1, {CAMERAS[1]: 2.0})
    level, text = judge(loaded, session, ages, Surroundings(), 1.0)
    assert (level, text) == (DiagnosticStatus.WARN, 'no message of /wrist/image_raw for 2.0 s')


def test_a_shared_camera_info_belongs_to_nobody() -> None:
    assert info_topics(CONTRACT) == {'/camera/camera_info': 0, '/wrist/camera_info': 1}
    values = CONTRACT.to_dict()
    values['cameras'] = [
        {'topic': topic, 'type': IMAGE} for topic in ('/cams/left', '/cams/right', '/head/image')
    ]
    assert info_topics(StreamContract.from_dict(values)) == {'/head/camera_info': 2}


def test_each_camera_has_its_own_prediction(package: ModelPackage, tmp_path: Path) -> None:
    with Robot() as robot, Child(
        'world_model', tmp_path / 'log', package=str(package.path), backend='toy',
        status_period_s=0.1,
    ) as child:  # fmt: skip
        deep, got = QoSProfile(depth=50), {}
        wrist = robot.node.create_publisher(Image, CAMERAS[1], deep)
        wrist_info = robot.node.create_publisher(CameraInfo, '/wrist/camera_info', deep)
        for name in ('camera', 'wrist'):
            for topic, kind in (
                ('image', Image),
                ('image/compressed', CompressedImage),
                ('camera_info', CameraInfo),
            ):
                got[name, topic] = []
                robot.node.create_subscription(
                    kind, f'/world_model/predicted/{name}/{topic}', got[name, topic].append, deep
                )
        robot.wait_matched()
        robot.until(wrist.get_subscription_count, 'the wrist is heard')
        robot.until(wrist_info.get_subscription_count, 'its intrinsics are heard')
        info = CameraInfo(height=60, width=80)
        info.k = np.array([80, 0, 39.5, 0, 80, 29.5, 0, 0, 1], np.float64)
        wrist_info.publish(info)
        robot.spin(0.2)

        def step(index: int) -> object:
            stamp_ns = robot.stamp_ns + PERIOD_NS
            view_HWC = np.full((60, 80, 3), 50 + 40 * index, np.uint8)
            wrist.publish(convert.image_message(view_HWC, convert.header(stamp_ns, 'wrist')))
            return robot.step(np.full((64, 64, 3), 30, np.uint8))

        prediction = [step(index) for index in range(3)][-1]
        last = prediction.header.stamp

        def shown(name: str, topic: str) -> object:
            return robot.until(
                lambda: next((m for m in got[name, topic] if m.header.stamp == last), None),
                f'{topic} of {name}',
            )

        both_HWC = np.frombuffer(prediction.image.data, np.uint8).reshape(64, 64, 3)
        for name, frame_id, part_HWC in zip(
            ('camera', 'wrist'), ('cam', 'wrist'), untile(both_HWC, 2), strict=True
        ):
            image = shown(name, 'image')
            assert (image.height, image.width, image.header.frame_id) == (32, 64, frame_id)
            assert bytes(image.data) == part_HWC.tobytes()
            assert shown(name, 'image/compressed').header.frame_id == frame_id
        assert both_HWC[:32].mean() < 60 < 100 < both_HWC[32:].mean(), 'each view where it is'
        intrinsics = shown('wrist', 'camera_info')
        assert (intrinsics.height, intrinsics.width) == (32, 64)
        np.testing.assert_allclose(intrinsics.k[[0, 4]], 80 * 64 / 80)
        np.testing.assert_allclose(intrinsics.k[[2, 5]], [31.5, 15.5])
        assert robot.node.count_publishers('/world_model/predicted/image') == 0
        robot.tick()  # without the wrist: held once the contract's second is over
        values = robot.diagnosed(lambda v: v.get('view.held /wrist/image_raw') == '1')
        assert float(values['view_age_s /wrist/image_raw']) > 0
        assert child.stop() == 0
