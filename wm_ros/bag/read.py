"""Read a bag: as steps through the same contract, messages and synchroniser as a live robot, or as
a list.

`iter_steps` is the one reader for training, replay and evaluation. Frames wait for their commands
in log time, so that the rule on stamps holds however the messages were delayed on the way into the
bag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from wm_ros.bag.opening import open_bag
from wm_ros.bag.types import BagError
from wm_ros.contract import StreamContract
from wm_ros.datatypes import Step
from wm_ros.feed import MessageFeed
from wm_ros.rejection import Rejection
from wm_ros.sync import END_OF_STREAM_NS, StepSynchronizer

__all__ = [
    'BagInfo',
    'TopicSummary',
    'bag_info',
    'iter_messages',
    'iter_raw',
    'iter_steps',
    'open_bag',
]

COMMAND_WAIT_NS = 1_000_000_000


@dataclass(frozen=True)
class TopicSummary:
    """One topic of a bag; `rate_hz` is over the bag's whole duration."""

    name: str
    msgtype: str
    messages: int
    rate_hz: float


@dataclass(frozen=True)
class BagInfo:
    """What a bag holds. Times are log times."""

    path: Path
    start_ns: int
    duration_s: float
    messages: int
    topics: tuple[TopicSummary, ...]


def bag_info(path: str | Path) -> BagInfo:
    """List topics, types and counts.

    Raises:
        BagError: as `open_bag`.
    """
    with open_bag(path) as reader:
        empty = not reader.message_count
        duration_s = 0.0 if empty else reader.duration / 1e9
        topics = tuple(
            TopicSummary(
                name,
                info.msgtype or 'several types',
                info.msgcount,
                (info.msgcount - 1) / duration_s if info.msgcount > 1 and duration_s > 0 else 0.0,
            )
            for name, info in sorted(reader.topics.items())
        )
        start_ns = 0 if empty else reader.start_time
        return BagInfo(Path(path), start_ns, duration_s, reader.message_count, topics)


def iter_messages(
    bag: str | Path, topics: dict[str, str], optional: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any, int]]:
    """Yield (topic, message, log time ns) in the order of log times.

    Args:
        bag: path of the bag.
        topics: topic -> message type that is expected.
        optional: topics that may be missing or empty.

    Raises:
        BagError: a topic is missing, empty or of another type; a message cannot be read, naming
            its topic, its number and its time.
    """
    with open_bag(bag) as reader:
        connections = _connections(reader, Path(bag), topics, optional)
        read: Counter[str] = Counter()
        for connection, log_ns, raw in iter_raw(reader, connections, bag):
            read[connection.topic] += 1
            try:
                message = reader.deserialize(raw, connection.msgtype)
            except Exception as error:  # a wrong length shows as any of several errors
                raise BagError(
                    f'bag {bag}: message {read[connection.topic]} of {connection.topic} at '
                    f'{log_ns} ns is no {connection.msgtype}: {error or type(error).__name__}'
                ) from error
            yield connection.topic, message, log_ns


def iter_raw(
    reader: AnyReader,
    connections: list[Connection],
    bag: str | Path,
    start_ns: int | None = None,
) -> Iterator[tuple[Connection, int, bytes]]:
    """Yield (connection, log time ns, bytes as stored) in the order of log times.

    Args:
        reader: an open bag.
        connections: what to read of it; with none nothing is read.
        bag: its path, for errors.
        start_ns: log time before which nothing is read.

    Raises:
        BagError: the bag is damaged, saying after how many messages and at what time.
    """
    if not connections:  # to rosbags no choice is every one
        return
    messages = reader.messages(connections, start=start_ns)
    count, last_ns = 0, None
    while True:
        try:
            connection, log_ns, raw = next(messages)
        except StopIteration:
            return
        except Exception as error:  # as in open_bag
            topics = ', '.join(sorted({connection.topic for connection in connections}))
            after = '' if last_ns is None else f' at {last_ns} ns'
            raise BagError(
                f'bag {bag}: damaged after message {count} of {topics}{after}: '
                f'{error or type(error).__name__}'
            ) from error
        count, last_ns = count + 1, log_ns
        yield connection, log_ns, raw


def iter_steps(
    bag: str | Path,
    contract: StreamContract,
    *,
    on_rejection: Callable[[Rejection], None] | None = None,
    counts: Counter[str] | None = None,
) -> Iterator[Step]:
    """Yield a bag's steps, as the live synchroniser gives them when no command comes too late.

    Args:
        bag: path of the bag.
        contract: how to read it.
        on_rejection: called with every refused frame or command.
        counts: filled with the synchroniser's counts.

    Raises:
        BagError: as `iter_messages`; or no message became a step, saying why.
    """
    synchronizer = StepSynchronizer(contract, wait_ns=COMMAND_WAIT_NS)
    if counts is not None:
        synchronizer.counts = counts
    feed = MessageFeed(contract, synchronizer)
    optional = () if contract.reset.topic is None else (contract.reset.topic,)
    steps = 0
    last: Rejection | None = None

    def polled(now_ns: int) -> Iterator[Step]:
        nonlocal steps, last
        for result in synchronizer.poll(now_ns):
            if isinstance(result, Step):
                steps += 1
                yield result
            else:
                last = result
                if on_rejection is not None:
                    on_rejection(result)

    for topic, message, log_ns in iter_messages(bag, contract.topics, optional):
        feed.push(topic, message, log_ns)
        yield from polled(log_ns)
    yield from polled(END_OF_STREAM_NS)
    if not steps:
        listed = ', '.join(f'{name} {count}' for name, count in synchronizer.counts.items())
        detail = f'; last: {last.kind} {last.reason.value}: {last.detail}' if last else ''
        raise BagError(f'bag {bag}: no step under contract {contract.name!r}: {listed}{detail}')


def _connections(
    reader: AnyReader, bag: Path, topics: dict[str, str], optional: tuple[str, ...]
) -> list[Connection]:
    found = {name: info.msgtype for name, info in reader.topics.items()}
    listed = ', '.join(f'{name} ({kind})' for name, kind in sorted(found.items())) or 'nothing'
    for topic, msgtype in topics.items():
        if topic not in found:
            if topic in optional:
                continue
            raise BagError(f'bag {bag} has no topic {topic}; it holds {listed}')
        if found[topic] != msgtype:
            kind = found[topic] or 'of several types'
            raise BagError(f'bag {bag}: topic {topic} is {kind}, the contract expects {msgtype}')
        if not reader.topics[topic].msgcount and topic not in optional:
            raise BagError(f'bag {bag}: topic {topic} is empty')
    return [connection for connection in reader.connections if connection.topic in topics]
