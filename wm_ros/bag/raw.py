"""Messages of any bag as CDR bytes, undecoded, for those who pass them on: player, fault maker.

ROS 1 messages are converted to their ROS 2 form by `rosbags`. Errors are those of `read.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.convert.converter import generate_message_converter
from rosbags.highlevel import AnyReader

from wm_ros.bag.read import iter_raw, open_bag
from wm_ros.bag.stamps import has_header
from wm_ros.bag.types import BagError, ros_types

Convert = Callable[[bytes], Any]


@dataclass(frozen=True)
class RawTopic:
    """One topic of a bag.

    Attributes:
        msgtype: such as `sensor_msgs/msg/Image`.
        messages: how many.
        definition: of the type, as rosbag2 embeds it; empty where the bag has none.
        stamped: its first field is a std_msgs/Header.
    """

    msgtype: str
    messages: int
    definition: str
    stamped: bool


@dataclass(frozen=True)
class RawMessage:
    """One message: `data` are its CDR bytes, `stamped` says that they begin with a header."""

    topic: str
    msgtype: str
    log_ns: int
    data: bytes
    stamped: bool


def raw_topics(bag: str | Path, topics: Iterable[str] = ()) -> dict[str, RawTopic]:
    """Return the topics of a bag by name, sorted.

    Args:
        bag: path of any bag.
        topics: those wanted; none means all.

    Raises:
        BagError: as `open_bag`; a topic that the bag does not hold or that has several types; a
            ROS 1 type that ROS 2 has not got.
    """
    with open_bag(bag) as reader:
        held = _chosen(reader, bag, set(topics))
        return {topic: _describe(reader, bag, topic, held[topic]) for topic in sorted(held)}


def raw_messages(
    bag: str | Path, topics: Iterable[str] = (), start_ns: int | None = None
) -> Iterator[RawMessage]:
    """Yield the messages of a bag by log time.

    Args:
        bag: path of any bag.
        topics: those wanted; none means all.
        start_ns: log time before which nothing is read.

    Raises:
        BagError: as `raw_topics`; or the bag is damaged, after what could be read.
    """
    with open_bag(bag) as reader:
        held = _chosen(reader, bag, set(topics))
        known = {topic: _describe(reader, bag, topic, held[topic]) for topic in held}
        converts = {} if reader.is2 else _converters(reader, held)
        connections = [each for each in reader.connections if each.topic in held]
        stream = iter_raw(reader, connections, bag, start_ns)
        for number, (connection, log_ns, raw) in enumerate(stream, 1):
            topic = connection.topic
            try:
                data = bytes(converts[topic](raw) if converts else raw)
            except Exception as error:  # a wrong length shows as any of several errors
                raise BagError(
                    f'bag {bag}: message {number}, of {topic} at {log_ns} ns, is no '
                    f'{connection.msgtype}: {error or type(error).__name__}'
                ) from error
            yield RawMessage(topic, known[topic].msgtype, log_ns, data, known[topic].stamped)


def _chosen(reader: AnyReader, bag: str | Path, topics: set[str]) -> dict[str, str]:
    held = {topic: info.msgtype for topic, info in reader.topics.items()}
    if missing := sorted(topics - set(held)):
        there = ', '.join(sorted(held)) or 'nothing'
        raise BagError(f'bag {bag} has no topic {", ".join(missing)}; it holds {there}')
    chosen = {topic: kind for topic, kind in held.items() if not topics or topic in topics}
    if several := sorted(topic for topic, kind in chosen.items() if kind is None):
        raise BagError(f'bag {bag}: {", ".join(several)} has messages of several types')
    return {topic: kind for topic, kind in chosen.items() if kind is not None}


def _describe(reader: AnyReader, bag: str | Path, topic: str, msgtype: str) -> RawTopic:
    types, messages = reader.typestore, reader.topics[topic].msgcount
    if not reader.is2:
        types = ros_types()
        if msgtype not in types.fielddefs:
            raise BagError(
                f'bag {bag}: {topic} is {msgtype}, a ROS 1 type that is unknown here as a ROS 2 '
                'one; choose other topics'
            )
    known = msgtype in types.fielddefs
    definition = types.generate_msgdef(msgtype, ros_version=2)[0] if known else ''
    return RawTopic(msgtype, messages, definition, has_header(types, msgtype))


def _converters(reader: AnyReader, held: dict[str, str]) -> dict[str, Convert]:
    """Return for each topic what makes CDR of its ROS 1 bytes."""
    cache: dict[str, object] = {}
    return {
        topic: generate_message_converter(
            reader.typestore, ros_types(), msgtype, msgtype, cache, src_is2=False, dst_is2=True
        )
        for topic, msgtype in held.items()
    }
