"""One path: a bag through the node's callbacks and its session gives what the library makes of it.

(a) `WorldModelNode` in this process: each message goes to the callback that its subscription would
call, the session is advanced at once. (b) `iter_steps` and `WorldModel` with the same noise. Steps
are equal and predictions are equal to the bit, through everything that a stream can hold.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Empty

from wm_ros.backends.resolve import resolve_backend
from wm_ros.bag import BagRecorder, iter_steps
from wm_ros.bag.read import open_bag
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import ImageArray, Step
from wm_ros.model_package import ModelPackage
from wm_ros.nodes import world_model_node
from wm_ros.nodes.convert import message_class
from wm_ros.nodes.world_model_node import WorldModelNode
from wm_ros.sources import ACTION, IMAGE
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

pytestmark = pytest.mark.ros

SEED, HORIZON, PERIOD_NS, START_NS = 3, 2, 40_000_000, 10**15
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


class Idle:
    """Stands where the inference thread is: the test advances the session itself."""

    def __init__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.fixture
def node(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorldModelNode]:
    given = {'package': package.path, 'backend': 'toy', 'seed': SEED, 'horizon': HORIZON}
    words = [word for name, value in given.items() for word in ('-p', f'{name}:={value}')]
    monkeypatch.setattr(world_model_node, 'Worker', Idle)
    rclpy.init(args=['--ros-args', *words], signal_handler_options=SignalHandlerOptions.NO)
    made = WorldModelNode()
    made.trigger_configure()
    made.trigger_activate()
    yield made
    made.destroy_node()
    rclpy.shutdown()


def through_the_node(
    node: WorldModelNode, bag: Path
) -> tuple[list[Step], list[ImageArray], Counter[str]]:
    """Return the steps that its model observed, its predictions, and its session's counts."""
    steps: list[Step] = []
    pictures: list[ImageArray] = []
    model, session = node.loaded.model, node.session
    observe = model.observe

    def observing(memory: Any, step: Step, fill_noise: Any) -> Any:
        steps.append(step)
        return observe(memory, step, fill_noise)

    def advance(monotonic_ns: int) -> None:
        session.put(node.inbox.take(0.0))
        for outcome in session.advance(monotonic_ns):
            pictures.append(np.stack([p.image_HWC for p in outcome.predictions]))

    model.observe = observing
    callbacks = {item.topic_name: item.callback for item in node.subscriptions}
    with open_bag(bag) as reader:
        for connection, _, data in reader.messages():
            message = deserialize_message(bytes(data), message_class(connection.msgtype))
            callbacks[connection.topic](message)
            advance(time.monotonic_ns())
    advance(time.monotonic_ns() + 10**9)  # no frame waits any longer
    return steps, pictures, session.synchronizer.counts


def through_the_library(
    package: ModelPackage, bag: Path
) -> tuple[list[Step], list[ImageArray], Counter[str]]:
    """The same from a reader's loop."""
    model = WorldModel(package, resolve_backend('toy', package))
    memory, rng = model.reset(), np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    steps, pictures = list(iter_steps(bag, CONTRACT, counts=counts)), []
    for step in steps:
        if step.reset is not None:
            memory, rng = model.reset(), np.random.default_rng(SEED)
        fill_noise = model.noise(rng)[:, 0] if step.frame is None else None
        memory = model.observe(memory, step, fill_noise)
        if step.frame is not None:
            held_BTA = np.tile(step.action_A, (1, HORIZON, 1))
            rollout = model.imagine(memory, held_BTA, model.noise(rng, 1, HORIZON))
            pictures.append(rollout.frames_BTHWC[0])
    return steps, pictures, counts


def test_live_and_library_agree_to_the_bit(
    node: WorldModelNode, package: ModelPackage, bag: Path
) -> None:
    live_steps, live_pictures, live_counts = through_the_node(node, bag)
    steps, pictures, counts = through_the_library(package, bag)
    assert {name: counts[name] for name in EVENTS} == EVENTS, 'the bag holds what it is for'
    assert live_counts == counts
    assert len(steps) == 59 and len(pictures) == 55
    for live, step in zip(live_steps, steps, strict=True):
        assert (live.stamp_ns, live.index, live.reset) == (step.stamp_ns, step.index, step.reset)
        np.testing.assert_array_equal(live.action_A, step.action_A)
        np.testing.assert_array_equal(live.action_prev_A, step.action_prev_A)
        assert (live.frame is None) == (step.frame is None)
        if live.frame is not None:
            np.testing.assert_array_equal(live.frame.image_HWC, step.frame.image_HWC)
    np.testing.assert_array_equal(live_pictures, pictures)
