"""How many steps a bag is likely to have, before it is read: for spreading anchors and curves.

In: a bag and a contract. Out: a number. Reads the two ends of the camera's topic only.
"""

from __future__ import annotations

from pathlib import Path

from wm_ros.bag.extent import topic_extent
from wm_ros.contract import StreamContract

MOST_STEPS = 2  # for one message of the camera


def expected_steps(bag: Path, contract: StreamContract, limit: int | None = None) -> int:
    """Return how many steps to expect: as many as the contract's rate gives in the time over which
    the camera was recorded, since missing frames are steps too, and of a faster camera those in
    between are refused.

    No more than two for each message: a bag with fewer has pauses, which no steps fill.

    Args:
        bag: folder or file.
        contract: how to read it.
        limit: at most so many; None for no limit.

    Raises:
        BagError: the bag cannot be opened.
    """
    found = topic_extent(bag, contract.camera.topic)
    if found is None:
        return 0
    steps = min(round(found.seconds * contract.rate_hz) + 1, MOST_STEPS * found.messages)
    return steps if limit is None else min(steps, limit)
