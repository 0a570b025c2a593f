"""Bags of every storage, whole and broken: read as steps, or refused naming file, topic, position.

What other recorders write, and what disks, copies and hands make of it. See test_bag.py for bags
that are whole but unusable, test_bag_recover.py for what can be mended.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from wm_ros.bag import BagError, BagRecorder, bag_info, iter_steps, recover, ros_types
from wm_ros.bag.stream import StreamRecorder, action_bytes, image_bytes
from wm_ros.bag.types import definition_of, message_folder
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import Step
from wm_ros.sources import ACTION, IMAGE

CONTRACT = StreamContract.load(find_contract('tabletop'))
CAMERA, COMMAND = '/camera/image_raw', '/command'
FRAMES, T0, PERIOD_NS = 60, 5_000_000_000, 40_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3), np.uint8)
ACTIONS = np.random.default_rng(1).uniform(0.05, 0.15, (FRAMES, 11)).astype(np.float32)
Edit = Callable[[dict[str, Any]], Any]


def messages() -> list[tuple[str, int, bytes]]:
    """(topic, time, CDR bytes) of a good bag: a command and a frame per instant."""
    found = []
    for i in range(FRAMES):
        stamp_ns = T0 + i * PERIOD_NS
        found.append((COMMAND, stamp_ns, action_bytes(ACTIONS[i], stamp_ns)))
        found.append((CAMERA, stamp_ns, image_bytes(PIXELS[i], stamp_ns)))
    return found


def write_ours(path: Path) -> Path:
    """As `BagRecorder` writes: MCAP, zstd chunks of a second with checksums."""
    with BagRecorder(path) as recorder:
        for topic, log_ns, data in messages():
            recorder.write(topic, IMAGE if topic == CAMERA else ACTION, data, log_ns)
    return path


def write_theirs(path: Path, plugin: StoragePlugin, mode: CompressionMode, version: Any) -> Path:
    writer = Writer(path, version=version, storage_plugin=plugin)
    if mode != CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        made = {
            CAMERA: writer.add_connection(CAMERA, IMAGE, typestore=ros_types()),
            COMMAND: writer.add_connection(COMMAND, ACTION, typestore=ros_types()),
        }
        for topic, log_ns, data in messages():
            writer.write(made[topic], log_ns, data)
    return path


def write_mcap(path: Path, compression: CompressionType, **options: Any) -> Path:
    """A bare MCAP file by the reference writer."""
    with path.open('wb') as stream:
        writer = McapWriter(stream, 100_000, compression, **options)
        writer.start(profile='ros2', library='test')
        channels = {}
        for topic, msgtype in ((CAMERA, IMAGE), (COMMAND, ACTION)):
            schema = writer.register_schema(msgtype, 'ros2msg', definition_of(msgtype).encode())
            channels[topic] = writer.register_channel(topic, 'cdr', schema)
        for topic, log_ns, data in messages():
            writer.add_message(channels[topic], log_ns, data, log_ns)
        writer.finish()
    return path


def write_ros1(path: Path, compression: Ros1Writer.CompressionFormat | None) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    text = (message_folder() / 'Action.msg').read_text()
    store.register(get_types_from_msg(text, ACTION))
    kinds, writer = store.types, Ros1Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        camera = writer.add_connection(CAMERA, IMAGE, typestore=store)
        command = writer.add_connection(COMMAND, ACTION, typestore=store)
        for i in range(FRAMES):
            stamp_ns = T0 + i * PERIOD_NS
            stamp = kinds['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
            head = kinds['std_msgs/msg/Header'](seq=i, stamp=stamp, frame_id='camera')
            image = kinds[IMAGE](head, 64, 64, 'rgb8', 0, 192, PIXELS[i].reshape(-1))
            data = store.serialize_ros1(kinds[ACTION](head, ACTIONS[i]), ACTION)
            writer.write(command, stamp_ns, data)
            writer.write(camera, stamp_ns, store.serialize_ros1(image, IMAGE))
    return path


def read(bag: Path) -> tuple[list[Step], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(iter_steps(bag, CONTRACT, counts=counts)), counts


def check_whole(bag: Path) -> None:
    steps, counts = read(bag)
    assert +counts == {'reset.start': 1} and len(steps) == FRAMES
    for i, step in enumerate(steps):
        assert step.stamp_ns == T0 + i * PERIOD_NS
        assert step.frame is not None and np.array_equal(step.frame.image_HWC, PIXELS[i])
        assert np.array_equal(step.action_A, CONTRACT.normalise(ACTIONS[i]))
    info = bag_info(bag)
    assert (info.messages, info.start_ns) == (2 * FRAMES, T0)
    assert {one.name: (one.msgtype, one.messages) for one in info.topics} == {
        CAMERA: (IMAGE, FRAMES),
        COMMAND: (ACTION, FRAMES),
    }


def refused(bag: Path) -> tuple[list[Step], str]:
    """The steps that could be read before the error, and the error; it names the bag."""
    steps: list[Step] = []
    with pytest.raises(BagError) as error:
        for step in iter_steps(bag, CONTRACT):
            steps.append(step)
    text = str(error.value)
    assert str(bag) in text
    return steps, text


def data_file(bag: Path) -> Path:
    """The one data file of a folder, or the file itself."""
    if bag.is_file():
        return bag
    (path,) = (path for path in bag.iterdir() if path.name != 'metadata.yaml')
    return path


def flip(path: Path, begin: int, size: int = 64) -> None:
    data = bytearray(path.read_bytes())
    for at in range(begin, begin + size):
        data[at] ^= 0xFF
    path.write_bytes(data)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


# --- whole bags, however stored ---

STORAGES = [
    (plugin, mode, version)
    for plugin in (StoragePlugin.SQLITE3, StoragePlugin.MCAP)
    for mode in (CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE)
    for version in (8, 9)
    if (plugin, mode) != (StoragePlugin.SQLITE3, CompressionMode.STORAGE)
]


@pytest.mark.parametrize(('plugin', 'mode', 'version'), STORAGES)
def test_compressed_bags_are_read(
    tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode, version: int
) -> None:
    check_whole(write_theirs(tmp_path / 'bag', plugin, mode, version))


@pytest.mark.parametrize('plugin', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_bare_files_of_other_writers_are_read(tmp_path: Path, plugin: StoragePlugin) -> None:
    bag = write_theirs(tmp_path / 'bag', plugin, CompressionMode.NONE, 9)
    bare = shutil.move(data_file(bag), tmp_path / f'alone{data_file(bag).suffix}')
    check_whole(Path(bare))


@pytest.mark.parametrize(
    'options',
    [{}, {'use_chunking': False}, {'use_statistics': False}, {'use_summary_offsets': False}],
)
@pytest.mark.parametrize('compression', list(CompressionType))
def test_mcap_is_read_however_it_is_packed(
    tmp_path: Path, compression: CompressionType, options: dict[str, bool]
) -> None:
    check_whole(write_mcap(tmp_path / 'bare.mcap', compression, **options))


@pytest.mark.parametrize('compression', [None, *Ros1Writer.CompressionFormat])
def test_ros_1_bags_are_read(tmp_path: Path, compression: Any) -> None:
    check_whole(write_ros1(tmp_path / 'one.bag', compression))


def test_a_compressed_file_alone_says_to_give_the_folder(tmp_path: Path) -> None:
    bag = write_theirs(tmp_path / 'bag', StoragePlugin.MCAP, CompressionMode.FILE, 9)
    assert 'give the folder' in refused(data_file(bag))[1]


# --- broken on the way ---


def test_a_flipped_chunk_gives_what_came_before_and_its_place(tmp_path: Path) -> None:
    """Chunks of a second: 25 frames each; the middle of the file lies in the second."""
    bag = write_ours(tmp_path / 'bag')
    flip(data_file(bag), data_file(bag).stat().st_size // 2)
    steps, text = refused(bag)
    assert len(steps) == 25
    at_ns = T0 + 24 * PERIOD_NS
    assert f'damaged after message 50 of {CAMERA}, {COMMAND} at {at_ns} ns' in text
    assert bag_info(bag).messages == 2 * FRAMES, 'the index is whole'
    (found,) = recover(bag)
    assert found.damaged_chunks == 1
    rest, counts = read(bag)
    assert len(rest) == FRAMES - 25 and +counts == {'reset.start': 1, 'reset.gap': 1}


def test_a_damaged_message_of_a_ros_1_bag_is_named(tmp_path: Path) -> None:
    bag = write_ros1(tmp_path / 'one.bag', None)
    places = [found.start() for found in re.finditer(b'rgb8', bag.read_bytes())]
    flip(bag, places[30] - 4, 4)  # the length of the encoding
    steps, text = refused(bag)
    assert len(steps) == 30
    assert f'message 31 of {CAMERA} at {T0 + 30 * PERIOD_NS} ns is no {IMAGE}' in text


def test_a_damaged_chunk_of_a_ros_1_bag_is_said(tmp_path: Path) -> None:
    bag = write_ros1(tmp_path / 'one.bag', Ros1Writer.CompressionFormat.BZ2)
    flip(bag, bag.stat().st_size // 2)
    assert f'damaged after message 0 of {CAMERA}, {COMMAND}' in refused(bag)[1]


@pytest.mark.parametrize('share', [0.0, 0.3, 0.9])
@pytest.mark.parametrize(
    'make',
    [
        lambda path: write_theirs(path, StoragePlugin.SQLITE3, CompressionMode.NONE, 9),
        lambda path: write_theirs(path, StoragePlugin.SQLITE3, CompressionMode.FILE, 9),
        lambda path: write_theirs(path, StoragePlugin.MCAP, CompressionMode.FILE, 9),
        lambda path: write_theirs(path, StoragePlugin.MCAP, CompressionMode.MESSAGE, 9),
        lambda path: write_ros1(path.with_suffix('.bag'), None),
        lambda path: write_ros1(path.with_suffix('.bag'), Ros1Writer.CompressionFormat.LZ4),
        lambda path: write_mcap(path.with_suffix('.mcap'), CompressionType.LZ4),
    ],
    ids=['db3', 'db3.zstd', 'mcap.zstd', 'mcap messages', 'ros 1', 'ros 1 lz4', 'mcap lz4'],
)
def test_cut_and_empty_files_are_refused_by_name(
    tmp_path: Path, make: Callable[[Path], Path], share: float
) -> None:
    bag = make(tmp_path / 'bag')
    cut(data_file(bag), share)
    steps, _ = refused(bag)
    assert not steps
    with pytest.raises(BagError, match='bag'):
        bag_info(bag)


def test_a_damaged_page_of_a_database_gives_what_came_before(tmp_path: Path) -> None:
    bag = write_theirs(tmp_path / 'bag', StoragePlugin.SQLITE3, CompressionMode.NONE, 9)
    data = data_file(bag).read_bytes()
    page = int.from_bytes(data[16:18], 'big')
    at = data.index(PIXELS[30].tobytes()[5000:5100]) // page * page
    flip(data_file(bag), at, 4)  # where the picture goes on
    steps, text = refused(bag)
    assert len(steps) == 30
    assert 'damaged after message 61' in text and f'at {T0 + 30 * PERIOD_NS} ns' in text


def test_a_database_that_was_not_closed_is_refused(tmp_path: Path) -> None:
    """What a killed recorder wrote last is in the write-ahead log, which is not read."""
    bag = write_theirs(tmp_path / 'bag', StoragePlugin.SQLITE3, CompressionMode.NONE, 9)
    file = data_file(bag)
    database = sqlite3.connect(file)
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('DELETE FROM messages WHERE id > 100')
    database.commit()
    for given in (bag, file):
        with pytest.raises(BagError, match=r'bag.db3 was not closed: .*bag.db3-wal'):
            read(given)
    database.close()


# --- metadata.yaml that says something else ---


def edited(tmp_path: Path, edit: Edit) -> Path:
    bag = write_ours(tmp_path / 'bag')
    path = bag / 'metadata.yaml'
    content = yaml.safe_load(path.read_text())
    edit(content['rosbag2_bagfile_information'])
    path.write_text(yaml.safe_dump(content))
    return bag


def topic_of(values: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (
        one for one in values['topics_with_message_count'] if one['topic_metadata']['name'] == name
    )
    return found


QOS = {
    'history': 1, 'depth': 1, 'reliability': 2, 'durability': 2, 'liveliness': 1,
    'deadline': {'sec': 0, 'nsec': 0}, 'lifespan': {'sec': 0, 'nsec': 0},
    'liveliness_lease_duration': {'sec': 0, 'nsec': 0},
    'avoid_ros_namespace_conventions': False,
}  # fmt: skip


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (
            lambda v: topic_of(v, COMMAND).update(message_count=61),
            [f'says 61 messages of {COMMAND}, its files hold 60', 'wm bag recover'],
        ),
        (
            lambda v: topic_of(v, CAMERA).update(message_count=0),
            [f'says 0 messages of {CAMERA}, its files hold 60'],
        ),
        (
            lambda v: v['topics_with_message_count'].remove(topic_of(v, CAMERA)),
            [f'says 0 messages of {CAMERA}, its files hold 60'],
        ),
        (lambda v: v.update(message_count=7), ['says 7 messages in all, its files hold 120']),
        (
            lambda v: topic_of(v, COMMAND)['topic_metadata'].update(type=IMAGE),
            [f'describes {COMMAND} otherwise', ACTION],
        ),
        (
            lambda v: topic_of(v, COMMAND)['topic_metadata'].update(offered_qos_profiles=[QOS]),
            [f'describes {COMMAND} otherwise', 'quality of service', 'away'],
        ),
        (
            lambda v: topic_of(v, COMMAND)['topic_metadata'].update(
                type_description_hash='RIHS01_0'
            ),
            [ACTION, 'hash mismatch'],
        ),
        (
            lambda v: v.update(relative_file_paths=['gone.mcap'], files=[]),
            ['names gone.mcap; the folder holds bag_0.mcap, metadata.yaml'],
        ),
        (
            lambda v: v.update(storage_identifier='sqlite3'),
            ['storage sqlite3; bag_0.mcap is none'],
        ),
        (lambda v: v.update(storage_identifier='tape'), ["'tape', known are mcap, sqlite3"]),
        (lambda v: v.update(version=12), ['version 12, known are 1 to 9']),
        (
            lambda v: v.update(compression_mode='FILE', compression_format='zstd'),
            ['says that files are compressed; bag_0.mcap is not'],
        ),
        (
            lambda v: v.update(compression_mode='MESSAGE', compression_format='zstd'),
            [f'damaged after message 0 of {CAMERA}, {COMMAND}'],
        ),
        (lambda v: v.update(compression_mode='MESSAGE', compression_format='zip'), ["'zip'"]),
        (lambda v: v.pop('duration'), ["'duration'"]),
    ],
    ids=[
        'more messages', 'no messages', 'topic left out', 'total', 'type', 'qos', 'hash',
        'missing file', 'storage', 'unknown storage', 'version', 'files not compressed',
        'messages not compressed', 'unknown compression', 'field left out',
    ],
)  # fmt: skip
def test_metadata_that_disagrees_with_the_file_is_refused(
    tmp_path: Path, edit: Edit, words: list[str]
) -> None:
    bag = edited(tmp_path, edit)
    steps, text = refused(bag)
    assert not steps and all(word in text for word in words), text


@pytest.mark.parametrize('text', ['', 'hello', '- a', ': [', 'rosbag2_bagfile_information: 3'])
def test_metadata_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    bag = write_ours(tmp_path / 'bag')
    (bag / 'metadata.yaml').write_text(text)
    assert 'wm bag recover' in refused(bag)[1]
    recover(bag)
    check_whole(bag)


def test_a_bag_without_metadata_says_how_to_get_some(tmp_path: Path) -> None:
    bag = write_ours(tmp_path / 'bag')
    (bag / 'metadata.yaml').unlink()
    assert 'wm bag recover' in refused(bag)[1]
    recover(bag)
    check_whole(bag)


def test_wrong_counts_are_put_right_by_recover(tmp_path: Path) -> None:
    bag = edited(tmp_path, lambda values: topic_of(values, COMMAND).update(message_count=61))
    recover(bag)
    check_whole(bag)


@pytest.mark.parametrize('name', ['folder', 'empty.db3', 'empty.bag', 'bag.zip'])
def test_what_is_no_bag_is_said_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name == 'folder' else path.write_bytes(b'')
    _, text = refused(path)
    assert 'wm bag recover' not in text, 'there is nothing to recover'
    with pytest.raises(BagError, match=name):
        bag_info(path)


# --- few frames, or always the same one ---


def some_frames(path: Path, images: list[np.ndarray], commands: int) -> Path:
    with BagRecorder(path) as recorder:
        stream = StreamRecorder(recorder, CONTRACT)
        for i in range(max(len(images), commands)):
            if i < commands:
                stream.write_action(ACTIONS[i], T0 + i * PERIOD_NS)
            if i < len(images):
                stream.write_frame(images[i], T0 + i * PERIOD_NS)
    return path


def test_a_bag_without_frames_says_which_topic_is_empty(tmp_path: Path) -> None:
    bag = some_frames(tmp_path / 'bag', [], 5)
    assert f'topic {CAMERA} is empty' in refused(bag)[1]
    assert {one.name: one.messages for one in bag_info(bag).topics} == {CAMERA: 0, COMMAND: 5}


def test_a_bag_of_one_frame_is_one_step(tmp_path: Path) -> None:
    bag = some_frames(tmp_path / 'bag', [PIXELS[0]], 1)
    (step,), counts = read(bag)
    assert +counts == {'reset.start': 1} and step.index == 0
    assert np.array_equal(step.action_prev_A, step.action_A)
    info = bag_info(bag)
    assert info.messages == 2 and {one.rate_hz for one in info.topics} == {0.0}


def test_a_bag_of_identical_frames_is_read_like_any_other(tmp_path: Path) -> None:
    bag = some_frames(tmp_path / 'bag', [PIXELS[0]] * 30, 30)
    steps, counts = read(bag)
    assert len(steps) == 30 and +counts == {'reset.start': 1}
    assert all(np.array_equal(step.frame.image_HWC, PIXELS[0]) for step in steps)


def test_a_topic_of_two_types_is_refused(tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for msgtype in (ACTION, IMAGE):
            made = writer.add_connection(COMMAND, msgtype, typestore=ros_types())
            data = (action_bytes if msgtype == ACTION else image_bytes)(
                ACTIONS[0] if msgtype == ACTION else PIXELS[0], T0
            )
            writer.write(made, T0, data)
        made = writer.add_connection(CAMERA, IMAGE, typestore=ros_types())
        writer.write(made, T0, image_bytes(PIXELS[0], T0))
    assert f'topic {COMMAND} is of several types, the contract expects {ACTION}' in refused(bag)[1]
    (found,) = (one for one in bag_info(bag).topics if one.name == COMMAND)
    assert (found.msgtype, found.messages) == ('several types', 2)
