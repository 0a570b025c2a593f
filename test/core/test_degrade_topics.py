"""What `wm degrade` copies besides its faults: topics of any type it can tell, their quality of
service; and what it refuses: messages that are none of their type.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2.metadata import dump_qos_v8, parse_qos
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from test_degrade import CAMERA, COMMAND, CONTRACT, Drop, stamp_of

from wm_ros.bag import BagError, BagRecorder, bag_info
from wm_ros.bag.degrade import NAME, degrade_bag
from wm_ros.bag.faults import FRAME
from wm_ros.bag.raw import raw_messages, raw_topics
from wm_ros.bag.record import LATCHED
from wm_ros.bag.stream import action_bytes, image_bytes, string_bytes
from wm_ros.cli import main
from wm_ros.sources import ACTION, IMAGE

FRAMES, STATIC, STRING = 10, '/task', 'std_msgs/msg/String'
FAULTS = [Drop(FRAME, 0.2)]
PIXELS = np.zeros((8, 8, 3), np.uint8)
CUSTOM = 'my_msgs/msg/X'


def frames(short: bytes | None = None) -> list[tuple[str, int, bytes]]:
    """Topic, log time and bytes of a small bag; `short` stands in for the sixth frame."""
    found = []
    for i in range(FRAMES):
        image = image_bytes(PIXELS, stamp_of(i))
        found.append((COMMAND, stamp_of(i), action_bytes(np.zeros(11), stamp_of(i))))
        found.append((CAMERA, stamp_of(i), image if i != 5 or short is None else short))
    return found


def write_humble(path: Path) -> Path:
    """A database as Humble leaves it: no definitions, quality of service in numbers."""
    kinds = {CAMERA: IMAGE, COMMAND: ACTION, '/x': CUSTOM, STATIC: STRING}
    numbers = {name: number for number, name in enumerate(kinds, 1)}
    qos = {STATIC: dump_qos_v8(parse_qos(LATCHED))}
    with sqlite3.connect(path) as database:
        database.execute(
            'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, '
            'serialization_format TEXT, offered_qos_profiles TEXT)'
        )
        database.execute(
            'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, '
            'data BLOB)'
        )
        for name, kind in kinds.items():
            row = (numbers[name], name, kind, 'cdr', qos.get(name, ''))
            database.execute('INSERT INTO topics VALUES(?, ?, ?, ?, ?)', row)
        extra = [('/x', stamp_of(3), b'\0\1\0\0\7'), (STATIC, stamp_of(0), string_bytes('tidy'))]
        for topic, log_ns, data in [*frames(), *extra]:
            database.execute(
                'INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)',
                (numbers[topic], log_ns, data),
            )
    database.close()
    return path


def write_ros1(path: Path) -> Path:
    """The camera and the commands, one topic of a type of the robot's own, a latched one."""
    store = get_typestore(Stores.ROS1_NOETIC)
    text = (Path(__file__).parents[2] / 'msg' / 'msg' / 'Action.msg').read_text()
    store.register(get_types_from_msg(text, ACTION) | get_types_from_msg('uint8 a', CUSTOM))
    kinds = store.types
    with Ros1Writer(path) as writer:
        ends = {
            name: writer.add_connection(name, kind, typestore=store, latching=latching)
            for name, kind, latching in (
                (CAMERA, IMAGE, None),
                (COMMAND, ACTION, 0),
                ('/x', CUSTOM, None),
                (STATIC, STRING, 1),
            )
        }
        tidy = store.serialize_ros1(kinds[STRING]('tidy'), STRING)
        writer.write(ends[STATIC], stamp_of(0), tidy)
        writer.write(ends['/x'], stamp_of(0), b'\7')
        for i in range(FRAMES):
            stamp = kinds['builtin_interfaces/msg/Time'](*divmod(stamp_of(i), 10**9))
            head = kinds['std_msgs/msg/Header'](seq=i, stamp=stamp, frame_id='cam')
            action = kinds[ACTION](head, np.zeros(11, np.float32))
            image = kinds[IMAGE](head, 8, 8, 'rgb8', 0, 24, PIXELS.reshape(-1))
            writer.write(ends[COMMAND], stamp_of(i), store.serialize_ros1(action, ACTION))
            writer.write(ends[CAMERA], stamp_of(i), store.serialize_ros1(image, IMAGE))
    return path


@pytest.mark.parametrize(
    ('write', 'name', 'why'),
    [
        (write_humble, 'humble.db3', f'/x is {CUSTOM}, of which the bag has no definition'),
        (write_ros1, 'one.bag', f'/x is {CUSTOM}, a ROS 1 type that is unknown here'),
    ],
)
def test_a_topic_of_an_unknown_type_is_left_out_and_named(
    write: object, name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / name)  # type: ignore[operator]
    words = ['degrade', str(bag), '--contract', 'tabletop', '--drop-frames', '0.2']
    assert main([*words, '--out', str(tmp_path / 'bad')]) == 0
    assert f'left out: {why}' in capsys.readouterr().out
    told = json.loads((tmp_path / 'bad' / NAME).read_text())
    assert list(told['left_out']) == ['/x'] and told['left_out']['/x'].startswith(why)
    assert told['complete'] and str(tmp_path) not in json.dumps(told)
    held = {topic.name: topic.messages for topic in bag_info(tmp_path / 'bad').topics}
    dropped = FRAMES - held.pop(CAMERA)
    assert dropped > 0 and held == {COMMAND: FRAMES, STATIC: 1}
    # A latched topic stays one.
    (offer,) = raw_topics(tmp_path / 'bad', [STATIC])[STATIC].offers
    assert offer.durability is QosDurability.TRANSIENT_LOCAL and offer.depth == 1
    assert raw_topics(tmp_path / 'bad', [CAMERA])[CAMERA].offers == ()


def test_a_topic_of_the_contract_cannot_be_left_out(tmp_path: Path) -> None:
    bag = write_humble(tmp_path / 'humble.db3')
    with sqlite3.connect(bag) as database:
        database.execute('UPDATE topics SET type = ? WHERE name = ?', (CUSTOM, COMMAND))
    database.close()
    with pytest.raises(BagError, match=f'humble.db3: {COMMAND} is {CUSTOM}, of which the bag'):
        degrade_bag(bag, tmp_path / 'bad', CONTRACT, FAULTS)
    assert not (tmp_path / 'bad').exists()


@pytest.mark.parametrize('short', [b'', b'\0\1\0\0', b'\0\1\0\0' + bytes(7)])
def test_a_message_too_short_for_its_stamp_is_named(tmp_path: Path, short: bytes) -> None:
    with BagRecorder(tmp_path / 'bag') as recorder:
        for topic, log_ns, data in frames(short):
            recorder.write(topic, IMAGE if topic == CAMERA else ACTION, data, log_ns)
    words = f'message 12, of {CAMERA} at {stamp_of(5)} ns, is no {IMAGE}: {len(short)} bytes'
    with pytest.raises(BagError, match=words):
        list(raw_messages(tmp_path / 'bag'))
    with pytest.raises(BagError, match=words):
        degrade_bag(tmp_path / 'bag', tmp_path / 'bad', CONTRACT, FAULTS)
    told = json.loads((tmp_path / 'bad' / NAME).read_text())
    assert not told['complete'] and told['messages'][COMMAND] == 6
    assert len(list(raw_messages(tmp_path / 'bad', [COMMAND]))) == 6
