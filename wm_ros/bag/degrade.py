"""From a good bag a bad one: the same messages with chosen faults, and a list of what was done.

`degrade` is pure: an iterator through a list of faults. `degrade_bag` reads any bag and writes a
rosbag2 MCAP bag with `faults.json` in its folder. The same bag, faults and seed give the same
bytes.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_ros.bag.faults import ACTION, FRAME, Chance, Fault, Passing
from wm_ros.bag.offers import offers_text
from wm_ros.bag.raw import RawMessage, raw_messages, recordable_topics
from wm_ros.bag.record import BagRecorder
from wm_ros.bag.types import BagError
from wm_ros.contract import StreamContract

NAME = 'faults.json'


def roles_of(contract: StreamContract) -> dict[str, str]:
    """Return topic -> `frame` or `action` for what a contract names."""
    roles = {camera.topic: FRAME for camera in contract.cameras}
    return roles | {source.topic: ACTION for source in contract.actions}


@dataclass
class Ledger:
    """What was done.

    Attributes:
        faults: in the order in which they were done.
        seed: of all chance.
        done: one entry per fault: what was done -> topic -> numbers of the messages on their topic
            in the good bag, from 0.
        messages: topic -> messages that came through.
        complete: the good bag was read to its end.
        left_out: topic -> why it is not in the bad bag.
    """

    faults: tuple[Fault, ...]
    seed: int
    done: list[dict[str, dict[str, list[int]]]] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    complete: bool = False
    left_out: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.done = [{} for _ in self.faults]

    def note(self, fault: int, what: str, passing: Passing) -> None:
        """Write down one fault of one message."""
        of_topic = self.done[fault].setdefault(what, {})
        of_topic.setdefault(passing.message.topic, []).append(passing.index)

    def count(self, fault: int, what: str, topic: str) -> int:
        """Return how often a fault, by its place in `faults`, did something to a topic."""
        return len(self.done[fault].get(what, {}).get(topic, ()))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        entries = [
            {
                'fault': fault.name,
                **asdict(fault),  # type: ignore[call-overload]
                'done': {
                    what: {
                        topic: {'count': len(numbers), 'indices': numbers}
                        for topic, numbers in sorted(topics.items())
                    }
                    for what, topics in sorted(done.items())
                },
            }
            for fault, done in zip(self.faults, self.done, strict=True)
        ]
        return {
            'seed': self.seed,
            'complete': self.complete,
            'messages': dict(sorted(self.messages.items())),
            'left_out': self.left_out,
            'faults': entries,
        }


def degrade(
    messages: Iterable[RawMessage], roles: dict[str, str], ledger: Ledger
) -> Iterator[RawMessage]:
    """Yield messages with the faults of a ledger done to them, one fault after the other.

    Every message has a generator of its own in every fault (seed, the fault's name, its place
    among those of that name, topic, number in the good bag), so adding one does not change what
    another does to the messages that still come to it.

    Args:
        messages: in order of log time.
        roles: topic -> `frame` or `action`; others pass untouched.
        ledger: names faults and seed; filled as messages pass.
    """
    stream = _numbered(messages, roles)
    used: Counter[str] = Counter()
    for place, fault in enumerate(ledger.faults):
        chance = _chance(ledger.seed, fault.name, used[fault.name])
        used[fault.name] += 1
        stream = fault.apply(stream, chance, _noting(ledger, place))
    for passing in stream:
        ledger.messages[passing.message.topic] += 1
        yield passing.message
    ledger.complete = True


def degrade_bag(
    bag: str | Path,
    out: str | Path,
    contract: StreamContract,
    faults: Sequence[Fault],
    seed: int = 0,
) -> Ledger:
    """Write a bag with faults, and `faults.json` in its folder.

    Args:
        bag: path of any bag; topics that the contract does not name are copied, but for those of
            types that cannot be told (`Ledger.left_out`). Quality of service is copied, too.
        out: folder of the bag to write; must not exist.
        contract: which topics are frames and which commands.
        faults: one or more, done in this order.
        seed: of all chance.

    Returns:
        What was done.

    Raises:
        BagError: the bag cannot be read or has not all of the contract's topics; `out` exists.
            Where the bag is damaged further on, `out` holds what came before, and its
            `faults.json` says that it is not complete.
    """
    topics, left_out = recordable_topics(bag)
    roles = roles_of(contract)
    if missing := sorted(set(roles) - set(topics) - set(left_out)):
        raise BagError(
            f'bag {bag} has no topic {", ".join(missing)}, which contract {contract.name!r} '
            f'names; it holds {", ".join(sorted({*topics, *left_out})) or "nothing"}'
        )
    if unusable := [why for topic, why in left_out.items() if topic in roles]:
        raise BagError(f'bag {bag}: {"; ".join(unusable)}')
    ledger = Ledger(tuple(faults), seed, left_out=left_out)
    with BagRecorder(out) as recorder:
        for topic, info in topics.items():
            offers = offers_text(info.offers)
            recorder.add_topic(topic, info.msgtype, info.definition, offers)
        try:
            for each in degrade(raw_messages(bag, topics), roles, ledger):
                recorder.write(each.topic, each.msgtype, each.data, each.log_ns)
        finally:
            text = json.dumps({'bag': Path(bag).name, **ledger.to_dict()}, indent=1)
            (recorder.path / NAME).write_text(text + '\n', encoding='utf-8')
    return ledger


def _numbered(messages: Iterable[RawMessage], roles: dict[str, str]) -> Iterator[Passing]:
    seen: Counter[str] = Counter()
    start_ns: int | None = None
    for message in messages:
        start_ns = message.log_ns if start_ns is None else start_ns
        role, since_ns = roles.get(message.topic, ''), message.log_ns - start_ns
        yield Passing(message, seen[message.topic], role, since_ns)
        seen[message.topic] += 1


def _chance(seed: int, fault: str, place: int) -> Chance:
    words = [seed, _number(fault), place]
    return lambda topic, index: np.random.default_rng([*words, _number(topic), index])


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _noting(ledger: Ledger, place: int) -> Any:
    return lambda what, passing: ledger.note(place, what, passing)
