"""propose: bags -> a stream contract with a reason for every guess.

`choice.py` picks the topics, `ranges.py` reads their messages, `text.py` writes the YAML. What is
guessed here: rate, entries, units, limits, and header stamps or times of receipt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from wm_ros.bag import iter_steps
from wm_ros.contract import StreamContract
from wm_ros.contract_fields import ContractError
from wm_ros.contract_init.choice import (
    Topic,
    choose_actions,
    choose_camera,
    topics_of,
    word_of,
)
from wm_ros.contract_init.ranges import CameraFacts, camera_facts, message_facts, ranges_E2
from wm_ros.contract_init.text import contract_text, widened
from wm_ros.sources import (
    HEADERLESS_TYPES,
    NAMED_TYPES,
    POSE_ENTRIES,
    TWIST_TYPES,
    ActionEntry,
    ActionSource,
    CameraSource,
    ResetPolicy,
)

FASTEST_HZ = 30.0
COMMON_HZ = (1, 2, 3, 4, 5, 6, 7.5, 8, 10, 12, 12.5, 15, 20, 24, 25, 30, 40, 50, 60)
NEAR = 0.03  # a rate this close to a common one is that one
OTHER_CLOCK_NS = 1_000_000_000  # stamps this far apart were taken by different clocks
FIELD_UNITS = {'position': 'rad', 'velocity': 'rad/s', 'effort': 'N m'}
HAND_WORDS = ('hand', 'finger', 'thumb', 'grip', 'claw')
OPENING, OPENING_LIMITS = '0..1', (-0.05, 1.05)
STILL = 1e-6  # m, rad: a pose entry that moves less is left out


@dataclass(frozen=True)
class Wish:
    """What the user wants decided; None and empty leave it to the proposal.

    Attributes:
        name: of the contract.
        image, actions: topics.
        rate_hz: steps per second.
        image_size: side of the picture that the model sees, px.
    """

    name: str = 'my_robot'
    image: str | None = None
    actions: tuple[str, ...] = ()
    rate_hz: float | None = None
    image_size: int = 64


@dataclass(frozen=True)
class Proposal:
    """A contract, its YAML text with comments, and what a person should check, line by line."""

    contract: StreamContract
    text: str
    to_check: tuple[str, ...]


@dataclass(frozen=True)
class _Commands:
    """A source, comments above it and behind its entries."""

    source: ActionSource
    remarks: tuple[str, ...]
    found: Mapping[str, str]


def propose(bags: Sequence[Path], wish: Wish) -> Proposal:
    """Propose a contract; ranges are over all bags.

    Args:
        bags: recordings of one robot.
        wish: what the user has decided.

    Raises:
        BagError: a bag cannot be read.
        ContractError: no camera or no command topic that can be used, listing what there is.
    """
    topics = topics_of(bags)
    camera_topic, camera_remarks = choose_camera(topics, wish.image)
    chosen, action_remarks = choose_actions(topics, wish.actions)
    camera = camera_facts(bags, camera_topic)
    rate_hz, rate_remarks = _rate(camera, wish.rate_hz)
    reset = ResetPolicy(gap_s=max(1.0, round(3 / rate_hz, 1)))
    period_ns, gap_ns = round(1e9 / rate_hz), round(reset.gap_s * 1e9)
    parts: list[_Commands] = []
    left_out = list(action_remarks)
    for topic in chosen:
        try:
            part = _source(bags, topic, camera, period_ns, gap_ns)
            _require_new_names(part.source, parts)
        except ContractError as error:
            if wish.actions or len(chosen) == 1:
                raise
            left_out.append(f'not chosen: {error}')
            continue
        parts.append(part)
    if not parts:
        raise ContractError(f'no action topic that can be used: {"; ".join(left_out)}')
    contract = StreamContract(
        name=wish.name,
        rate_hz=rate_hz,
        image_size=wish.image_size,
        cameras=(CameraSource(camera_topic.name, camera_topic.msgtype),),
        actions=tuple(part.source for part in parts),
        reset=reset,
    )
    width, height = camera.size_px
    named = ', '.join(bag.name for bag in bags[:3]) + (', ...' if len(bags) > 3 else '')
    remarks: dict[str, Sequence[str]] = {
        '': [
            f'Proposed by `wm contract init` from {len(bags)} bags ({named}).',
            'Limits: the range found, widened on each side by a fifth (angles by 0.1 rad at '
            'least). Check every guess.',
        ],
        'rate_hz': rate_remarks,
        'image_size': [f'The camera sends {width} x {height} px; the largest centred square of it '
                       'is seen. Another part: crop: {left, top, width, height}.'],
        'cameras': camera_remarks,
        'actions': left_out,
    }  # fmt: skip
    found: dict[str, str] = {}
    for part in parts:
        remarks[part.source.topic] = part.remarks
        found |= part.found
    lines = [line for part in remarks.values() for line in part if 'guess:' in line]
    lines += [line for line in (*camera_remarks, *left_out) if 'guess:' not in line]
    return Proposal(contract, contract_text(contract, remarks, found), tuple(lines))


def try_out(bag: Path, contract: StreamContract, steps: int = 200) -> tuple[int, Counter[str]]:
    """Read the first steps of a bag under a contract.

    Returns:
        Number of steps, and the reader's counts, refusals among them.

    Raises:
        BagError: no step at all, saying why.
    """
    counts: Counter[str] = Counter()
    read = sum(1 for _ in islice(iter_steps(bag, contract, counts=counts), steps))
    return read, counts


def _rate(camera: CameraFacts, wanted_hz: float | None) -> tuple[float, tuple[str, ...]]:
    """Return the contract's rate and remarks; above 30 Hz every second frame is taken."""
    period_s = camera.period_s
    if period_s is None:
        if wanted_hz is None:
            raise ContractError('a single frame has no rate: say which with --rate')
        return wanted_hz, ()
    found = f'median gap of the header stamps {period_s * 1e3:.3g} ms'
    if wanted_hz is not None:
        return wanted_hz, (f'As asked for; {found}.',)
    bag_hz = _sensible(1 / period_s)
    if bag_hz <= FASTEST_HZ:
        return bag_hz, (f'guess: {found}.',)
    # The synchroniser refuses frames closer than 0.6 periods: it can halve a rate, no more.
    return bag_hz / 2, (
        f'guess: {found}, so {bag_hz:g} Hz; halved, so every second frame is refused as '
        'too_soon. A model costs its time per step: most robots need no more than 30 Hz.',
    )


def _sensible(rate_hz: float) -> float:
    nearest = min(COMMON_HZ, key=lambda common: abs(common - rate_hz))
    if abs(nearest - rate_hz) <= NEAR * rate_hz:
        return float(nearest)
    return float(round(rate_hz)) if rate_hz >= 10 else float(f'{rate_hz:.3g}')


def _source(
    bags: Sequence[Path], topic: Topic, camera: CameraFacts, period_ns: int, gap_ns: int
) -> _Commands:
    """Describe one command topic as a source with limits."""
    facts = message_facts(bags, topic)
    stamp, remarks = _stamp(topic, facts.zero_stamps, facts.late_ns, camera.late_ns)
    field = facts.field or 'position'
    if facts.left_out:
        remarks.append(f'left out, not named in every message: {", ".join(facts.left_out)}')
    if topic.msgtype in TWIST_TYPES:
        names, units = POSE_ENTRIES, ('m', 'm', 'm', 'rad', 'rad', 'rad')
        remarks.append('guess: velocities of the body; the entries are the pose they lead to')
    elif topic.msgtype in NAMED_TYPES:
        names, units = facts.names, (FIELD_UNITS[field],) * len(facts.names)
        remarks.append(f'guess: {field} in {FIELD_UNITS[field]}; sliding joints are in m')
    else:
        names = tuple(f'{word_of(topic.name)}_{index}' for index in range(facts.width))
        units = ('1',) * facts.width
        remarks.append('guess: names by position, units unknown; give them their own')
    source = ActionSource(
        topic.name,
        topic.msgtype,
        tuple(ActionEntry(name, unit, -1.0, 1.0) for name, unit in zip(names, units, strict=True)),
        field,
        stamp,
        'body' if topic.msgtype in TWIST_TYPES else None,
    )
    found_E2 = ranges_E2(bags, source, camera, period_ns, gap_ns)
    if source.integrate:
        moving = np.ptp(found_E2, axis=1) > STILL
        moving[[0, 5]] |= not moving.any()
        source = replace(
            source,
            entries=tuple(e for e, moves in zip(source.entries, moving, strict=True) if moves),
        )
        found_E2 = found_E2[moving]
    openings = _openings(source, found_E2)
    if openings:
        remarks.append('guess: hand entries are openings from 0 to 1')
    entries, found = _limited(source, found_E2, openings)
    return _Commands(replace(source, entries=entries), tuple(remarks), found)


def _stamp(
    topic: Topic, zero_stamps: int, late_ns: int | None, camera_late_ns: int
) -> tuple[str, list[str]]:
    """Return `header` or `receive`, with the reason."""
    if topic.msgtype in HEADERLESS_TYPES or zero_stamps or late_ns is None:
        why = 'the type has no header'
        if topic.msgtype not in HEADERLESS_TYPES:
            why = f'guess: {zero_stamps} of {topic.messages} messages have no header stamp'
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


def _openings(source: ActionSource, found_E2: np.ndarray) -> set[str]:
    """Return hand entries that look like openings: all within 0..1, one of them up to 1."""
    hands = [
        (entry.name, *found_2)
        for entry, found_2 in zip(source.entries, found_E2.tolist(), strict=True)
        if any(word in entry.name.lower() for word in HAND_WORDS)
    ]
    inside = all(low >= -1e-3 and high <= 1 + 1e-3 for _, low, high in hands)
    if source.field != 'position' or not hands or not inside or max(h[2] for h in hands) < 0.95:
        return set()
    return {name for name, _, _ in hands}


def _limited(
    source: ActionSource, found_E2: np.ndarray, openings: set[str]
) -> tuple[tuple[ActionEntry, ...], dict[str, str]]:
    entries, found = [], {}
    for entry, (low, high) in zip(source.entries, found_E2.tolist(), strict=True):
        if entry.name in openings:
            entry = ActionEntry(entry.name, OPENING, *OPENING_LIMITS)
        else:
            entry = ActionEntry(entry.name, entry.unit, *widened(low, high, entry.unit))
        entries.append(entry)
        still = ', never changes' if high - low < STILL else ''
        found[entry.name] = f'found {low:.4g} to {high:.4g}{still}'
    return tuple(entries), found


def _require_new_names(source: ActionSource, parts: Sequence[_Commands]) -> None:
    taken = {entry.name: part.source.topic for part in parts for entry in part.source.entries}
    for entry in source.entries:
        if entry.name in taken:
            raise ContractError(f'{source.topic}: {entry.name} comes from {taken[entry.name]} too')
