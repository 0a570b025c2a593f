"""A bag through the node's callbacks, and through the library: what both ways give, compared.

In: a bag and a package. Out: steps, predictions and counts. What bags hold is the tests' own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions

from wm_ros.backends.resolve import resolve_backend
from wm_ros.bag import iter_steps
from wm_ros.bag.read import open_bag
from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray, Step
from wm_ros.model_package import ModelPackage
from wm_ros.nodes import world_model_node
from wm_ros.nodes.convert import message_class
from wm_ros.nodes.world_model_node import WorldModelNode
from wm_ros.world_model import WorldModel

SEED, HORIZON = 3, 2


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
    """A node of the test's `package`, active, whose session the test advances."""
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
    package: ModelPackage, bag: Path, contract: StreamContract
) -> tuple[list[Step], list[ImageArray], Counter[str]]:
    """The same from a reader's loop."""
    model = WorldModel(package, resolve_backend('toy', package))
    memory, rng = model.reset(), np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    steps, pictures = list(iter_steps(bag, contract, counts=counts)), []
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


def assert_same_steps(live: Sequence[Step], steps: Sequence[Step], shift_ns: int = 0) -> None:
    """Live steps are those of the bag to the bit, with stamps later by one constant."""
    for one, step in zip(live, steps, strict=True):
        assert one.stamp_ns - shift_ns == step.stamp_ns
        assert (one.index, one.reset) == (step.index, step.reset)
        np.testing.assert_array_equal(one.action_A, step.action_A)
        np.testing.assert_array_equal(one.action_prev_A, step.action_prev_A)
        assert (one.frame is None) == (step.frame is None)
        if one.frame is not None and step.frame is not None:
            np.testing.assert_array_equal(one.frame.image_HWC, step.frame.image_HWC)
