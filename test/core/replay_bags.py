"""Small bags for the tests of replay: a square that moves over a striped table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from wm_ros.bag import BagRecorder, ros_types
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.sources import ACTION, IMAGE

CAMERA, COMMAND, RESET = '/camera/image_raw', '/command', '/restart'
EMPTY = 'std_msgs/msg/Empty'
START_NS, PERIOD_NS = 10**15, 40_000_000


def contract() -> StreamContract:
    """The table-top's, with a reset topic."""
    values = StreamContract.load(find_contract('tabletop')).to_dict()
    values['reset'] |= {'topic': RESET}
    return StreamContract.from_dict(values)


def square(number: int) -> np.ndarray:
    """Frame of a step: no two of 40 are equal."""
    image_HWC = np.full((64, 64, 3), 60, np.uint8)
    image_HWC[::8] = 90
    left, top = 3 * number % 48, 5 * number % 40
    image_HWC[top : top + 16, left : left + 16] = (240, 40 + number % 200, 60)
    return image_HWC


def command(number: int) -> np.ndarray:
    """Command of a step."""
    return 0.1 * np.sin(number / 5 + np.arange(11))


def write_bag(
    path: Path,
    frames: int,
    *,
    missing: tuple[int, ...] = (),
    resets: tuple[int, ...] = (),
    broken: int | None = None,
    picture: Callable[[int], np.ndarray] = square,
) -> Path:
    """Record a bag.

    Args:
        path: folder to make.
        frames: steps.
        missing: steps without a frame.
        resets: steps before which a reset is asked for.
        broken: step whose camera message is cut short.
        picture: of a step.
    """
    with BagRecorder(path) as recorder:
        recorder.add_topic(CAMERA, IMAGE)
        for number in range(frames):
            stamp_ns = START_NS + number * PERIOD_NS
            if number in resets:
                store = ros_types()
                empty = store.types[EMPTY](structure_needs_at_least_one_member=0)
                recorder.write(RESET, EMPTY, bytes(store.serialize_cdr(empty, EMPTY)), stamp_ns)
            recorder.write(COMMAND, ACTION, action_bytes(command(number), stamp_ns), stamp_ns)
            data = image_bytes(picture(number), stamp_ns)
            if number == broken:
                data = data[:30]
            if number not in missing:
                recorder.write(CAMERA, IMAGE, data, stamp_ns)
    return path
