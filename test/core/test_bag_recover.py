"""A bag cut at any byte: never read silently, recovered to whole chunks, and the loss is said."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from mcap.records import (
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    Message,
    MessageIndex,
    Statistics,
)
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from wm_ros.bag import BagError, BagRecorder, bag_info, metadata, recover, ros_types
from wm_ros.bag.record import McapFile
from wm_ros.bag.stream import action_bytes
from wm_ros.bag.types import definition_of
from wm_ros.sources import ACTION

MESSAGES, PER_CHUNK, STEP_NS = 60, 20, 50_000_000


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chunks of a second each."""
    bag = tmp_path_factory.mktemp('whole') / 'bag'
    with BagRecorder(bag) as recorder:
        for i in range(MESSAGES):
            recorder.write('/command', ACTION, action_bytes([i, -i], i + 1), i * STEP_NS)
    return bag


def places(bag: Path) -> dict[str, tuple[int, int]]:
    """Where each kind of record begins and ends (the first of its kind; chunks are numbered)."""
    found: dict[str, tuple[int, int]] = {}
    with next(bag.glob('*.mcap')).open('rb') as stream:
        before, chunk = 0, 0
        for record in StreamReader(stream, emit_chunks=True).records:
            name = type(record).__name__
            if isinstance(record, Chunk):
                name, chunk = f'Chunk{chunk}', chunk + 1
            found.setdefault(name, (before, stream.tell()))
            before = stream.tell()
        found['Magic'] = (before, before + 8)
    return found


def cut_copy(whole: Path, folder: Path, size: int) -> Path:
    bag = folder / 'bag'
    shutil.copytree(whole, bag)
    path = bag / 'bag_0.mcap'
    path.write_bytes(path.read_bytes()[:size])
    return bag


def values_in(bag: Path) -> list[float]:
    with AnyReader([bag]) as reader:
        return [reader.deserialize(raw, c.msgtype).values[0] for c, _, raw in reader.messages()]


def test_the_sample_of_cuts_covers_every_part(whole: Path) -> None:
    wanted = (Header, MessageIndex, DataEnd, Statistics, ChunkIndex, Footer)
    assert {kind.__name__ for kind in wanted} | {'Chunk0', 'Chunk1', 'Chunk2'} <= set(
        places(whole)
    )


@pytest.mark.parametrize(
    ('part', 'chunks'),
    [
        ('Header', 0), ('Chunk0', 0), ('Chunk1', 1), ('MessageIndex', 1), ('Chunk2', 2),
        ('DataEnd', 3), ('Statistics', 3), ('ChunkIndex', 3), ('Footer', 3), ('Magic', 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.999])
def test_a_cut_loses_only_what_follows_the_last_whole_chunk(
    whole: Path, tmp_path: Path, part: str, share: float, chunks: int
) -> None:
    begin, end = places(whole)[part]
    size = int(begin + share * (end - begin))
    bag = cut_copy(whole, tmp_path, size)
    with pytest.raises(BagError, match='recover'):
        bag_info(bag)
    if not chunks:
        with pytest.raises(BagError, match='nothing to recover'):
            recover(bag)
        assert (bag / 'bag_0.mcap').stat().st_size == size
        return
    cut_bytes = (bag / 'bag_0.mcap').read_bytes()
    (found,) = recover(bag)
    assert not found.complete
    assert found.messages == {'/command': chunks * PER_CHUNK}
    assert found.file_bytes == size
    assert 0 <= found.lost_bytes < size
    assert (found.lost_bytes == 0) == (share == 0.0) or part in (
        'MessageIndex',
        'Statistics',
        'Magic',
    )
    assert values_in(bag) == list(range(chunks * PER_CHUNK))
    assert bag_info(bag).messages == chunks * PER_CHUNK
    kept = ['bag_0.mcap.damaged'] if found.lost_bytes else []
    old = ['metadata.yaml.damaged'] if chunks < 3 else []
    names = ['bag_0.mcap', *kept, 'metadata.yaml', *old]
    assert [path.name for path in sorted(bag.iterdir())] == names
    assert found.damaged_path == (bag / kept[0] if kept else None)
    assert not kept or (bag / kept[0]).read_bytes() == cut_bytes


def test_every_cut_is_refused_or_recovered(whole: Path, tmp_path: Path) -> None:
    """Sixty cuts over the file: no other error, and never a message that was not recorded."""
    size = (whole / 'bag_0.mcap').stat().st_size
    kept = []
    for i, cut in enumerate(range(0, size, size // 60)):
        bag = cut_copy(whole, tmp_path / str(i), cut)
        try:
            recover(bag)
        except BagError:
            kept.append(0)
        else:
            kept.append(len(values_in(bag)))
            assert values_in(bag) == list(range(kept[-1]))
    assert kept == sorted(kept)
    assert set(kept) == {0, 20, 40, 60}


def test_a_whole_bag_keeps_its_file_and_gets_new_metadata(whole: Path, tmp_path: Path) -> None:
    bag = cut_copy(whole, tmp_path, 10**9)
    before = (bag / 'bag_0.mcap').read_bytes()
    (bag / 'metadata.yaml').unlink()
    (found,) = recover(bag)
    assert (found.complete, found.lost_bytes, found.damaged_path) == (True, 0, None)
    assert not list(bag.glob('*.damaged'))
    assert (bag / 'bag_0.mcap').read_bytes() == before
    assert (bag / 'metadata.yaml').read_text() == (whole / 'metadata.yaml').read_text()


def test_a_damaged_chunk_is_left_out_and_said(whole: Path, tmp_path: Path) -> None:
    bag = cut_copy(whole, tmp_path, 10**9)
    begin, end = places(whole)['Chunk1']
    path = bag / 'bag_0.mcap'
    data = bytearray(path.read_bytes())
    data[end - 9] ^= 0xFF
    path.write_bytes(data)
    (found,) = recover(bag)
    assert (found.complete, found.damaged_chunks, found.lost_bytes) == (False, 1, end - begin)
    assert values_in(bag) == [*range(20), *range(40, 60)]
    assert found.damaged_path == bag / 'bag_0.mcap.damaged'
    assert found.damaged_path.read_bytes() == bytes(data)


def test_a_second_recovery_keeps_what_the_first_kept(whole: Path, tmp_path: Path) -> None:
    bag = cut_copy(whole, tmp_path, places(whole)['Chunk2'][1] - 9)
    first = (bag / 'bag_0.mcap').read_bytes()
    recover(bag)
    path = bag / 'bag_0.mcap'
    second = path.read_bytes()[: places(bag)['Chunk1'][1] - 9]
    path.write_bytes(second)
    assert recover(bag)[0].damaged_path == bag / 'bag_0.mcap.damaged2'
    assert (bag / 'bag_0.mcap.damaged').read_bytes() == first
    assert (bag / 'bag_0.mcap.damaged2').read_bytes() == second
    assert values_in(bag) == list(range(20))


def test_a_flipped_bit_in_plain_data_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / 'plain.mcap'
    with path.open('wb') as stream:
        writer = McapWriter(stream, compression=CompressionType.NONE)
        writer.start('ros2')
        schema = writer.register_schema(ACTION, 'ros2msg', definition_of(ACTION).encode())
        channel = writer.register_channel('/command', 'cdr', schema)
        for i in range(2):
            writer.add_message(channel, i, action_bytes([42 + i], i + 1), i)
            writer.flush()
        writer.finish()
    data = path.read_bytes()
    at = data.index(struct.pack('<f', 43))
    path.write_bytes(data[:at] + b'\7' + data[at + 1 :])
    (found,) = recover(path)
    assert (found.damaged_chunks, found.messages) == (1, {'/command': 1})
    assert values_in(path) == [42]


@pytest.mark.parametrize('seed', range(20))
def test_flipped_bits_anywhere_raise_nothing_else(whole: Path, tmp_path: Path, seed: int) -> None:
    bag = cut_copy(whole, tmp_path, 10**9)
    rng = np.random.default_rng(seed)
    data = bytearray((bag / 'bag_0.mcap').read_bytes())
    for place in rng.integers(0, len(data), 4):
        data[place] ^= 1 << int(rng.integers(8))
    (bag / 'bag_0.mcap').write_bytes(data)
    try:
        (found,) = recover(bag)
    except BagError:
        return
    assert sum(found.messages.values()) <= MESSAGES


def test_topics_named_in_a_damaged_chunk_are_found_at_the_end(whole: Path, tmp_path: Path) -> None:
    """A complete file repeats its topics at the end; they are found there."""
    bag = cut_copy(whole, tmp_path, 10**9)
    path = bag / 'bag_0.mcap'
    data = bytearray(path.read_bytes())
    data[places(whole)['Chunk0'][1] - 9] ^= 0xFF
    path.write_bytes(data)
    (found,) = recover(bag)
    assert found.damaged_chunks == 1
    assert values_in(bag) == list(range(20, 60))


def test_bags_of_other_writers_are_recovered(tmp_path: Path) -> None:
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/command', ACTION, typestore=ros_types())
        for i in range(30):
            writer.write(topic, i, action_bytes([i], i + 1))
    path = tmp_path / 'bag' / 'bag.mcap'
    path.write_bytes(path.read_bytes()[:-30])
    assert recover(tmp_path / 'bag')[0].messages == {'/command': 30}
    assert values_in(tmp_path / 'bag') == list(range(30))


QOS = """
- {history: keep_last, depth: 5, reliability: reliable, durability: transient_local,
   deadline: {sec: 0, nsec: 0}, lifespan: {sec: 0, nsec: 0}, liveliness: automatic,
   liveliness_lease_duration: {sec: 0, nsec: 0}, avoid_ros_namespace_conventions: false}
"""


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Three files of two topics with QoS, `/mark` only in the first, and data of its owner."""
    bag = tmp_path / 'bag'
    bag.mkdir()
    for number in range(3):
        file = McapFile(bag / f'bag_{number}.mcap')
        topics = ('/command', '/mark') if number == 0 else ('/command',)
        for topic in topics:
            file.add_topic(topic, ACTION, definition_of(ACTION), qos=QOS)
        for i in range(number * MESSAGES, (number + 1) * MESSAGES):
            for topic in topics:
                file.write(topic, action_bytes([i], i + 1), i * STEP_NS + 7, i * STEP_NS)
        file.close()
    recover(bag)
    content = metadata.read_metadata(bag)
    metadata.write_metadata(bag, content | {'custom_data': {'operator': 'me'}, 'version': 8})
    return bag


def commands_in(bag: Path) -> list[int]:
    with AnyReader([bag]) as reader:
        chosen = [c for c in reader.connections if c.topic == '/command']
        read = reader.messages(chosen)
        return [int(reader.deserialize(raw, c.msgtype).values[0]) for c, _, raw in read]


def cut_file(path: Path, share: float = 0.3) -> bytes:
    data = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(data)
    return data


@pytest.mark.parametrize('number', [0, 1, 2])
@pytest.mark.parametrize('alone', [False, True])
def test_one_damaged_file_of_a_split_bag_costs_the_others_nothing(
    split: Path, number: int, alone: bool
) -> None:
    path, old = split / f'bag_{number}.mcap', metadata.read_metadata(split)
    others = {p: p.read_bytes() for p in split.glob('*.mcap') if p != path}
    cut_bytes, text = cut_file(path), (split / 'metadata.yaml').read_text()
    with pytest.raises(BagError, match=f'recover {split}'):
        bag_info(split)
    found = {each.path.name: each for each in recover(path if alone else split)}
    kept = found[path.name].messages['/command']
    assert 0 < kept < MESSAGES and not found[path.name].complete
    assert list(found) == ([path.name] if alone else [f'bag_{i}.mcap' for i in range(3)])
    assert all(each.complete for name, each in found.items() if name != path.name)
    starts = [range(i * MESSAGES, (i + 1) * MESSAGES) for i in range(3)]
    starts[number] = starts[number][:kept]
    assert commands_in(split) == [i for each in starts for i in each], 'nothing of the others'
    marks = kept if number == 0 else MESSAGES
    assert bag_info(split).messages == 2 * MESSAGES + kept + marks
    assert all(p.read_bytes() == data for p, data in others.items())
    assert found[path.name].damaged_path.read_bytes() == cut_bytes
    assert (split / 'metadata.yaml.damaged').read_text() == text
    new = metadata.read_metadata(split)
    assert (new['custom_data'], new['version']) == ({'operator': 'me'}, 8)
    assert new['relative_file_paths'] == old['relative_file_paths']
    for before, after in zip(old['files'], new['files'], strict=True):
        assert (before == after) == (before['path'] != path.name)
    topics = {e['topic_metadata']['name']: e for e in new['topics_with_message_count']}
    assert topics['/mark']['message_count'] == marks
    described = old['topics_with_message_count'][1]['topic_metadata']
    assert topics['/mark']['topic_metadata'] == described


def test_each_damaged_file_of_a_split_bag_is_recovered(split: Path) -> None:
    for number in (0, 2):
        cut_file(split / f'bag_{number}.mcap')
    first, middle, last = recover(split)
    assert (first.complete, middle.complete, last.complete) == (False, True, False)
    assert middle.messages == {'/command': MESSAGES}
    kept = first.messages['/command'], last.messages['/command']
    assert commands_in(split) == [
        *range(kept[0]), *range(MESSAGES, 2 * MESSAGES),
        *range(2 * MESSAGES, 2 * MESSAGES + kept[1]),
    ]  # fmt: skip


def test_files_recovered_one_by_one_are_the_bag_recovered_at_once(split: Path) -> None:
    whole_ones = split.parent / 'copy' / 'bag'
    for number in (1, 2):
        cut_file(split / f'bag_{number}.mcap')
    shutil.copytree(split, whole_ones)
    for number in (1, 2):
        recover(split / f'bag_{number}.mcap')
    recover(whole_ones)
    assert commands_in(split) == commands_in(whole_ones)
    assert metadata.read_metadata(split) == metadata.read_metadata(whole_ones)


def test_a_split_bag_without_metadata_is_put_together_again(split: Path) -> None:
    names = [(split / f'bag_{n}.mcap', split / f'bag_{n + 8}.mcap') for n in range(3)]
    for path, later in names:
        path.rename(later)
    (split / 'metadata.yaml').write_text('rosbag2_bagfile_information: {version: 9')
    cut_file(split / 'bag_10.mcap')
    assert [each.path.name for each in recover(split / 'bag_10.mcap')] == ['bag_10.mcap']
    new = metadata.read_metadata(split)
    assert new['relative_file_paths'] == ['bag_8.mcap', 'bag_9.mcap', 'bag_10.mcap']
    assert commands_in(split)[: 2 * MESSAGES] == list(range(2 * MESSAGES))
    assert recover(split)[2].complete and metadata.read_metadata(split) == new


def test_a_file_without_a_message_leaves_the_bag_and_stays_beside_it(split: Path) -> None:
    path = split / 'bag_1.mcap'
    cut_bytes = cut_file(path, 0.05)
    with pytest.raises(BagError, match='nothing to recover'):
        recover(path)
    assert path.read_bytes() == cut_bytes
    assert recover(split)[1].damaged_path == split / 'bag_1.mcap.damaged'
    assert commands_in(split) == [*range(MESSAGES), *range(2 * MESSAGES, 3 * MESSAGES)]
    assert not path.exists() and (split / 'bag_1.mcap.damaged').read_bytes() == cut_bytes


def test_a_missing_file_of_a_split_bag_is_named(split: Path) -> None:
    (split / 'bag_1.mcap').rename(split.parent / 'elsewhere.mcap')
    cut_bytes = cut_file(split / 'bag_2.mcap')
    with pytest.raises(BagError, match=r'names bag_1\.mcap, which is no'):
        recover(split)
    assert (split / 'bag_2.mcap').read_bytes() == cut_bytes
    recover(split / 'bag_2.mcap')
    assert metadata.read_metadata(split)['relative_file_paths'][1] == 'bag_1.mcap'
    (split.parent / 'elsewhere.mcap').rename(split / 'bag_1.mcap')
    assert commands_in(split)[: 2 * MESSAGES] == list(range(2 * MESSAGES))


def test_recovered_messages_keep_the_time_of_their_publication(split: Path) -> None:
    cut_file(split / 'bag_2.mcap')
    recover(split)
    with (split / 'bag_2.mcap').open('rb') as stream:
        records = StreamReader(stream).records
        times = [(r.log_time, r.publish_time) for r in records if isinstance(r, Message)]
    assert times and all(log_ns - publish_ns == 7 for log_ns, publish_ns in times)


def test_folders_without_one_mcap_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r'0 \.mcap files'):
        recover(tmp_path)
