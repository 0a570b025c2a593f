"""What messages say of a camera and of commands: stamps, names, widths, ranges.

In: bags and a topic. Out: plain facts, over all bags. Guesses nothing: `propose.py` does.

Axes: E entries of one topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.bag.read import iter_messages
from wm_ros.checks import refused_values
from wm_ros.contract_fields import ContractError
from wm_ros.contract_init.choice import Topic
from wm_ros.messages import Command, commands_from_message, image_from_message, stamp_to_ns
from wm_ros.rejection import RejectedInput
from wm_ros.sources import (
    HEADERLESS_TYPES,
    JOINT_FIELDS,
    JOINT_TRAJECTORY,
    NAMED_TYPES,
    ActionSource,
    CameraSource,
)
from wm_ros.tracks import make_track

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CameraFacts:
    """A camera over all bags.

    Attributes:
        stamps_ns_B: header stamps of each bag, int64, in the order of their receipt.
        late_ns: median of receipt minus stamp.
        size_px: width and height of the first picture.
    """

    stamps_ns_B: tuple[npt.NDArray[np.int64], ...]
    late_ns: int
    size_px: tuple[int, int]

    @property
    def period_s(self) -> float | None:
        """Median gap between frames; None for less than two."""
        gaps_ns = np.concatenate([np.diff(stamps) for stamps in self.stamps_ns_B])
        gaps_ns = gaps_ns[gaps_ns > 0]
        return float(np.median(gaps_ns)) / 1e9 if gaps_ns.size else None


@dataclass(frozen=True)
class MessageFacts:
    """What the messages of a command topic have in common.

    Attributes:
        names: joints named in every message; empty for types without names.
        left_out: joints that only some messages name.
        nameless: messages that name no joint; they command nothing and are refused when read.
        messages: how many there are.
        field: which numbers of a joint message are filled.
        width: numbers per message, for types without names.
        zero_stamps: messages without a stamp, of those that command something.
        late_ns: median of receipt minus stamp, of those with one; None without any.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    nameless: int
    messages: int
    field: str
    width: int
    zero_stamps: int
    late_ns: int | None


def camera_facts(bags: Sequence[Path], topic: Topic) -> CameraFacts:
    """Read the stamps of a camera, and its first picture.

    Raises:
        BagError: a bag cannot be read.
        ContractError: stamps are zero, or the first picture cannot be decoded.
    """
    source = CameraSource(topic.name, topic.msgtype)
    per_bag, late_ns, size_px = [], [], (0, 0)
    for bag in bags:
        stamps = []
        for _, message, log_ns in iter_messages(bag, {topic.name: topic.msgtype}):
            stamps.append(stamp_to_ns(message.header.stamp))
            late_ns.append(log_ns - stamps[-1])
            if stamps[-1] == 0:
                raise ContractError(
                    f'bag {bag}: frame {len(stamps)} of {topic.name} has no header stamp; '
                    'a camera is placed in time by its stamps'
                )
            if size_px == (0, 0):
                try:
                    height, width, _ = image_from_message(source, message).shape
                except RejectedInput as error:
                    raise ContractError(f'bag {bag}: {topic.name}: {error}') from error
                size_px = (width, height)
        per_bag.append(np.array(stamps, np.int64))
    return CameraFacts(tuple(per_bag), int(np.median(late_ns)), size_px)


def message_facts(bags: Sequence[Path], topic: Topic) -> MessageFacts:
    """Read what the messages of a command topic have in common.

    Raises:
        BagError: a bag cannot be read.
        ContractError: nothing in common: no joint that all name, numbers of varying width.
    """
    named = topic.msgtype in NAMED_TYPES
    common: dict[str, None] | None = None
    seen: dict[str, None] = {}
    fields: set[str] | None = None
    widths: set[int] = set()
    count, nameless, zero, late_ns = 0, 0, 0, []
    for message, log_ns in _messages(bags, topic):
        count += 1
        if named:
            names, filled = _joints(topic.msgtype, message)
            if not names:
                nameless += 1
                continue
            seen |= dict.fromkeys(names)
            before = names if common is None else common
            common = {name: None for name in before if name in names}
            fields = filled if fields is None else fields & filled
        else:
            widths.add(_width(message))
        if topic.msgtype not in HEADERLESS_TYPES:
            stamp_ns = stamp_to_ns(message.header.stamp)
            zero += stamp_ns == 0
            late_ns += [log_ns - stamp_ns] if stamp_ns else []
    if named and not (common and fields):
        what = 'joint that every message names' if not common else 'numbers for the joints named'
        raise ContractError(f'{topic.name}: no {what} (found {", ".join(seen) or "no names"})')
    if len(widths) > 1 or widths == {0}:
        raise ContractError(f'{topic.name}: messages of {sorted(widths)} numbers, expected one')
    names_E = tuple(common or ())
    return MessageFacts(
        names_E,
        tuple(name for name in seen if name not in names_E),
        nameless,
        count,
        next((name for name in ('position', 'velocity', 'effort') if name in (fields or ())), ''),
        max(widths, default=0),
        zero,
        int(np.median(late_ns)) if late_ns else None,
    )


def _messages(bags: Sequence[Path], topic: Topic) -> Iterator[tuple[Any, int]]:
    for bag in bags:
        for _, message, log_ns in iter_messages(bag, {topic.name: topic.msgtype}):
            yield message, log_ns


def _joints(msgtype: str, message: Any) -> tuple[list[str], set[str]]:
    """Return the joints named and the fields that hold a number for each of them."""
    if msgtype == JOINT_TRAJECTORY:
        names, parts = list(message.joint_names), list(message.points)
    else:
        names, parts = list(message.name), [message]
    filled = {
        field
        for field, attribute in JOINT_FIELDS[msgtype].items()
        if parts and all(len(getattr(part, attribute)) == len(names) for part in parts)
    }
    return names, filled


def _width(message: Any) -> int:
    for attribute in ('values', 'data'):
        if hasattr(message, attribute):
            return len(getattr(message, attribute))
    return 6  # twists


def ranges_E2(
    bags: Sequence[Path], source: ActionSource, camera: CameraFacts, period_ns: int, gap_ns: int
) -> Numbers:
    """Return the smallest and largest value of every entry, float64 [E, 2], in its unit.

    Twists give the pose that they command, at the instants of the frames, zero at the first and
    after every silence of the camera.

    Raises:
        BagError: a bag cannot be read.
        ContractError: no message could be used.
    """
    low_E = np.full(len(source.entries), np.inf)
    high_E = -low_E
    for bag, stamps_ns in zip(bags, camera.stamps_ns_B, strict=True):
        commands = _commands(bag, source)
        if source.integrate is None:
            values = [command.values_E for command in commands]
        else:
            values = list(_poses(source, commands, stamps_ns, period_ns, gap_ns))
        if values:
            low_E = np.minimum(low_E, np.min(values, axis=0))
            high_E = np.maximum(high_E, np.max(values, axis=0))
    if not np.isfinite(low_E).all():
        raise ContractError(f'{source.topic}: no message that could be used')
    return np.stack([low_E, high_E], axis=1)


def _commands(bag: Path, source: ActionSource) -> Iterator[Command]:
    for _, message, log_ns in iter_messages(bag, {source.topic: source.type}):
        try:
            commands = commands_from_message(source, message, log_ns)
        except RejectedInput:
            continue
        for command in commands:
            if refused_values(source, command) is None:
                yield command


def _poses(
    source: ActionSource,
    commands: Iterator[Command],
    stamps_ns: npt.NDArray[np.int64],
    period_ns: int,
    gap_ns: int,
) -> Iterator[Numbers]:
    track = make_track(source, period_ns)
    waiting = deque(sorted(commands, key=lambda command: command.stamp_ns))
    last_ns: int | None = None
    for stamp_ns in np.sort(stamps_ns).tolist():
        while waiting and waiting[0].stamp_ns <= stamp_ns:
            track.push((waiting.popleft(),), gap_ns)
        if last_ns is None or stamp_ns - last_ns > gap_ns:
            track.reset(stamp_ns)
        pose_E = track.at(stamp_ns)
        if pose_E is not None:
            yield pose_E
            last_ns = stamp_ns
            track.forget(stamp_ns)
