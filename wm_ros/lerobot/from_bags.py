"""Bags under a contract into a LeRobot dataset v3.0.

Read with `iter_steps`, as everything else is, but with commands kept in their own units: they come
back bit for bit. Pictures are what the model sees, after the contract's crop and resize.

A LeRobot episode has a frame for every period: where one is missing the last picture is repeated
(and counted), and a reset within a bag begins a new episode.

Axes: A action, D state.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.bag import BagError, bag_info, iter_steps
from wm_ros.bag.read import iter_messages
from wm_ros.bag.stream import STRING
from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray
from wm_ros.lerobot.to_bags import STATE_TOPIC, TASK_TOPIC
from wm_ros.lerobot.write import DatasetWriter
from wm_ros.messages import stamp_to_ns
from wm_ros.sources import JOINT_STATE
from wm_ros.tiles import untile

CAMERA_WORDS = ('image_raw', 'image', 'image_rect', 'image_rect_color', 'compressed')


class _OwnUnits(StreamContract):
    """The same contract, whose actions stay as they were commanded."""

    def normalise(self, values_A: npt.ArrayLike) -> FloatArray:
        """Return float32 [..., A] in the entries' own units."""
        return self._checked(values_A).astype(np.float32)


@dataclass(frozen=True)
class Exported:
    """What was written; `held_frames` repeat the picture before them."""

    episodes: int
    frames: int
    held_frames: int


@dataclass(frozen=True)
class _Track:
    """What a topic said over time: `at` gives the newest value at an instant, or the first."""

    stamps_ns: list[int]
    values: list[Any]

    def at(self, stamp_ns: int) -> Any:
        place = bisect.bisect_right(self.stamps_ns, stamp_ns) - 1
        return self.values[max(place, 0)]


def export_bags(
    bags: Sequence[Path],
    contract: StreamContract,
    out: Path,
    *,
    state_topic: str | None = None,
    task: str = '',
    on_bag: Callable[[Path, int], None] = lambda bag, frames: None,
) -> Exported:
    """Write one dataset from bags of one robot.

    Args:
        bags: in the order of the episodes.
        contract: how to read them.
        out: folder of the dataset; must not exist.
        state_topic: a JointState whose positions are the state; None takes `/state` where the
            first bag has it.
        task: of bags without a `/task` topic.
        on_bag: told of every finished bag and its frames.

    Raises:
        BagError: a bag cannot be read, or has no such state.
        LeRobotError: the folder exists.
    """
    own_units = _OwnUnits.from_dict(contract.to_dict())
    if state_topic is None and STATE_TOPIC in _topics(bags[0], JOINT_STATE):
        state_topic = STATE_TOPIC
    names = _joint_names(bags[0], state_topic) if state_topic else ()
    cameras = camera_keys(contract)
    held = 0
    with DatasetWriter(
        out,
        fps=contract.rate_hz,
        cameras=dict.fromkeys(cameras, contract.tile_size),
        action_names=[entry.name for entry in contract.entries],
        state_names=names,
        robot=contract.name,
    ) as writer:
        for bag in bags:
            before = writer.frames
            state = _states(bag, state_topic, names) if state_topic else None
            tasks = _tasks(bag, task)
            image_HWC = None
            for step in iter_steps(bag, own_units):
                if step.reset is not None:
                    writer.end_episode()
                if step.frame is not None:
                    image_HWC = step.frame.image_HWC
                else:
                    held += 1
                if image_HWC is None:
                    raise BagError(f'bag {bag}: no picture yet at {step.stamp_ns} ns')
                state_D = None if state is None else state.at(step.stamp_ns)
                views = dict(zip(cameras, untile(image_HWC, len(cameras)), strict=True))
                writer.add_frame(views, step.action_A, state_D, tasks.at(step.stamp_ns))
            writer.end_episode()
            on_bag(bag, writer.frames - before)
        return Exported(writer.episodes, writer.frames, held)


def camera_keys(contract: StreamContract) -> tuple[str, ...]:
    """Return the feature key of every camera; one alone: the last telling word of its topic."""
    if len(contract.cameras) > 1:
        return tuple(f'observation.images.{name}' for name in contract.camera_names)
    words = [word for word in contract.camera.topic.split('/') if word not in ('', *CAMERA_WORDS)]
    return (f'observation.images.{words[-1] if words else "camera"}',)


def _topics(bag: Path, msgtype: str) -> set[str]:
    return {
        topic.name for topic in bag_info(bag).topics if topic.msgtype == msgtype and topic.messages
    }


def _joint_names(bag: Path, topic: str) -> tuple[str, ...]:
    for _, message, _ in iter_messages(bag, {topic: JOINT_STATE}):
        if len(message.name) and len(message.name) == len(message.position):
            return tuple(message.name)
        break
    raise BagError(f'bag {bag}: message 1 of {topic} has no position for each of its names')


def _states(bag: Path, topic: str, names: Sequence[str]) -> _Track:
    stamps_ns: list[int] = []
    values: list[FloatArray] = []
    for _, message, log_ns in iter_messages(bag, {topic: JOINT_STATE}):
        by_name = dict(zip(message.name, message.position, strict=False))
        if missing := [name for name in names if name not in by_name]:
            raise BagError(
                f'bag {bag}: message {len(values) + 1} of {topic} has no position for '
                f'{", ".join(missing)}'
            )
        stamps_ns.append(stamp_to_ns(message.header.stamp) or log_ns)
        values.append(np.array([by_name[name] for name in names], np.float32))
    order = sorted(range(len(stamps_ns)), key=lambda index: stamps_ns[index])
    return _Track([stamps_ns[i] for i in order], [values[i] for i in order])


def _tasks(bag: Path, task: str) -> _Track:
    if TASK_TOPIC not in _topics(bag, STRING):
        return _Track([0], [task])
    found = [
        (log_ns, str(message.data))
        for _, message, log_ns in iter_messages(bag, {TASK_TOPIC: STRING})
    ]
    return _Track([log_ns for log_ns, _ in found], [text for _, text in found])
