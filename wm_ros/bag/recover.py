"""Rebuild a readable bag from an MCAP file that was cut at any byte, and say what was lost.

Whole chunks are copied message by message into a fresh file beside the cut one, which takes its
place only when it is complete. Where anything was lost, the file as it was found stays beside it
as `<file>.damaged`: another tool may read more. A bag that was closed properly keeps its file; its
metadata is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from wm_ros.bag.record import McapFile
from wm_ros.bag.types import BagError


@dataclass(frozen=True)
class Recovery:
    """What `recover` did.

    Attributes:
        path: the MCAP file.
        complete: the file had been closed properly; nothing was lost.
        messages: messages kept, by topic.
        file_bytes: size of the file as it was found.
        lost_bytes: bytes at its end, or in damaged chunks, that no message could be read from.
        damaged_chunks: whole chunks left out because their checksum or content is wrong.
        orphans: messages left out because the record that names their topic is damaged.
        start_ns: log time of the first kept message.
        end_ns: log time of the last kept message.
        damaged_path: the file as it was found, where bytes or messages of it were lost; else None.
    """

    path: Path
    complete: bool
    messages: dict[str, int]
    file_bytes: int
    lost_bytes: int
    damaged_chunks: int
    orphans: int
    start_ns: int
    end_ns: int
    damaged_path: Path | None = None


class _Salvage:
    """Reads records until the file ends or makes no sense."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complete = False
        self.good_bytes = 0
        self.damaged_chunks = 0
        self.damaged_bytes = 0
        self.orphans = 0

    def records(self) -> Iterator[Any]:
        """Yield schemas, channels and messages; every error ends the reading, none is raised."""
        with self.path.open('rb') as stream:
            records = iter(StreamReader(stream, emit_chunks=True).records)
            while True:
                before = self.good_bytes
                try:
                    record = next(records)
                except StopIteration:  # only after the footer and the magic number behind it
                    self.complete = True
                    return
                except Exception:  # any byte may be missing or wrong; what was read so far stands
                    return
                self.good_bytes = stream.tell()
                if isinstance(record, Chunk):
                    yield from self._of_chunk(record, self.good_bytes - before)
                else:
                    yield record

    def _of_chunk(self, chunk: Chunk, size: int) -> list[Any]:
        try:
            return breakup_chunk(chunk, validate_crc=True)
        except Exception:  # counted and reported: the other chunks are still good
            self.damaged_chunks += 1
            self.damaged_bytes += size
            return []


def recover(bag: str | Path) -> Recovery:
    """Make a cut or unclosed bag readable.

    Args:
        bag: a bag folder with one MCAP file, or the file itself (the bag is then its folder).

    Returns:
        What was kept and what was lost.

    Raises:
        BagError: there is no MCAP file, or not one message in it.
    """
    path = _mcap_file(Path(bag))
    salvage = _Salvage(path)
    file_bytes = path.stat().st_size
    fresh_path = path.with_name(path.name + '.recovering')
    fresh_path.unlink(missing_ok=True)
    fresh = McapFile(fresh_path)
    try:
        messages = _copy(salvage, fresh)
        fresh.close()
        if not fresh.messages:
            raise BagError(f'{path}: not one message in {file_bytes} bytes; nothing to recover')
        lost_bytes = salvage.damaged_bytes
        lost_bytes += 0 if salvage.complete else file_bytes - salvage.good_bytes
        damaged_path = None
        if not salvage.complete or salvage.damaged_chunks:
            if lost_bytes or salvage.orphans:
                damaged_path = _free_path(path)
                path.rename(damaged_path)
            fresh_path.replace(path)
    finally:
        fresh_path.unlink(missing_ok=True)
    fresh.path = path
    fresh.write_metadata(path.parent)
    return Recovery(
        path,
        salvage.complete and not salvage.damaged_chunks,
        messages,
        file_bytes,
        lost_bytes,
        salvage.damaged_chunks,
        salvage.orphans,
        fresh.start_ns or 0,
        fresh.end_ns,
        damaged_path,
    )


def _free_path(path: Path) -> Path:
    """Return `<file>.damaged`, numbered where a recovery before this one has left its own."""
    damaged_path, number = path.with_name(path.name + '.damaged'), 2
    while damaged_path.exists():
        damaged_path = path.with_name(f'{path.name}.damaged{number}')
        number += 1
    return damaged_path


def _copy(salvage: _Salvage, fresh: McapFile) -> dict[str, int]:
    messages: dict[str, int] = {}
    topics = _topics(salvage.path)
    for channel, msgtype, text, encoding in topics.values():
        digest = channel.metadata.get('topic_type_hash')
        fresh.add_topic(channel.topic, msgtype, text, encoding, digest)
        messages[channel.topic] = 0
    for record in salvage.records():
        if isinstance(record, Message) and record.channel_id in topics:
            topic = topics[record.channel_id][0].topic
            fresh.write(topic, record.data, record.log_time)
            messages[topic] += 1
        elif isinstance(record, Message):
            salvage.orphans += 1
    return messages


def _topics(path: Path) -> dict[int, tuple[Channel, str, str, str]]:
    """Collect channel, type, definition and its encoding, from all over the file.

    A whole file repeats them at its end. The first that can be read counts: chunks have checksums.
    """
    schemas: dict[int, tuple[str, str, str]] = {}
    topics: dict[int, tuple[Channel, str, str, str]] = {}
    for record in _Salvage(path).records():
        if isinstance(record, Schema):
            with suppress(UnicodeDecodeError):
                text = record.data.decode()
                schemas.setdefault(record.id, (record.name, text, record.encoding))
        elif isinstance(record, Channel) and record.schema_id in schemas:
            topics.setdefault(record.id, (record, *schemas[record.schema_id]))
    return topics


def _mcap_file(bag: Path) -> Path:
    if bag.is_file():
        return bag
    files = sorted(bag.glob('*.mcap'))
    if len(files) != 1:
        raise BagError(f'{bag} holds {len(files)} .mcap files, expected one')
    return files[0]
