"""One path: a bag through the node's callbacks and its session gives what the library makes of it.

(a) `WorldModelNode` in this process: each message goes to the callback that its subscription would
call, the session is advanced at once. (b) `iter_steps` and `WorldModel` with the same noise. Steps
are equal and predictions are equal to the bit, through everything that a stream can hold.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_both_ways import (  # noqa: F401  node is a fixture
    assert_same_steps,
    node,
    through_the_library,
    through_the_node,
)
from rclpy.serialization import serialize_message
from std_msgs.msg import Empty

from wm_ros.bag import BagRecorder
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.model_package import ModelPackage
from wm_ros.nodes.world_model_node import WorldModelNode
from wm_ros.sources import ACTION, IMAGE
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

PERIOD_NS, START_NS = 40_000_000, 10**15
CAMERA, COMMAND, RESET = '/camera/image_raw', '/command', '/restart'
EMPTY = 'std_msgs/msg/Empty'
CONTRACT = StreamContract.load(find_contract('tabletop')).to_dict()
CONTRACT['reset'] |= {'topic': RESET}
CONTRACT = StreamContract.from_dict(CONTRACT)
EVENTS = {
    'frame.missing': 4,  # two never came, two were refused
    'frame.encoding': 1,
    'frame.zero_stamp': 1,
    'frame.duplicate_stamp': 1,
    'frame.no_action': 1,
    'action.not_finite': 1,
    'action.width': 1,
    'reset.start': 1,
    'reset.topic': 1,
    'reset.gap': 1,
    'reset.clock_jump': 1,
}


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Frames and commands, and what goes wrong with them: `EVENTS`."""
    rng = np.random.default_rng(0)
    with BagRecorder(tmp_path / 'bag') as recorder:
        for i in range(60):
            log_ns = START_NS + i * PERIOD_NS + (3_000_000_000 if i >= 40 else 0)  # a gap
            stamp_ns = log_ns - (60_000_000_000 if i >= 50 else 0)  # a clock that jumps
            values_A = rng.uniform(-0.2, 0.2, 11)
            values_A[2] = np.nan if i == 7 else values_A[2]
            values_A = values_A[:3] if i == 8 else values_A
            if i not in (0, 4, 5):
                recorder.write(COMMAND, ACTION, action_bytes(values_A, stamp_ns), log_ns)
            if i == 20:
                recorder.write(RESET, EMPTY, serialize_message(Empty()), log_ns)
            side = 96 if i % 2 else 64
            image_HWC = rng.integers(0, 255, (side, side + 16, 3), np.uint8)
            data = image_bytes(image_HWC, 0 if i == 12 else stamp_ns, 'cam')
            if i == 17:
                data = data.replace(b'rgb8', b'xyz8')
            if i not in (26, 27):
                recorder.write(CAMERA, IMAGE, data, log_ns)
            if i == 30:
                recorder.write(CAMERA, IMAGE, data, log_ns)
    return tmp_path / 'bag'


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return write_toy_package(tmp_path / 'toy', CONTRACT)


def test_live_and_library_agree_to_the_bit(
    node: WorldModelNode,  # noqa: F811
    package: ModelPackage,
    bag: Path,
) -> None:
    live_steps, live_pictures, live_counts = through_the_node(node, bag)
    steps, pictures, counts = through_the_library(package, bag, CONTRACT)
    assert {name: counts[name] for name in EVENTS} == EVENTS, 'the bag holds what it is for'
    assert live_counts == counts
    assert len(steps) == 59 and len(pictures) == 55
    assert_same_steps(live_steps, steps)
    np.testing.assert_array_equal(live_pictures, pictures)
