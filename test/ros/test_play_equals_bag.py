"""`wm play`'s way, bag to steps over real ROS 2, gives what `iter_steps` makes of the same bag.

The player and `WorldModelNode` in this process, joined by the middleware: re-stamped to now, with
/clock published and followed. The session is advanced once all that was sent has been received, so
a busy machine only makes the test slower. Stamps are later by one constant; all else is equal to
the bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from bag_both_ways import HORIZON, SEED, Idle, assert_same_steps, through_the_library
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from test_live_equals_bag import (  # noqa: F401  the last two are fixtures
    CAMERA,
    CONTRACT,
    EVENTS,
    bag,
    package,
)

from wm_ros.datatypes import ImageArray, Step
from wm_ros.model_package import ModelPackage
from wm_ros.nodes import inputs, world_model_node
from wm_ros.nodes.player_node import PlayerNode
from wm_ros.nodes.world_model_node import WorldModelNode

pytestmark = pytest.mark.ros

RATE, LONG_S = 4.0, 30.0


class Pair:
    """Player and world model on one executor, and what passed between them."""

    def __init__(self) -> None:
        self.node, self.player = WorldModelNode(), PlayerNode()
        self.node.trigger_configure()
        self.node.trigger_activate()
        self.executor = SingleThreadedExecutor()
        for each in (self.node, self.player):
            self.executor.add_node(each)
        self.sent = self.received = 0
        self.behind_s = 0.0  # stamp of a frame after the clock that it was received by, at most
        self.steps: list[Step] = []
        self.pictures: list[ImageArray] = []

    def publish(self, original: Any) -> None:
        self.sent += 1
        original()

    def observe(self, original: Any, memory: Any, step: Step, fill_noise: Any) -> Any:
        self.steps.append(step)
        return original(memory, step, fill_noise)

    def run(self) -> None:
        """Play the bag; advance the session whenever everything sent has come."""
        model = self.node.loaded.model
        model.observe = partial(self.observe, model.observe)
        self.player.publish = partial(self.publish, self.player.publish)
        while (wait_s := self.player.step()) is not None:
            end_s = time.monotonic() + LONG_S
            self.executor.spin_once(timeout_sec=wait_s)
            while self.received < self.sent:
                assert time.monotonic() < end_s, f'{self.received} of {self.sent} received'
                self.executor.spin_once(timeout_sec=0.01)
            self.advance(time.monotonic_ns())
        self.advance(time.monotonic_ns() + 10**9)  # no frame waits any longer

    def advance(self, monotonic_ns: int) -> None:
        session = self.node.session
        session.put(self.node.inbox.take(0.0))
        for outcome in session.advance(monotonic_ns):
            self.pictures.append(np.stack([p.image_HWC for p in outcome.predictions]))


@pytest.fixture
def pair(
    package: ModelPackage,  # noqa: F811
    bag: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pair]:
    given = {
        'world_model': {
            'package': package.path,
            'backend': 'toy',
            'seed': SEED,
            'horizon': HORIZON,
            'use_sim_time': True,
        },
        'player': {'bag': bag, 'camera': CAMERA, 'rate': RATE, 'clock_hz': 200.0, 'settle_s': 0.5},
    }
    words = [
        word
        for node, values in given.items()
        for name, value in values.items()
        for word in ('-p', f'{node}:{name}:={str(value).lower() if value is True else value}')
    ]
    monkeypatch.setattr(world_model_node, 'Worker', Idle)
    receive = inputs.Inputs.receive
    monkeypatch.setattr(inputs.Inputs, 'receive', lambda *args: counted(receive, *args))
    rclpy.init(args=['--ros-args', *words], signal_handler_options=SignalHandlerOptions.NO)
    made = Pair()

    def counted(original: Any, self: inputs.Inputs, topic: str, message: Any) -> None:
        made.received += 1
        if topic == CAMERA and message.header.stamp.sec:
            now_ns = made.node.get_clock().now().nanoseconds
            stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            made.behind_s = max(made.behind_s, (stamp_ns - now_ns) / 1e9)
        original(self, topic, message)

    yield made
    made.executor.shutdown()
    made.node.destroy_node()
    made.player.destroy_node()
    rclpy.shutdown()


def test_played_and_read_agree_to_the_bit(
    pair: Pair,
    package: ModelPackage,  # noqa: F811
    bag: Path,  # noqa: F811
) -> None:
    pair.run()
    counts = pair.node.session.synchronizer.counts
    steps, pictures, wanted = through_the_library(package, bag, CONTRACT)
    assert {name: wanted[name] for name in EVENTS} == EVENTS, 'the bag holds what it is for'
    assert counts == wanted
    shift_ns = pair.player.timeline.start_ns - pair.player.timeline.first_ns
    assert abs(time.time_ns() - pair.player.timeline.start_ns) < 3600 * 10**9, 'shifted to now'
    assert_same_steps(pair.steps, steps, shift_ns)
    np.testing.assert_array_equal(pair.pictures, pictures)
    assert pair.behind_s < CONTRACT.reset.gap_s, 'the clock was there and not far behind'
