"""BagRecorder: serialised messages into a rosbag2 MCAP bag that survives a kill.

Chunks are closed and handed to the operating system when they span a second of log time, so a
killed process loses at most the last second; `recover` then rebuilds index and metadata. No ROS: a
node feeds the CDR bytes of a raw subscription. No clock: the caller gives log times, and calls
`flush` when its topics fall silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mcap.writer import CompressionType, Writer

from wm_ros.bag.metadata import FileRecord, TopicRecord, make_metadata, write_metadata
from wm_ros.bag.types import BagError, definition_of, type_hash

LONGEST_CHUNK_NS = 1_000_000_000
CHUNK_BYTES = 1024 * 1024
MESSAGE_SCHEMA = 'ros2msg'
_FOREVER = '{sec: 9223372036, nsec: 854775807}'
# One message for everyone who joins later.
LATCHED = (
    '- {history: keep_last, depth: 1, reliability: reliable, durability: transient_local, '
    f'deadline: {_FOREVER}, lifespan: {_FOREVER}, liveliness: automatic, '
    f'liveliness_lease_duration: {_FOREVER}, avoid_ros_namespace_conventions: false}}'
)


def hash_of(msgtype: str, definition: str, encoding: str) -> str:
    """Return the RIHS01 hash of a type; empty for a definition that is no .msg text."""
    return type_hash(msgtype, definition) if encoding == MESSAGE_SCHEMA else ''


@dataclass
class _Topic:
    channel_id: int
    msgtype: str
    type_hash: str
    qos: str = ''
    messages: int = 0


class BagRecorder:
    """Writes one bag. Use it as a context manager, or call `close`.

    Args:
        path: folder of the bag; must not exist.
        longest_chunk_ns: log time that a chunk may span before it is flushed.

    Raises:
        BagError: the folder exists or cannot be made.
    """

    def __init__(self, path: str | Path, *, longest_chunk_ns: int = LONGEST_CHUNK_NS) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise BagError(f'cannot make bag {self.path}: {error}') from error
        self._mcap = McapFile(self.path / f'{self.path.name}_0.mcap', longest_chunk_ns)
        self._mcap.write_metadata(self.path)

    def add_topic(
        self, topic: str, msgtype: str, definition: str | None = None, qos: str = ''
    ) -> None:
        """Announce a topic.

        Args:
            topic: its name.
            msgtype: such as `sensor_msgs/msg/Image`.
            definition: full text of the message definition; None looks the type up.
            qos: that players offer it with, as YAML text, such as `LATCHED`.

        Raises:
            BagError: unknown type, or the topic is there already with another type.
        """
        text = definition_of(msgtype) if definition is None else definition
        self._mcap.add_topic(topic, msgtype, text, qos=qos)

    def write(self, topic: str, msgtype: str, data: bytes | memoryview, log_ns: int) -> None:
        """Record one message; a topic that was not announced is announced by its type.

        Args:
            topic: its name.
            msgtype: its message type, the same for every message of the topic.
            data: its CDR bytes.
            log_ns: time of receipt.

        Raises:
            BagError: unknown type, another type than before, negative time, closed recorder.
        """
        if not self._mcap.holds(topic, msgtype):
            self.add_topic(topic, msgtype)
        self._mcap.write(topic, data, log_ns)

    def flush(self) -> None:
        """Hand everything recorded so far to the operating system."""
        self._mcap.flush()

    def close(self) -> None:
        """Finish the bag: index, then metadata. Closing twice does nothing."""
        if self._mcap.is_open:
            self._mcap.close()
            self._mcap.write_metadata(self.path)

    @property
    def messages(self) -> int:
        """Messages recorded so far."""
        return self._mcap.messages

    def __enter__(self) -> BagRecorder:
        """Return the recorder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bag, also after an error."""
        self.close()


class McapFile:
    """One MCAP file with the rosbag2 profile, flushed by log time. See `BagRecorder`."""

    def __init__(self, path: Path, longest_chunk_ns: int = LONGEST_CHUNK_NS) -> None:
        self.path = path
        self._longest_chunk_ns = longest_chunk_ns
        self._stream: IO[bytes] = path.open('xb')
        self._writer = Writer(self._stream, CHUNK_BYTES, CompressionType.ZSTD)
        self._writer.start(profile='ros2', library='wm_ros')
        self._writer.flush()
        self._topics: dict[str, _Topic] = {}
        self._schemas: dict[str, int] = {}
        self._chunk_start_ns: int | None = None
        self.start_ns: int | None = None
        self.end_ns = 0
        self.is_open = True

    @property
    def messages(self) -> int:
        """Messages written so far."""
        return sum(topic.messages for topic in self._topics.values())

    def holds(self, topic: str, msgtype: str) -> bool:
        """Return whether the topic is announced with this type."""
        return topic in self._topics and self._topics[topic].msgtype == msgtype

    def add_topic(
        self,
        topic: str,
        msgtype: str,
        definition: str,
        encoding: str = MESSAGE_SCHEMA,
        digest: str | None = None,
        qos: str = '',
    ) -> None:
        """Announce a topic; the same topic and type twice is one.

        `digest` None: compute it. `qos`: that it was offered with, as YAML text.
        """
        self._require_open()
        if topic in self._topics:
            if self._topics[topic].msgtype != msgtype:
                raise BagError(
                    f'{self.path}: topic {topic} is recorded as {self._topics[topic].msgtype}, '
                    f'not as {msgtype}'
                )
            return
        if digest is None:
            digest = hash_of(msgtype, definition, encoding)
        if msgtype not in self._schemas:
            schema = self._writer.register_schema(msgtype, encoding, definition.encode())
            self._schemas[msgtype] = schema
        channel_id = self._writer.register_channel(
            topic,
            'cdr',
            self._schemas[msgtype],
            {'offered_qos_profiles': qos, 'topic_type_hash': digest},
        )
        self._topics[topic] = _Topic(channel_id, msgtype, digest, qos)

    def write(
        self, topic: str, data: bytes | memoryview, log_ns: int, publish_ns: int | None = None
    ) -> None:
        """Append one message, closing the chunk first when it spans long enough.

        `publish_ns` None: as `log_ns`.
        """
        self._require_open()
        if topic not in self._topics:
            known = ', '.join(self._topics) or 'none'
            raise BagError(f'{self.path}: topic {topic} was not announced (known: {known})')
        if log_ns < 0:
            raise BagError(f'{self.path}: log time {log_ns} ns of {topic}, expected 0 or later')
        begun_ns = self._chunk_start_ns
        if begun_ns is not None and not 0 <= log_ns - begun_ns < self._longest_chunk_ns:
            self.flush()
        if self._chunk_start_ns is None:
            self._chunk_start_ns = log_ns
        held = self._topics[topic]
        sent_ns = log_ns if publish_ns is None else publish_ns
        self._writer.add_message(held.channel_id, log_ns, bytes(data), sent_ns, held.messages)
        held.messages += 1
        self.start_ns = log_ns if self.start_ns is None else min(self.start_ns, log_ns)
        self.end_ns = max(self.end_ns, log_ns)

    def flush(self) -> None:
        """Close the chunk and hand it to the operating system."""
        if self.is_open:
            self._writer.flush()
            self._chunk_start_ns = None

    def close(self) -> None:
        """Write index and footer."""
        self._writer.finish()
        self._stream.close()
        self.is_open = False

    def write_metadata(self, folder: Path) -> None:
        """Write the bag's metadata.yaml as of now."""
        topics = [
            TopicRecord(name, held.msgtype, held.type_hash, held.messages, held.qos)
            for name, held in self._topics.items()
        ]
        file = FileRecord(self.path.name, self.messages, self.start_ns or 0, self.end_ns)
        write_metadata(folder, make_metadata([file], topics))

    def _require_open(self) -> None:
        if not self.is_open:
            raise BagError(f'{self.path}: the recorder is closed')
