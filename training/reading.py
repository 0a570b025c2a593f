"""One bag as training clips, and what of it is lost on the way, in words.

In: a bag and a contract, through `iter_steps`. Out: a `Reading` for each bag, lines for people.
Refuses bags whose commands the contract mostly cuts off: nothing can be learnt from those.

Axes: T frames, A action.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.world import Clip
from wm_ros.bag import BagError, bag_info, iter_steps
from wm_ros.bag.episodes import bag_name
from wm_ros.contract import StreamContract
from wm_ros.datatypes import Step

SHORTEST_CLIP = 32
MOSTLY = 0.5  # share of the values beyond their limits above which a contract is of another robot
CLIPPED = 'action.clipped'


@dataclass(frozen=True)
class Reading:
    """What one bag gave.

    Attributes:
        name: of the bag.
        clips: its unbroken stretches, no reset and no missing frame inside, of `SHORTEST_CLIP`
            frames or more.
        short: frames in shorter stretches, left out.
        frames: messages of the (first) camera.
        steps: what an action was read for: frames, and gaps between them.
        counts: of the synchroniser.
        saturated_A: int64, steps in which an entry was at a limit or beyond.
    """

    name: str
    clips: tuple[Clip, ...]
    short: int
    frames: int
    steps: int
    counts: Counter[str]
    saturated_A: npt.NDArray[np.int64]

    @property
    def kept(self) -> int:
        """Frames in clips."""
        return sum(len(clip.images_THWC) for clip in self.clips)

    @property
    def values(self) -> int:
        """Values of actions that were read."""
        return self.steps * len(self.saturated_A)

    @property
    def whole(self) -> bool:
        """Whether nothing was left out or cut off."""
        return self.kept == self.frames and not self.counts[CLIPPED]


def read_bag(bag: Path, contract: StreamContract) -> Reading:
    """Read the unbroken stretches of a bag.

    Raises:
        BagError: as `iter_steps`.
    """
    counts: Counter[str] = Counter()
    stretches: list[list[Step]] = [[]]
    steps, saturated_A = 0, np.zeros(contract.action_width, np.int64)
    for step in iter_steps(bag, contract, counts=counts):
        steps += 1
        saturated_A += np.abs(step.action_A) >= 1
        if step.frame is None or step.reset is not None:
            stretches.append([])
        if step.frame is not None:
            stretches[-1].append(step)
    long = [stretch for stretch in stretches if len(stretch) >= SHORTEST_CLIP]
    topics = {topic.name: topic.messages for topic in bag_info(bag).topics}
    return Reading(
        bag_name(bag),
        tuple(map(_clip, long)),
        sum(map(len, stretches)) - sum(map(len, long)),
        topics[contract.camera.topic],
        steps,
        counts,
        saturated_A,
    )


def _clip(stretch: Sequence[Step]) -> Clip:
    images = [step.frame.image_HWC for step in stretch if step.frame is not None]
    actions = [step.action_A for step in stretch]
    return Clip(np.stack(images), np.stack(actions), np.zeros((len(stretch), 0), bool))


def told(readings: Sequence[Reading]) -> list[str]:
    """Return a line for every bag with losses, and one for all others."""
    lines = [_line(reading) for reading in readings if not reading.whole]
    if others := [reading for reading in readings if reading.whole]:
        number = f'{len(others)} {"other " if lines else ""}bag{"s" if len(others) > 1 else ""}'
        parts = [f'{number}: all of {sum(one.kept for one in others)} frames kept']
        counts = sum((one.counts for one in others), Counter[str]())
        lines.append('; '.join(parts + _counted(counts)))
    return lines


def _line(reading: Reading) -> str:
    parts = [f'{reading.name}: {reading.kept} of {reading.frames} frames kept']
    if reading.short:
        parts.append(f'{reading.short} in stretches of less than {SHORTEST_CLIP}')
    return '; '.join(parts + _counted(reading.counts))


def _counted(counts: Counter[str]) -> list[str]:
    """Return what was counted as one part of a line; every bag starts once."""
    found = [f'{name} {n}' for name, n in sorted(counts.items()) if n and name != 'reset.start']
    return [', '.join(found)] if found else []


def cut_off(readings: Sequence[Reading], contract: StreamContract) -> list[str]:
    """Return a warning for every bag most of whose actions are beyond the contract's limits.

    Raises:
        BagError: it is so for all bags together: the contract does not describe this robot.
    """
    clipped = [reading for reading in readings if _mostly_clipped([reading])]
    if _mostly_clipped(readings):
        raise BagError(
            f'{_clipped(readings, contract)}; are they in other units, such as degrees? '
            '`wm contract init` finds limits'
        )
    return [f'warning: {one.name}: {_clipped([one], contract)}' for one in clipped]


def _mostly_clipped(readings: Sequence[Reading]) -> bool:
    clipped = sum(one.counts[CLIPPED] for one in readings)
    return clipped > MOSTLY * sum(one.values for one in readings)


def _clipped(readings: Sequence[Reading], contract: StreamContract) -> str:
    steps = sum(one.steps for one in readings)
    share_A = np.sum([one.saturated_A for one in readings], axis=0) / steps
    pairs = zip(contract.entries, share_A.tolist(), strict=True)
    entries = ', '.join(
        f'{entry.name} ({entry.low:g} to {entry.high:g} {entry.unit})'
        for entry, share in pairs
        if share > MOSTLY
    )
    clipped, values = sum(o.counts[CLIPPED] for o in readings), sum(o.values for o in readings)
    return (
        f'{clipped} of {values} values of actions lie outside the limits of contract '
        f'{contract.name}, most of the time those of {entries}'
    )
