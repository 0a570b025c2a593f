"""A bag cut at any byte: never read silently, recovered to whole chunks, and the loss is said."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from mcap.records import Chunk, ChunkIndex, DataEnd, Footer, Header, MessageIndex, Statistics
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from wm_ros.bag import BagError, BagRecorder, bag_info, recover, ros_types
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
    found = recover(bag)
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
    assert [path.name for path in sorted(bag.iterdir())] == ['bag_0.mcap', *kept, 'metadata.yaml']
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
    found = recover(bag)
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
    found = recover(bag)
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
    assert recover(bag).damaged_path == bag / 'bag_0.mcap.damaged2'
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
    found = recover(path)
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
        found = recover(bag)
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
    found = recover(bag)
    assert found.damaged_chunks == 1
    assert values_in(bag) == list(range(20, 60))


def test_bags_of_other_writers_are_recovered(tmp_path: Path) -> None:
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/command', ACTION, typestore=ros_types())
        for i in range(30):
            writer.write(topic, i, action_bytes([i], i + 1))
    path = tmp_path / 'bag' / 'bag.mcap'
    path.write_bytes(path.read_bytes()[:-30])
    assert recover(tmp_path / 'bag').messages == {'/command': 30}
    assert values_in(tmp_path / 'bag') == list(range(30))


def test_folders_without_one_mcap_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r'0 \.mcap files'):
        recover(tmp_path)
