"""Which pictures may be goals: how well the tokenizer redraws the robot's own frames.

In: held-out bags. Out: the bar of the package (`Planning.goal_db`), set below nearly all frames of
the bags 0, 2, 4, ..., and on the others the share that it refuses: of frames as they are, and of
frames of a world that is upside down, mirrored, negative or of other colours.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from wm_ros.bag import iter_steps
from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray
from wm_ros.evaluation.calibration_scores import FIT, part_of
from wm_ros.planning.redrawing import redraw_db
from wm_ros.world_model import WorldModel

# A goal may be drawn a little worse than what was seen: a hand where the bags had none.
MARGIN_DB = 2.0
LOW_SHARE = 0.01  # of the frames that may be below the level from which the margin is taken
HIGHEST_DB = 50.0  # rounding to 8 bits alone is 59
WORLDS: dict[str, Callable[[ImageArray], ImageArray]] = {
    'as they are': lambda image_HWC: image_HWC,
    'upside down': lambda image_HWC: image_HWC[::-1],
    'mirrored': lambda image_HWC: image_HWC[:, ::-1],
    'negative': lambda image_HWC: 255 - image_HWC,
    'red and blue swapped': lambda image_HWC: image_HWC[..., ::-1],
}


@dataclass(frozen=True)
class GoalBar:
    """What was found.

    Attributes:
        goal_db: PSNR at which a goal picture must be redrawn, dB.
        lowest_db: of the frames that were judged, as they are.
        frames: that were judged.
        refused: world -> share of them that the bar refuses.
    """

    goal_db: float
    lowest_db: float
    frames: int
    refused: dict[str, float]

    def __str__(self) -> str:
        refused = ', '.join(f'{name} {100 * share:.1f}%' for name, share in self.refused.items())
        return (
            f'a goal picture must be redrawn at {self.goal_db:g} dB or more (the lowest of '
            f'{self.frames} frames: {self.lowest_db:.1f}); refused: {refused}'
        )


def goal_bar(
    model: WorldModel, contract: StreamContract, bags: Sequence[Path], every: int
) -> GoalBar:
    """Set the bar on the bags 0, 2, 4, ... and judge it on the others.

    Args:
        model: the world model.
        contract: how to read the bags.
        bags: two or more, with frames (`calibration.calibrate` refuses others).
        every: frames from one that is looked at to the next.

    Raises:
        BagError: a bag cannot be read.
    """
    own: list[float] = []
    judged: dict[str, list[float]] = {name: [] for name in WORLDS}
    for number, bag in enumerate(bags):
        for image_HWC in islice(_frames(bag, contract), 0, None, every):
            if part_of(number) == FIT:
                own.append(redraw_db(model, image_HWC))
                continue
            for name, other in WORLDS.items():
                judged[name].append(redraw_db(model, np.ascontiguousarray(other(image_HWC))))
    goal_db = round(min(float(np.quantile(own, LOW_SHARE)) - MARGIN_DB, HIGHEST_DB), 1)
    return GoalBar(
        goal_db,
        min(judged['as they are']),
        len(judged['as they are']),
        {name: float(np.mean(np.array(found) < goal_db)) for name, found in judged.items()},
    )


def _frames(bag: Path, contract: StreamContract) -> Iterator[ImageArray]:
    for step in iter_steps(bag, contract):
        if step.frame is not None:
            yield step.frame.image_HWC
