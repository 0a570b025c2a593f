"""One command topic as a source of a contract: entries, units, limits, stamps, each guess with
its reason.

In: bags, a topic, facts of the camera. Out: `Commands`. Which topics to use, `choice.py` says.

Axes: E entries of the topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wm_ros.contract_init.choice import Topic, word_of
from wm_ros.contract_init.ranges import (
    CameraFacts,
    MessageFacts,
    Numbers,
    message_facts,
    ranges_E2,
)
from wm_ros.contract_init.text import CONSTANT, widened
from wm_ros.sources import (
    HEADERLESS_TYPES,
    NAMED_TYPES,
    POSE_ENTRIES,
    TWIST_TYPES,
    ActionEntry,
    ActionSource,
)

OTHER_CLOCK_NS = 1_000_000_000  # stamps this far apart were taken by different clocks
FIELD_UNITS = {'position': 'rad', 'velocity': 'rad/s', 'effort': 'N m'}
POSE_UNITS = ('m', 'm', 'm', 'rad', 'rad', 'rad')
HAND_WORDS = ('hand', 'finger', 'thumb', 'grip', 'claw')
OPENING, OPENING_LIMITS = '0..1', (-0.05, 1.05)
INSIDE, OPEN = 1e-3, 0.95  # how far an opening may leave 0..1, and what counts as open


@dataclass(frozen=True)
class Commands:
    """A source, comments above it, and behind each entry by its name."""

    source: ActionSource
    remarks: tuple[str, ...]
    found: Mapping[str, str]


def commands_of(
    bags: Sequence[Path], topic: Topic, camera: CameraFacts, period_ns: int, gap_ns: int
) -> Commands:
    """Describe one command topic.

    Args:
        bags: all of them hold it.
        topic: of a type in `ACTION_TYPES`.
        camera: twists are integrated from frame to frame.
        period_ns, gap_ns: of the contract.

    Raises:
        BagError: a bag cannot be read.
        ContractError: the messages have nothing in common, or none can be used.
    """
    facts = message_facts(bags, topic)
    stamp, remarks = _stamp(topic, facts, camera.late_ns)
    source, guesses = _source(topic, facts, stamp)
    remarks += guesses
    found_E2 = ranges_E2(bags, source, camera, period_ns, gap_ns)
    if source.integrate:
        moving_E = np.ptp(found_E2, axis=1) > CONSTANT
        if not moving_E.any():
            moving_E[[POSE_ENTRIES.index('x'), POSE_ENTRIES.index('yaw')]] = True
        kept = tuple(e for e, moves in zip(source.entries, moving_E, strict=True) if moves)
        source, found_E2 = replace(source, entries=kept), found_E2[moving_E]
    openings = _openings(source, found_E2)
    if openings:
        remarks.append('guess: hand entries are openings from 0 to 1')
    entries = tuple(
        ActionEntry(entry.name, OPENING, *OPENING_LIMITS)
        if entry.name in openings
        else ActionEntry(entry.name, entry.unit, *widened(low, high, entry.unit))
        for entry, (low, high) in zip(source.entries, found_E2.tolist(), strict=True)
    )
    found = {
        entry.name: f'found {low:.4g} to {high:.4g}'
        + (', never changes' if high - low < CONSTANT else '')
        for entry, (low, high) in zip(source.entries, found_E2.tolist(), strict=True)
    }
    return Commands(replace(source, entries=entries), tuple(remarks), found)


def _source(topic: Topic, facts: MessageFacts, stamp: str) -> tuple[ActionSource, list[str]]:
    """Return a source whose limits are yet to be found, and remarks."""
    names: tuple[str, ...]
    units: tuple[str, ...]
    field = facts.field or 'position'
    integrate, remarks = None, []
    if facts.left_out:
        remarks.append(f'left out, not named in every message: {", ".join(facts.left_out)}')
    if facts.nameless:
        remarks.append(f'{facts.nameless} of {facts.messages} messages name no joint: refused')
    if topic.msgtype in TWIST_TYPES:
        names, units, integrate = POSE_ENTRIES, POSE_UNITS, 'body'
        remarks.append('guess: velocities of the body; the entries are the pose they lead to')
    elif topic.msgtype in NAMED_TYPES:
        names, units = facts.names, (FIELD_UNITS[field],) * len(facts.names)
        remarks.append(f'guess: {field} in {FIELD_UNITS[field]}; sliding joints are in m')
    else:
        names = tuple(f'{word_of(topic.name)}_{index}' for index in range(facts.width))
        units = ('1',) * facts.width
        remarks.append('guess: names by position, units unknown; give them their own')
    entries = tuple(
        ActionEntry(name, unit, -1.0, 1.0) for name, unit in zip(names, units, strict=True)
    )
    source = ActionSource(topic.name, topic.msgtype, entries, field, stamp, integrate)
    return source, remarks


def _stamp(topic: Topic, facts: MessageFacts, camera_late_ns: int) -> tuple[str, list[str]]:
    """Return `header` or `receive`, and why."""
    late_ns = facts.late_ns
    if topic.msgtype in HEADERLESS_TYPES or facts.zero_stamps or late_ns is None:
        why = 'the type has no header'
        if topic.msgtype not in HEADERLESS_TYPES:
            why = f'guess: {facts.zero_stamps} of {facts.messages} messages have no header stamp'
        remarks = [f'{why}, so commands are placed by their time of receipt']
        if abs(camera_late_ns) > OTHER_CLOCK_NS:
            remarks.append(
                f'guess: the camera was received {camera_late_ns / 1e9:.3g} s after its stamps: '
                'commands by receipt do not fit it'
            )
        return 'receive', remarks
    if abs(late_ns - camera_late_ns) > OTHER_CLOCK_NS >= abs(camera_late_ns):
        return 'receive', [
            f'guess: header stamps are {late_ns / 1e9:.3g} s off, another clock than the '
            "camera's, so commands are placed by their time of receipt"
        ]
    return 'header', []


def _openings(source: ActionSource, found_E2: Numbers) -> set[str]:
    """Return the hand entries, if they look like openings: all in 0..1, one of them open."""
    hands = {
        entry.name: found_2
        for entry, found_2 in zip(source.entries, found_E2.tolist(), strict=True)
        if any(word in entry.name.lower() for word in HAND_WORDS)
    }
    inside = all(low >= -INSIDE and high <= 1 + INSIDE for low, high in hands.values())
    if source.type not in NAMED_TYPES or source.field != 'position' or not inside:
        return set()
    opened = any(high > OPEN for _, high in hands.values())
    return set(hands) if opened else set()
