"""world_model_node as a process on real ROS 2, with the toy engine: what goes in and comes out."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from rclpy.qos import QoSProfile
from robot import PERIOD_NS, WIDTH, Child, Robot, rejected
from sensor_msgs.msg import CameraInfo, CompressedImage
from wm_ros_msgs.srv import LoadMemory, ResetMemory, SaveMemory

from wm_ros import memory as memories
from wm_ros.backends.resolve import resolve_backend
from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, Step
from wm_ros.messages import stamp_to_ns
from wm_ros.model_package import ModelPackage
from wm_ros.nodes import convert
from wm_ros.nodes.measure import MOST_OWN_BYTES, Growth, MemorySample, rss_growth
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

pytestmark = pytest.mark.ros

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
SEED = 7


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_toy_package(tmp_path_factory.mktemp('packages') / 'toy', CONTRACT)


@pytest.fixture(scope='module')
def pair(
    package: ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Robot, Child]]:
    """One node for all tests that leave it as they found it."""
    log = tmp_path_factory.mktemp('node') / 'log'
    with (
        Robot() as robot,
        Child(
            'world_model',
            log,
            package=str(package.path),
            backend='toy',
            seed=SEED,
            status_period_s=0.1,
        ) as node,
    ):
        robot.wait_matched()
        yield robot, node
        assert node.stop() == 0, log.read_text()


@pytest.fixture
def robot(pair: tuple[Robot, Child]) -> Robot:
    """The robot, its node freshly reset."""
    robot, node = pair
    assert node.process.poll() is None, node.log.read_text()
    answer = robot.call(ResetMemory, '/world_model/reset_memory', note='between tests')
    assert answer.success and answer.error_code == ResetMemory.Response.NONE
    for messages in robot.got.values():
        messages.clear()
    return robot


def pixels(message: object) -> np.ndarray:
    """The picture of a Prediction or Image message."""
    image = getattr(message, 'image', message)
    assert image.encoding == 'rgb8' and image.step == 3 * image.width
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


def pictures(count: int, side: int = 64) -> np.ndarray:
    """Smooth pictures that differ, uint8 [count, side, side, 3]."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 255, (count, 4, 4, 3), np.uint8)
    return np.stack([cv2.resize(picture, (side, side)) for picture in small])


def test_live_predictions_equal_those_of_the_library(robot: Robot, package: ModelPackage) -> None:
    model = WorldModel(package, resolve_backend('toy', package))
    rng = np.random.default_rng(SEED)
    memory = model.reset()
    commands = np.random.default_rng(2).uniform(-0.1, 0.1, (20, WIDTH)).astype(np.float32)
    before_A = CONTRACT.normalise(commands[0])
    for index, (image_HWC, command) in enumerate(zip(pictures(20), commands, strict=True)):
        live = robot.step(image_HWC, command)
        source_ns = stamp_to_ns(live.source_stamp)
        action_A = CONTRACT.normalise(command)
        step = Step(Frame(image_HWC, source_ns), before_A, action_A, source_ns, index)
        memory = model.observe(memory, step)
        rollout = model.imagine(memory, action_A[None, None], model.noise(rng))
        np.testing.assert_array_equal(pixels(live), rollout.frames_BTHWC[0, 0])
        assert (live.index, live.horizon, live.package) == (index, 1, 'toy')
        assert stamp_to_ns(live.header.stamp) == source_ns + PERIOD_NS
        assert live.header.frame_id == 'cam' and live.image.header == live.header
        assert 0 < live.latency_ms < 5000
        before_A = action_A
    picture = robot.until(
        lambda: next((m for m in robot.got['predicted/image'] if m.header == live.header), None),
        'the picture topic',
    )
    np.testing.assert_array_equal(pixels(picture), pixels(live))


def test_model_info_is_latched_and_complete(robot: Robot, package: ModelPackage) -> None:
    with Robot('late') as late:
        info = late.until(lambda: late.got['model_info'], 'latched info')[0]
    assert (info.name, info.arm, info.backend, info.precision) == ('toy', 'ttt', 'toy', 'fp32')
    assert list(info.action_names) == [entry.name for entry in CONTRACT.entries]
    np.testing.assert_allclose(info.action_high, CONTRACT.limits_A2[:, 1], rtol=1e-6)
    assert info.state_bytes == package.manifest.state_bytes
    assert info.backend_reason == 'toy: asked for by name' and info.renderer == ''
    assert info.package_sha256 == package.sha256 and info.rate_hz == CONTRACT.rate_hz


def test_status_and_diagnostics_count_frames(robot: Robot, package: ModelPackage) -> None:
    for image_HWC in pictures(12):
        robot.step(image_HWC)
    status = robot.status(lambda s: s.frames == 12, '12 frames in memory')
    assert status.state_bytes == package.manifest.state_bytes and status.finite
    assert status.last_reset_reason == 'service' and status.norm > 0
    assert status.drift_psnr > 5 and status.copy_last_psnr > 5 and status.latency_p50_ms > 0
    robot.got['diagnostics'].clear()
    entry = robot.until(lambda: robot.got['diagnostics'], 'diagnostics')[0].status[0]
    values = {item.key: item.value for item in entry.values}
    assert values['backend'] == 'toy fp32' and values['memory_frames'] == '12'
    assert (values['camera_rate_hz'], values['model_rate_hz']) == ('25.00', '25')
    robot.until(
        lambda: any('no camera message' in m.status[0].message for m in robot.got['diagnostics']),
        'a stale camera is reported',
    )


def test_camera_of_any_size_with_intrinsics_of_the_crop(robot: Robot) -> None:
    robot.stamp_ns += PERIOD_NS
    head = convert.header(robot.stamp_ns, 'cam')
    wide_HWC = np.zeros((120, 160, 3), np.uint8)
    wide_HWC[:, 20:140] = (10, 200, 30)
    info = CameraInfo(header=head, height=120, width=160, distortion_model='plumb_bob')
    info.k = np.array([100, 0, 79.5, 0, 100, 59.5, 0, 0, 1], np.float64)
    info.p = np.array([100, 0, 79.5, 0, 0, 100, 59.5, 0, 0, 0, 1, 0], np.float64)
    robot.camera_info.publish(info)
    robot.spin(0.2)
    prediction = robot.step(wide_HWC)
    assert (prediction.image.height, prediction.image.width) == (64, 64)
    assert np.abs(pixels(prediction).mean((0, 1)) - (10, 200, 30)).max() < 20
    cropped = robot.until(lambda: robot.got['predicted/camera_info'], 'intrinsics')[0]
    assert cropped.header == prediction.header
    np.testing.assert_allclose(cropped.k[[0, 4]], 100 * 64 / 120)
    np.testing.assert_allclose(cropped.k[[2, 5]], 31.5, atol=1e-6)
    np.testing.assert_allclose(cropped.p[[0, 5]], 100 * 64 / 120)


def test_intrinsics_of_another_size_are_refused_and_frames_go_on(robot: Robot) -> None:
    robot.step()
    info = CameraInfo(header=convert.header(robot.stamp_ns, 'cam'), height=240, width=320)
    info.k = np.array([100, 0, 159.5, 0, 100, 119.5, 0, 0, 1], np.float64)

    def sizes_refused(status: object) -> int:
        return rejected(status).get('camera_info.size', 0)

    before = sizes_refused(robot.status(lambda s: s.frames == 1, 'first frame'))
    robot.camera_info.publish(info)
    robot.status(lambda s: sizes_refused(s) == before + 1, 'counted')
    robot.got['predicted/camera_info'].clear()
    indices = [robot.step().index for _ in range(5)]
    assert indices == [1, 2, 3, 4, 5]
    status = robot.status(lambda s: s.frames == 6, 'six frames')
    assert sizes_refused(status) == before + 1, 'once per message, not per frame'
    assert robot.got['predicted/camera_info'] == []
    info.height = info.width = 64
    robot.camera_info.publish(info)
    robot.until(lambda: robot.step() and robot.got['predicted/camera_info'], 'intrinsics again')


def test_compressed_picture_is_made_for_a_subscriber(robot: Robot) -> None:
    topic, got = '/world_model/predicted/image/compressed', []
    subscription = robot.node.create_subscription(
        CompressedImage, topic, got.append, QoSProfile(depth=10)
    )
    robot.until(lambda: robot.node.count_subscribers(topic), 'matched')

    def answered() -> bool:
        robot.step(pictures(1)[0])
        return bool(got)

    robot.until(answered, 'a compressed picture')
    decoded = cv2.imdecode(np.frombuffer(got[0].data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded.shape == (64, 64, 3) and 'jpeg' in got[0].format
    robot.node.destroy_subscription(subscription)


def test_bad_frames_are_refused_by_reason_and_good_ones_go_on(robot: Robot) -> None:
    robot.step()
    good_ns = robot.stamp_ns
    counts = dict(rejected(robot.status(lambda s: s.frames == 1, 'first frame')))

    def refused(reason: str, stamp_ns: int, **changes: object) -> None:
        """Send a frame with some fields changed and wait until it has been counted."""
        picture = convert.image_message(
            np.zeros((64, 64, 3), np.uint8), convert.header(stamp_ns, 'cam')
        )
        for name, value in changes.items():
            setattr(picture, name, value)
        robot.camera.publish(picture)
        counts[reason] = counts.get(reason, 0) + 1
        robot.status(lambda s: rejected(s) == counts, f'{reason} is counted, nothing else')

    next_ns = good_ns + PERIOD_NS
    refused('frame.encoding', next_ns, encoding='yuv_unheard_of')
    refused('frame.padding', next_ns, width=65)
    refused('frame.size', next_ns, height=63)
    refused('frame.padding', next_ns, step=100)
    refused('frame.duplicate_stamp', good_ns)
    refused('frame.backward_stamp', good_ns - PERIOD_NS)
    refused('frame.too_soon', good_ns + 1000)
    refused('frame.zero_stamp', 0)
    refused('frame.future_stamp', robot.now_ns() + 3600 * 10**9)
    status = robot.status(lambda s: True, 'status')
    assert status.frames == 1 and status.last_reset_reason == 'service'
    assert robot.step().index == 1


def test_bad_commands_are_refused_and_the_last_good_one_holds(robot: Robot) -> None:
    low_A, high_A = CONTRACT.limits_A2.T
    grey = np.full((64, 64, 3), 128, np.uint8)
    first = robot.step(grey, values=high_A)
    for bad in (np.full(WIDTH, np.nan, np.float32), low_A[:3]):
        robot.send_command(robot.stamp_ns + 1, bad)
    robot.send_command(0, low_A)
    robot.stamp_ns += PERIOD_NS
    robot.send_frame(robot.stamp_ns, grey)
    second = robot.predicted(robot.stamp_ns)
    assert second.index == first.index + 1
    # The toy makes a picture brighter by 0.1 of half the range times a_t - 0.5 a_{t-1}.
    for prediction in (first, second):
        assert pixels(prediction).mean() == pytest.approx(128 + 0.1 * 127.5 * 0.5, abs=2)
    counts = rejected(robot.status(lambda s: s.frames == 2, 'two frames'))
    assert counts['action.not_finite'] and counts['action.width'] and counts['action.zero_stamp']


def test_gaps_and_jumps_reset_by_the_contract(robot: Robot) -> None:
    robot.step()
    robot.stamp_ns += 2 * PERIOD_NS
    assert robot.step().index == 3, 'two missing frames are counted as steps'
    assert robot.status(lambda s: s.frames == 2, 'two observed frames').missing_frames >= 2
    robot.stamp_ns += 2_000_000_000
    assert robot.step().index == 0
    robot.status(lambda s: s.last_reset_reason == 'gap', 'a gap resets')
    robot.stamp_ns -= 60_000_000_000
    assert robot.step().index == 0
    status = robot.status(lambda s: s.last_reset_reason == 'clock_jump', 'a jump resets')
    assert status.frames == 1


def test_save_and_load_bring_the_same_predictions_back(
    robot: Robot, package: ModelPackage, tmp_path: Path
) -> None:
    codes = SaveMemory.Response
    path = str(tmp_path / 'memory')
    empty = robot.call(SaveMemory, '/world_model/save_memory', path=path)
    assert empty.error_code == codes.NOTHING_OBSERVED and not Path(path).exists()
    shots = pictures(12)
    for image_HWC in shots[:6]:
        robot.step(image_HWC)
    saved = robot.call(SaveMemory, '/world_model/save_memory', path=path)
    assert saved.success and saved.frames == 6 and saved.bytes == Path(path).stat().st_size
    again = robot.call(SaveMemory, '/world_model/save_memory', path=path)
    assert again.error_code == codes.FILE_EXISTS and 'overwrite' in again.message
    nowhere = robot.call(SaveMemory, '/world_model/save_memory', path='relative/file')
    assert nowhere.error_code == codes.BAD_PATH

    def after_loading() -> list[np.ndarray]:
        loaded = robot.call(LoadMemory, '/world_model/load_memory', path=path)
        assert loaded.success and loaded.frames == 6 and loaded.sha256 == saved.sha256
        return [pixels(robot.step(image_HWC)) for image_HWC in shots[6:]]

    first = after_loading()
    status = robot.status(lambda s: s.frames == 12, 'loaded frames count on')
    assert status.last_reset_reason == 'loaded'
    np.testing.assert_array_equal(first, after_loading())

    loads = LoadMemory.Response
    damaged = tmp_path / 'damaged'
    damaged.write_bytes(Path(path).read_bytes()[:-100])
    foreign = tmp_path / 'text'
    foreign.write_text('no memory at all')
    other = tmp_path / 'other'
    memories.save(WorldModel(package, resolve_backend('toy', package)).reset(), other, 'f' * 64)
    for file, code in (
        (damaged, loads.CORRUPT),
        (other, loads.WRONG_MODEL),
        (foreign, loads.WRONG_VERSION),
        (tmp_path / 'none', loads.NOT_FOUND),
    ):
        answer = robot.call(LoadMemory, '/world_model/load_memory', path=str(file))
        assert not answer.success and answer.error_code == code, (file, answer)
    assert robot.step().index == 6, 'a refused file leaves the memory as it is'


def test_a_burst_is_thinned_out_and_nothing_gets_stuck(robot: Robot) -> None:
    robot.step()
    before = robot.status(lambda s: s.frames == 1, 'first frame')
    stamps = [robot.tick() for _ in range(20)]  # within gap_s, or it would be a reset
    newest = robot.predicted(stamps[-1])
    assert 1 <= newest.index <= 20, 'dropped frames are bridged a little, never a reset'
    assert robot.step().index == newest.index + 1
    robot.status(lambda s: s.frames >= 3 and s.resets == before.resets, 'no reset')


def test_memory_of_the_process_does_not_grow(robot: Robot, pair: tuple[Robot, Child]) -> None:
    """By the demo's own rule, the frames counted as if they had come at the camera's rate."""
    process = psutil.Process(pair[1].process.pid)
    samples = []
    for frame in range(1800):
        robot.step()
        robot.got['prediction'].clear()
        robot.got['predicted/image'].clear()
        if frame % 10 == 0:
            memory = process.memory_info()
            samples.append(MemorySample(frame * PERIOD_NS, memory.rss, memory.shared))
    growth = rss_growth(samples, np.arange(1800, dtype=np.int64) * PERIOD_NS)
    assert isinstance(growth, Growth), growth
    assert growth.least_seen < 16 and growth.flat_frames >= growth.least_flat_frames, growth.text
    assert growth.private_bytes <= MOST_OWN_BYTES, growth.text


def test_terminates_cleanly_and_reports_refusals(package: ModelPackage, tmp_path: Path) -> None:
    with Child('world_model', tmp_path / 'term', package=str(package.path), backend='toy') as node:
        end_s = time.monotonic() + 20
        while 'package toy' not in node.log.read_text() and time.monotonic() < end_s:
            time.sleep(0.05)
        assert node.stop(signal.SIGTERM) == 0
    with Child('world_model', tmp_path / 'none', package='no_such_package') as node:
        assert node.process.wait(20) == 1
        text = node.log.read_text()
        assert "no model package 'no_such_package'" in text and 'Traceback' not in text
