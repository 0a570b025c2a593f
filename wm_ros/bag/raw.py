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

from wm_ros.bag.offers import Offers, offers_of
from wm_ros.bag.read import iter_raw, open_bag
from wm_ros.bag.stamps import STAMP_END, has_header
from wm_ros.bag.types import BagError, ros_types, type_hash

Convert = Callable[[bytes], Any]


@dataclass(frozen=True)
class RawTopic:
    """One topic of a bag.

    Attributes:
        msgtype: such as `sensor_msgs/msg/Image`.
        messages: how many.
        definition: of the type, as rosbag2 embeds it; None where neither the bag nor Jazzy has
            one.
        stamped: its first field is a std_msgs/Header.
        offers: quality of service of its publishers; none where the bag does not tell.
    """

    msgtype: str
    messages: int
    definition: str | None
    stamped: bool
    offers: Offers = ()


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
        return _described(reader, bag, topics)


def recordable_topics(bag: str | Path) -> tuple[dict[str, RawTopic], dict[str, str]]:
    """Return the topics of a bag that another bag can hold, sorted, and why the others cannot be
    held: several types, no definition of the type, or no conversion of it from ROS 1.

    Raises:
        BagError: as `open_bag`.
    """
    held: dict[str, RawTopic] = {}
    others: dict[str, str] = {}
    with open_bag(bag) as reader:
        for topic in sorted(reader.topics):
            try:
                held[topic] = _recordable(reader, topic)
            except BagError as error:
                others[topic] = str(error)
    return held, others


def raw_messages(
    bag: str | Path, topics: Iterable[str] = (), start_ns: int | None = None
) -> Iterator[RawMessage]:
    """Yield the messages of a bag by log time.

    Args:
        bag: path of any bag.
        topics: those wanted; none means all.
        start_ns: log time before which nothing is read.

    Raises:
        BagError: as `raw_topics`; or, after what could be read, the bag is damaged or a message is
            none of its type: one that is too short for the header it should begin with, too.
    """
    with open_bag(bag) as reader:
        known = _described(reader, bag, topics)
        converts = {} if reader.is2 else _converters(reader, known)
        connections = [each for each in reader.connections if each.topic in known]
        stream = iter_raw(reader, connections, bag, start_ns)
        for number, (connection, log_ns, raw) in enumerate(stream, 1):
            topic, stamped = connection.topic, known[connection.topic].stamped
            try:
                data = bytes(converts[topic](raw) if converts else raw)
                if stamped and len(data) < STAMP_END:
                    raise ValueError(f'{len(data)} bytes, no room for the stamp of its header')
            except Exception as error:  # a wrong length shows as any of several errors
                raise BagError(
                    f'bag {bag}: message {number}, of {topic} at {log_ns} ns, is no '
                    f'{connection.msgtype}: {error or type(error).__name__}'
                ) from error
            yield RawMessage(topic, known[topic].msgtype, log_ns, data, stamped)


def _described(
    reader: AnyReader, bag: str | Path, topics: Iterable[str]
) -> dict[str, RawTopic]:
    held, wanted = set(reader.topics), set(topics)
    if missing := sorted(wanted - held):
        there = ', '.join(sorted(held)) or 'nothing'
        raise BagError(f'bag {bag} has no topic {", ".join(missing)}; it holds {there}')
    try:
        return {topic: _describe(reader, topic) for topic in sorted(wanted or held)}
    except BagError as error:
        raise BagError(f'bag {bag}: {error}; choose other topics') from error


def _describe(reader: AnyReader, topic: str) -> RawTopic:
    info = reader.topics[topic]
    msgtype, types = info.msgtype, reader.typestore
    if msgtype is None:
        raise BagError(f'{topic} has messages of several types')
    if not reader.is2 or msgtype not in types.fielddefs:
        types = ros_types()
    known = msgtype in types.fielddefs
    if not (known or reader.is2):
        raise BagError(
            f'{topic} is {msgtype}, a ROS 1 type that is unknown here as a ROS 2 one'
        )
    definition = types.generate_msgdef(msgtype, ros_version=2)[0] if known else None
    offers = offers_of(info.connections)
    return RawTopic(msgtype, info.msgcount, definition, has_header(types, msgtype), offers)


def _recordable(reader: AnyReader, topic: str) -> RawTopic:
    found = _describe(reader, topic)
    if found.definition is None:
        raise BagError(f'{topic} is {found.msgtype}, of which the bag has no definition')
    type_hash(found.msgtype, found.definition)
    if not reader.is2:
        try:
            _converters(reader, {topic: found})
        except Exception as error:  # of any kind: the two definitions differ in any way
            raise BagError(
                f'{topic} is {found.msgtype}, which is another type in ROS 2: {error!r}'
            ) from error
    return found


def _converters(reader: AnyReader, topics: dict[str, RawTopic]) -> dict[str, Convert]:
    """Return for each topic what makes CDR of its ROS 1 bytes."""
    cache: dict[str, object] = {}
    return {
        topic: generate_message_converter(
            reader.typestore, ros_types(), one.msgtype, one.msgtype, cache,
            src_is2=False, dst_is2=True,
        )
        for topic, one in topics.items()
    }  # fmt: skip
