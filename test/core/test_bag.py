"""Bags in and out: one reader for all storages, clear errors, a recorder that survives a kill."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from wm_ros import share
from wm_ros.bag import BagError, BagRecorder, bag_info, iter_steps, recover, ros_types
from wm_ros.bag.stream import StreamRecorder, action_bytes, header, image_bytes
from wm_ros.bag.types import message_folder
from wm_ros.cli import main
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import ResetReason, Step
from wm_ros.feed import MessageFeed
from wm_ros.sources import ACTION, IMAGE
from wm_ros.sync import END_OF_STREAM_NS, StepSynchronizer

ROOT = Path(__file__).resolve().parents[2]
REAL_BAGS = sorted(share.g1_bottle().glob('episode_*'))
T0, PERIOD_NS = 5_000_000_000, 40_000_000


@pytest.fixture
def contract() -> StreamContract:
    return StreamContract.load(find_contract('tabletop'))


def content(frames: int, seed: int = 0) -> list[tuple[int, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (frames, 64, 64, 3), np.uint8)
    actions = rng.uniform(0.05, 0.15, (frames, 11)).astype(np.float32)
    return [(T0 + i * PERIOD_NS, images[i], actions[i]) for i in range(frames)]


def record(path: Path, contract: StreamContract, frames: int = 8) -> Path:
    with BagRecorder(path) as recorder:
        stream = StreamRecorder(recorder, contract)
        for stamp_ns, image_HWC, action_A in content(frames):
            stream.write_action(action_A, stamp_ns)
            stream.write_frame(image_HWC, stamp_ns)
    return path


def check_steps(steps: list[Step], contract: StreamContract, frames: int) -> None:
    wanted = content(frames)
    assert [step.stamp_ns for step in steps] == [stamp_ns for stamp_ns, _, _ in wanted]
    assert [step.index for step in steps] == list(range(frames))
    for step, (_, image_HWC, action_A) in zip(steps, wanted, strict=True):
        assert step.frame is not None
        assert np.array_equal(step.frame.image_HWC, image_HWC)
        assert np.array_equal(step.action_A, contract.normalise(action_A))
    for step, before in zip(steps[1:], steps, strict=False):
        assert np.array_equal(step.action_prev_A, before.action_A)


def test_what_is_recorded_is_read_back_as_steps(tmp_path: Path, contract: StreamContract) -> None:
    bag = record(tmp_path / 'bag', contract)
    check_steps(list(iter_steps(bag, contract)), contract, 8)
    check_steps(list(iter_steps(bag / 'bag_0.mcap', contract)), contract, 8)


def test_the_metadata_is_rosbag2_version_9(tmp_path: Path, contract: StreamContract) -> None:
    bag = record(tmp_path / 'bag', contract)
    text = (bag / 'metadata.yaml').read_text()
    content_ = yaml.safe_load(text)['rosbag2_bagfile_information']
    assert '&' not in text
    assert content_['version'] == 9
    assert content_['message_count'] == 16
    assert content_['duration']['nanoseconds'] == 7 * PERIOD_NS
    assert content_['relative_file_paths'] == ['bag_0.mcap']
    with AnyReader([bag]) as reader:
        assert reader.message_count == 16
        assert {c.topic: c.msgcount for c in reader.connections} == {
            '/camera/image_raw': 8,
            '/command': 8,
        }
        assert all(c.digest.startswith('RIHS01_') for c in reader.connections)
    info = bag_info(bag)
    assert (info.messages, info.start_ns) == (16, T0)
    assert [topic.rate_hz for topic in info.topics] == pytest.approx([25.0, 25.0], rel=1e-6)


@pytest.mark.parametrize('plugin', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_bags_of_other_writers_are_read(
    tmp_path: Path, contract: StreamContract, plugin: StoragePlugin
) -> None:
    with Writer(tmp_path / 'bag', version=9, storage_plugin=plugin) as writer:
        camera = writer.add_connection('/camera/image_raw', IMAGE, typestore=ros_types())
        command = writer.add_connection('/command', ACTION, typestore=ros_types())
        for stamp_ns, image_HWC, action_A in content(8):
            writer.write(camera, stamp_ns + 3, image_bytes(image_HWC, stamp_ns))
            writer.write(command, stamp_ns + 90_000_000, action_bytes(action_A, stamp_ns))
    check_steps(list(iter_steps(tmp_path / 'bag', contract)), contract, 8)


def test_bag_and_live_feed_give_the_same_steps(tmp_path: Path, contract: StreamContract) -> None:
    """The node's feed, fed with the recorded bytes as they arrived, against the bag reader."""
    bag = record(tmp_path / 'bag', contract, frames=30)
    live = StepSynchronizer(contract)
    feed = MessageFeed(contract, live)
    steps = []
    with AnyReader([bag]) as reader:
        for connection, log_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            feed.push(connection.topic, message, log_ns)
            steps += live.poll(log_ns)
    steps += live.poll(END_OF_STREAM_NS)
    for ours, theirs in zip(steps, iter_steps(bag, contract), strict=True):
        assert np.array_equal(ours.frame.image_HWC, theirs.frame.image_HWC)
        assert np.array_equal(ours.action_A, theirs.action_A)
        assert np.array_equal(ours.action_prev_A, theirs.action_prev_A)
        assert (ours.stamp_ns, ours.index, ours.reset) == (
            theirs.stamp_ns,
            theirs.index,
            theirs.reset,
        )


def write_messages(path: Path, messages: list[tuple[str, str, bytes, int]]) -> Path:
    with BagRecorder(path) as recorder:
        for topic, msgtype, data, log_ns in messages:
            recorder.write(topic, msgtype, data, log_ns)
    return path


def test_bad_messages_are_refused_counted_and_the_rest_is_read(
    tmp_path: Path, contract: StreamContract
) -> None:
    messages = []
    for stamp_ns, image_HWC, action_A in content(6):
        messages.append(('/command', ACTION, action_bytes(action_A, stamp_ns), stamp_ns))
        messages.append(('/camera/image_raw', IMAGE, image_bytes(image_HWC, stamp_ns), stamp_ns))
    types = ros_types().types
    odd = types[IMAGE](header(T0), 4, 4, 'yuv422', 0, 8, np.zeros(32, np.uint8))
    short = types[IMAGE](header(T0), 4, 4, 'rgb8', 0, 12, np.zeros(47, np.uint8))
    nan_A = np.full(11, np.nan, np.float32)
    at = T0 + 4 * PERIOD_NS + 1
    messages += [
        ('/camera/image_raw', IMAGE, bytes(ros_types().serialize_cdr(odd, IMAGE)), at),
        ('/camera/image_raw', IMAGE, bytes(ros_types().serialize_cdr(short, IMAGE)), at),
        ('/command', ACTION, action_bytes(nan_A, at), at),
        ('/command', ACTION, action_bytes([1.0], at), at),
        ('/command', ACTION, action_bytes(content(1)[0][2], 0), at),
    ]
    bag = write_messages(tmp_path / 'bag', messages)
    refused, counts = [], Counter()
    steps = list(iter_steps(bag, contract, on_rejection=refused.append, counts=counts))
    check_steps(steps, contract, 6)
    wanted = [
        'action.not_finite',
        'action.width',
        'action.zero_stamp',
        'frame.encoding',
        'frame.size',
    ]
    assert sorted(f'{one.kind}.{one.reason.value}' for one in refused) == wanted
    assert all(counts[name] == 1 for name in wanted)


def test_a_camera_of_another_rate_shows_in_the_counts(
    tmp_path: Path, contract: StreamContract, capsys: pytest.CaptureFixture[str]
) -> None:
    """A 30 Hz camera under the 25 Hz contract, for four seconds."""
    messages = []
    for i, (_, image_HWC, action_A) in enumerate(content(121)):
        at = T0 + i * 1_000_000_000 // 30
        messages.append(('/command', ACTION, action_bytes(action_A, at), at))
        messages.append(('/camera/image_raw', IMAGE, image_bytes(image_HWC, at), at))
    bag = write_messages(tmp_path / 'bag', messages)
    counts: Counter[str] = Counter()
    assert len(list(iter_steps(bag, contract, counts=counts))) == 121
    assert +counts == Counter({'frame.rate_off': 4, 'reset.start': 1})
    assert main(['bag', 'steps', str(bag), '--contract', 'tabletop']) == 0
    assert '  frame.rate_off 4\n' in capsys.readouterr().out


def test_a_reset_message_in_the_bag_resets(tmp_path: Path, contract: StreamContract) -> None:
    values = contract.to_dict()
    values['reset']['topic'] = '/reset'
    with_topic = StreamContract.from_dict(values)
    bag = record(tmp_path / 'plain', contract)
    assert len(list(iter_steps(bag, with_topic))) == 8
    messages = [('/reset', 'std_msgs/msg/Empty', b'\0\1\0\0\0', T0 + 3 * PERIOD_NS - 1)]
    for stamp_ns, image_HWC, action_A in content(5):
        messages.append(('/command', ACTION, action_bytes(action_A, stamp_ns), stamp_ns))
        messages.append(('/camera/image_raw', IMAGE, image_bytes(image_HWC, stamp_ns), stamp_ns))
    steps = list(iter_steps(write_messages(tmp_path / 'reset', messages), with_topic))
    assert [step.reset for step in steps if step.reset] == [ResetReason.START, ResetReason.TOPIC]
    assert [step.index for step in steps] == [0, 1, 2, 0, 1]


def frames_only() -> list[tuple[str, str, bytes, int]]:
    return [
        ('/camera/image_raw', IMAGE, image_bytes(image_HWC, stamp_ns), stamp_ns)
        for stamp_ns, image_HWC, _ in content(3)
    ]


def commands_only(topic: str = '/command') -> list[tuple[str, str, bytes, int]]:
    return [(topic, ACTION, action_bytes(a, stamp), stamp) for stamp, _, a in content(3)]


@pytest.mark.parametrize(
    ('messages', 'words'),
    [
        ([], ['no topic /camera/image_raw', 'nothing']),
        (frames_only(), ['no topic /command', '/camera/image_raw (sensor_msgs/msg/Image)']),
        (frames_only() + commands_only('/other'), ['no topic /command', '/other']),
        (
            commands_only('/camera/image_raw') + commands_only(),
            ['topic /camera/image_raw is wm_ros_msgs/msg/Action', 'expects sensor_msgs/msg/Image'],
        ),
        (
            [*frames_only(), ('/command', ACTION, b'\0\1\0\0\5\0', T0 + 9)],
            ['message 1 of /command', str(T0 + 9), ACTION],
        ),
        (
            frames_only()
            + [(t, m, d, n + 10**9) for t, m, d, n in commands_only()][:1]
            + [('/command', ACTION, action_bytes(np.ones(3), T0), T0)],
            ['no step', 'frame.no_action 3', 'action.width 1'],
        ),
    ],
    ids=['empty bag', 'no commands', 'other topic', 'mistyped', 'garbage message', 'no step'],
)
def test_unusable_bags_name_file_topic_and_position(
    tmp_path: Path, contract: StreamContract, messages: list, words: list[str]
) -> None:
    if words[0] == 'no step':
        messages = [m for m in messages if m[0] != '/command' or b'\3\0\0\0' in m[2]]
    bag = write_messages(tmp_path / 'bag', messages)
    with pytest.raises(BagError) as error:
        list(iter_steps(bag, contract))
    assert all(word in str(error.value) for word in [str(bag), *words]), str(error.value)


def test_an_announced_topic_without_messages_is_called_empty(
    tmp_path: Path, contract: StreamContract
) -> None:
    with BagRecorder(tmp_path / 'bag') as recorder:
        recorder.add_topic('/command', ACTION)
        for message in frames_only():
            recorder.write(*message)
    with pytest.raises(BagError, match='topic /command is empty'):
        list(iter_steps(tmp_path / 'bag', contract))


def test_paths_that_are_no_bag_are_named(tmp_path: Path, contract: StreamContract) -> None:
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'empty.mcap').write_bytes(b'')
    (tmp_path / 'text.mcap').write_text('hello' * 100)
    for name in ('nowhere', 'folder', 'empty.mcap', 'text.mcap'):
        with pytest.raises(BagError, match=name):
            list(iter_steps(tmp_path / name, contract))


def test_the_recorder_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    (tmp_path / 'taken').mkdir()
    with pytest.raises(BagError, match='taken'):
        BagRecorder(tmp_path / 'taken')
    recorder = BagRecorder(tmp_path / 'bag')
    recorder.write('/a', ACTION, action_bytes([1.0], 1), 1)
    with pytest.raises(BagError, match=r'/a is recorded as wm_ros_msgs/msg/Action'):
        recorder.write('/a', IMAGE, b'', 2)
    with pytest.raises(BagError, match='unknown message type'):
        recorder.write('/b', 'no_msgs/msg/Such', b'', 2)
    with pytest.raises(BagError, match='log time -1'):
        recorder.write('/a', ACTION, b'', -1)
    recorder.close()
    recorder.close()
    with pytest.raises(BagError, match='closed'):
        recorder.write('/a', ACTION, action_bytes([1.0], 3), 3)
    assert bag_info(tmp_path / 'bag').messages == 1


def test_a_foreign_type_is_recorded_with_its_definition(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / 'bag') as recorder:
        recorder.add_topic('/x', 'my_msgs/msg/Number', 'int32 value\n')
        recorder.write('/x', 'my_msgs/msg/Number', b'\0\1\0\0\7\0\0\0', 4)
    with AnyReader([tmp_path / 'bag']) as reader:
        ((connection, log_ns, raw),) = reader.messages()
        assert (reader.deserialize(raw, connection.msgtype).value, log_ns) == (7, 4)


KILLED = """
import os, signal, sys
from wm_ros.bag import BagRecorder
from wm_ros.bag.stream import action_bytes
recorder = BagRecorder(sys.argv[1])
for i in range(500):
    recorder.write('/command', 'wm_ros_msgs/msg/Action', action_bytes([i], i + 1), i * 10_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_recorder_loses_at_most_the_last_second(tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', KILLED, str(bag)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert yaml.safe_load((bag / 'metadata.yaml').read_text())
    with pytest.raises(BagError, match='wm bag recover'):
        bag_info(bag)
    (found,) = recover(bag)
    assert not found.complete
    assert found.end_ns >= 499 * 10_000_000 - 1_000_000_000
    assert found.messages == {'/command': bag_info(bag).messages}


def test_message_definitions_are_the_repositorys() -> None:
    assert message_folder() == ROOT / 'msg' / 'msg'
    assert ros_types().fielddefs[ACTION][1][-1][0] == 'values'


@pytest.mark.skipif(not REAL_BAGS, reason='the shared recordings are not here')
def test_real_recordings_become_steps() -> None:
    contract = StreamContract.load(find_contract('g1_bottle'))
    counts: Counter[str] = Counter()
    steps = list(iter_steps(REAL_BAGS[0], contract, counts=counts))
    info = {topic.name: topic.messages for topic in bag_info(REAL_BAGS[0]).topics}
    assert len(steps) == info[contract.camera.topic] > 200
    assert +counts == Counter({'reset.start': 1})
    assert all(step.frame is not None and step.frame.image_HWC.std() > 10 for step in steps)
    with AnyReader([REAL_BAGS[0]]) as reader:
        wanted = [c for c in reader.connections if c.topic != '/joint_states']
        raw = {}
        for connection, log_ns, data in reader.messages(wanted):
            raw[connection.topic, log_ns] = reader.deserialize(data, connection.msgtype)
    step = steps[100]
    command = raw['/joint_commands', step.stamp_ns]
    assert [entry.name for entry in contract.entries] == list(command.name)
    np.testing.assert_allclose(contract.denormalise(step.action_A), command.position, atol=1e-6)
    image_HWC = cv2.imdecode(raw[contract.camera.topic, step.stamp_ns].data, cv2.IMREAD_COLOR_RGB)
    halved = image_HWC.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(step.frame.image_HWC - halved).max() <= 0.5
