"""Which topics of a bag are the camera and the commands, judged by type, name and number.

In: what bags list of themselves. Out: chosen topics, and for each of the others why not, as text
for a person. Reads no message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wm_ros.bag import BagError, bag_info
from wm_ros.contract_fields import ContractError
from wm_ros.sources import (
    ACTION,
    ACTION_TYPES,
    CAMERA_TYPES,
    COMPRESSED_IMAGE,
    JOINT_TRAJECTORY,
    TWIST_TYPES,
)

COMMAND_WORDS = ('command', 'cmd', 'target', 'action', 'desired', 'goal', 'setpoint', 'reference')
STATE_WORDS = ('state', 'feedback', 'measured', 'actual', 'odom', 'current', 'observation')
COMMAND_TYPES = (ACTION, JOINT_TRAJECTORY, *TWIST_TYPES)
NO_PICTURES = ('depth', 'disparity', 'mask', 'infra', 'confidence')
AS_MANY = 0.9  # share of the raw camera's messages that make its compressed topic as good


@dataclass(frozen=True)
class Topic:
    """One topic over all bags. `messages_B`: its messages in each bag."""

    name: str
    msgtype: str
    messages_B: tuple[int, ...]

    @property
    def messages(self) -> int:
        """Messages in all bags."""
        return sum(self.messages_B)

    @property
    def everywhere(self) -> bool:
        """Whether every bag holds some."""
        return all(self.messages_B)

    @property
    def says(self) -> str:
        """What the name and type say: `command`, `state` or `` for neither."""
        if any(word in self.name.lower() for word in COMMAND_WORDS):
            return 'command'
        if any(word in self.name.lower() for word in STATE_WORDS):
            return 'state'
        return 'command' if self.msgtype in COMMAND_TYPES else ''


def topics_of(bags: Sequence[Path]) -> tuple[Topic, ...]:
    """List the topics of several bags, by name.

    Raises:
        BagError: a bag cannot be read, or a topic has another type in another bag.
    """
    types: dict[str, str] = {}
    counts: dict[str, list[int]] = {}
    for index, bag in enumerate(bags):
        for found in bag_info(bag).topics:
            before = types.setdefault(found.name, found.msgtype)
            if before != found.msgtype:
                raise BagError(
                    f'bag {bag}: topic {found.name} is {found.msgtype}, in {bags[0]} {before}'
                )
            counts.setdefault(found.name, [0] * len(bags))[index] = found.messages
    return tuple(Topic(name, types[name], tuple(counts[name])) for name in sorted(types))


def choose_camera(
    topics: Sequence[Topic], wanted: str | None = None
) -> tuple[Topic, tuple[str, ...]]:
    """Choose the camera topic with most messages; compressed over raw of the same camera.

    Args:
        topics: what the bags hold.
        wanted: the user's choice, or None.

    Returns:
        The topic, and a remark for every other camera topic.

    Raises:
        ContractError: no camera topic, or the wanted one is none; lists what there is.
    """
    cameras = [topic for topic in topics if topic.msgtype in CAMERA_TYPES]
    if wanted is not None:
        chosen = _wanted(topics, cameras, wanted, 'camera', CAMERA_TYPES)
        return chosen, tuple(f'not chosen: {_told(t)}' for t in cameras if t is not chosen)
    usable = [topic for topic in cameras if topic.everywhere]
    usable = [topic for topic in usable if not topic.name.endswith('/compressedDepth')]
    if not usable:
        raise ContractError(
            f'no camera topic ({" or ".join(CAMERA_TYPES)}) with messages in every bag; '
            f'found {listed(topics)}'
        )
    by_camera: dict[str, list[Topic]] = {}
    for topic in usable:
        by_camera.setdefault(topic.name.removesuffix('/compressed'), []).append(topic)
    best = max(sorted(by_camera), key=lambda name: _rank(name, by_camera[name]))
    most = max(topic.messages for topic in by_camera[best])
    same = [topic for topic in by_camera[best] if topic.messages >= AS_MANY * most]
    chosen = max(same, key=lambda topic: topic.msgtype == COMPRESSED_IMAGE)
    return chosen, tuple(f'not chosen: {_told(t)}' for t in cameras if t is not chosen)


def _rank(name: str, topics: Sequence[Topic]) -> tuple[bool, int]:
    pictures = not any(word in name.lower() for word in NO_PICTURES)
    return pictures, max(topic.messages for topic in topics)


def choose_actions(
    topics: Sequence[Topic], wanted: Sequence[str] = ()
) -> tuple[tuple[Topic, ...], tuple[str, ...]]:
    """Choose the command topics: those whose name or type says so, else what is there.

    Args:
        topics: what the bags hold.
        wanted: the user's choice; empty to choose here.

    Returns:
        The topics, and a remark for each that was not chosen, and for a poor choice.

    Raises:
        ContractError: no topic of a supported type, or a wanted one is none; lists what there is.
    """
    able = [topic for topic in topics if topic.msgtype in ACTION_TYPES]
    if wanted:
        chosen = [_wanted(topics, able, name, 'action', ACTION_TYPES) for name in wanted]
        return tuple(chosen), tuple(f'not chosen: {_told(t)}' for t in able if t not in chosen)
    usable = [topic for topic in able if topic.everywhere]
    if not usable:
        raise ContractError(
            f'no action topic ({", ".join(ACTION_TYPES)}) with messages in every bag; '
            f'found {listed(topics)}'
        )
    for says in ('command', '', 'state'):
        chosen = [topic for topic in usable if topic.says == says]
        if chosen:
            break
    remarks = [f'not chosen: {_told(topic)}{_why(topic)}' for topic in able if topic not in chosen]
    if says == 'state':
        remarks.append(
            'guess: no topic names commands, so measured states stand in for them; '
            'what is measured lags behind what is commanded'
        )
    return tuple(chosen), tuple(remarks)


def _why(topic: Topic) -> str:
    if not topic.everywhere:
        return '; missing in some of the bags'
    if topic.says == 'state':
        return '; its name says measured state, not command'
    return '; its name does not say command'


def _wanted(
    topics: Sequence[Topic],
    able: Sequence[Topic],
    name: str,
    role: str,
    types: Sequence[str],
) -> Topic:
    for topic in able:
        if topic.name == name:
            if not topic.everywhere:
                raise ContractError(f'{role} topic {name} has no message in some of the bags')
            return topic
    raise ContractError(
        f'{name} is no {role} topic of these bags (types: {", ".join(types)}); '
        f'found {listed(topics)}'
    )


def _told(topic: Topic) -> str:
    return f'{topic.name} ({topic.msgtype}, {topic.messages} messages)'


def listed(topics: Sequence[Topic]) -> str:
    """Return the topics as one line of text."""
    return ', '.join(_told(topic) for topic in topics) or 'no topic at all'


def word_of(topic: str) -> str:
    """Return a topic's name as one word: `/gripper/command` -> `gripper_command`."""
    return re.sub(r'\W+', '_', topic).strip('_') or 'topic'
