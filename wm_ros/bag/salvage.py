"""What can be read of an MCAP file that was cut or damaged at any byte. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from wm_ros.bag.metadata import FileRecord, TopicRecord
from wm_ros.bag.record import hash_of


class Salvage:
    """Reads records until the file ends or makes no sense."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended = False
        self.good_bytes = 0
        self.damaged_chunks = 0
        self.damaged_bytes = 0

    def records(self) -> Iterator[Any]:
        """Yield schemas, channels and messages; every error ends the reading, none is raised."""
        with self.path.open('rb') as stream:
            records = iter(StreamReader(stream, emit_chunks=True).records)
            while True:
                before = self.good_bytes
                try:
                    record = next(records)
                except StopIteration:  # only after the footer and the magic number behind it
                    self.ended = True
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


@dataclass
class Contents:
    """What can be read of a file.

    Attributes:
        topics: by channel, with the messages that can be read.
        definitions: by channel: definition of its type, and what that is written in.
        complete: closed properly, and every chunk is right.
        orphans: messages of channels whose record cannot be read.
    """

    path: Path
    file_bytes: int
    topics: dict[int, TopicRecord] = field(default_factory=dict)
    definitions: dict[int, tuple[str, str]] = field(default_factory=dict)
    complete: bool = False
    damaged_chunks: int = 0
    lost_bytes: int = 0
    orphans: int = 0
    start_ns: int = 0
    end_ns: int = 0

    @property
    def messages(self) -> dict[str, int]:
        """Messages that can be read, by topic."""
        found: Counter[str] = Counter()
        for topic in self.topics.values():
            found[topic.name] += topic.messages
        return dict(found)

    @property
    def file(self) -> FileRecord:
        """The file as metadata lists it."""
        total = sum(self.messages.values())
        return FileRecord(self.path.name, total, self.start_ns, self.end_ns)


def read_contents(path: Path) -> Contents:
    """Look through a file.

    A whole file repeats schemas and channels at its end. The first that can be read counts:
    chunks have checksums.
    """
    contents, salvage = Contents(path, path.stat().st_size), Salvage(path)
    schemas: dict[int, tuple[str, str, str]] = {}
    times: dict[int, tuple[int, int, int]] = {}  # by channel: messages, first and last log time
    for record in salvage.records():
        if isinstance(record, Message):
            at_ns = record.log_time
            count, first_ns, last_ns = times.get(record.channel_id, (0, at_ns, at_ns))
            times[record.channel_id] = count + 1, min(first_ns, at_ns), max(last_ns, at_ns)
        elif isinstance(record, Schema):
            with suppress(UnicodeDecodeError):
                text = record.data.decode()
                schemas.setdefault(record.id, (record.name, text, record.encoding))
        elif isinstance(record, Channel) and record.schema_id in schemas:
            msgtype, text, encoding = schemas[record.schema_id]
            contents.topics.setdefault(record.id, _topic(record, msgtype, text, encoding))
            contents.definitions.setdefault(record.id, (text, encoding))
    for channel_id in set(times) - set(contents.topics):
        contents.orphans += times.pop(channel_id)[0]
    for channel_id, (count, _, _) in times.items():
        topic = contents.topics[channel_id]
        contents.topics[channel_id] = replace(topic, messages=count)
    contents.start_ns = min((first_ns for _, first_ns, _ in times.values()), default=0)
    contents.end_ns = max((last_ns for _, _, last_ns in times.values()), default=0)
    contents.complete = salvage.ended and not salvage.damaged_chunks
    contents.damaged_chunks = salvage.damaged_chunks
    contents.lost_bytes = salvage.damaged_bytes
    contents.lost_bytes += 0 if salvage.ended else contents.file_bytes - salvage.good_bytes
    return contents


def _topic(channel: Channel, msgtype: str, definition: str, encoding: str) -> TopicRecord:
    digest = channel.metadata.get('topic_type_hash')
    if digest is None:
        digest = hash_of(msgtype, definition, encoding)
    qos = channel.metadata.get('offered_qos_profiles', '')
    return TopicRecord(channel.topic, msgtype, digest, 0, qos)
