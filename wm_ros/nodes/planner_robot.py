"""The robot as the reference planner knows it: the command in force, the frames that the world
model has seen, and a way to command.

A command acts from the first frame that is stamped at or after it. It is stamped half a period
after the newest frame seen, in the middle between two frames: as far as can be from both, so a
camera that is early or late by less than that does not move it to another frame.

Axes: T time, A action.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from rclpy.qos import QoSProfile
from wm_ros_msgs.msg import Action, ModelInfo, Prediction

from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.nodes.inputs import LATCHED
from wm_ros.nodes.planner_goals import CODES, PursuitError

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node

    from wm_ros.config import PlannerConfig
    from wm_ros.datatypes import FloatArray

JUMP_NS = 1_000_000_000  # a command so far behind another one is of a clock that began anew
LOOK_S = 0.05  # between two looks at whether the goal is still wanted
FIRST_S = 3.0  # for a node that has just started to hear what is there


class CommandInForce:
    """The newest command by its stamp, as the world model counts it; safe in any thread.

    What is heard can be late: an echo of an own command after the next one was given, or somebody
    else's from before it. By the order of arrival it would put an old command into force again.

    Attributes:
        values_A: float32, None before the first.
    """

    def __init__(self) -> None:
        self.values_A: FloatArray | None = None
        self._stamp_ns = 0
        self._lock = threading.Lock()

    def put(self, values_A: FloatArray, stamp_ns: int) -> None:
        """Take a command; of equal stamps the later one counts."""
        with self._lock:
            if self._stamp_ns - JUMP_NS <= stamp_ns < self._stamp_ns:
                return
            self.values_A, self._stamp_ns = values_A, stamp_ns


class PlannerRobot:
    """See the module text.

    Args:
        node: the planner's.
        config: names world model and command topic, and says how long to wait.
        group: of the subscriptions: they are heard while a goal is pursued.

    Attributes:
        seen_ns: stamp of the newest frame that the world model has seen.
    """

    def __init__(self, node: Node, config: PlannerConfig, group: CallbackGroup) -> None:
        self.config = config
        self.seen_ns = 0
        self._info: ModelInfo | None = None
        self._in_force = CommandInForce()
        self._news = threading.Condition()
        name, deep = config.world_model, QoSProfile(depth=10)
        for kind, topic, hear, qos in (
            (ModelInfo, f'{name}/model_info', self.receive_info, LATCHED),
            (Prediction, f'{name}/prediction', self.receive_prediction, deep),
            (Action, config.command_topic, self.receive_command, deep),
        ):
            node.create_subscription(kind, topic, hear, qos, callback_group=group)
        self._commands = node.create_publisher(Action, config.command_topic, deep)

    # --- what it hears ---

    def receive_info(self, message: ModelInfo) -> None:
        """Keep the names and limits of commands, and the rate."""
        self._info = message

    def receive_command(self, message: Action) -> None:
        """Take a command, whoever gave it."""
        values_A = np.asarray(message.values, np.float32)
        if self._info is not None and values_A.size != len(self._info.action_names):
            return  # the world model refuses and counts it
        self._in_force.put(values_A, stamp_to_ns(message.header.stamp))

    def receive_prediction(self, message: Prediction) -> None:
        """Note which frame the world model has seen."""
        if message.horizon == 1:
            with self._news:
                self.seen_ns = stamp_to_ns(message.source_stamp)
                self._news.notify_all()

    # --- what is asked of it ---

    def listen(self, require_wanted: Callable[[], None]) -> None:
        """Wait a little until model and command are known; raises as `follow`."""
        self._until(
            lambda: self._info is not None and self._in_force.values_A is not None,
            FIRST_S,
            require_wanted,
        )

    def model(self) -> ModelInfo:
        """Return what the world model says of itself.

        Raises:
            PursuitError: it has not said anything yet.
        """
        if self._info is None:
            name = self.config.world_model
            raise PursuitError(CODES.NO_WORLD_MODEL, f'no {name}/model_info: is it active?')
        return self._info

    def command(self) -> FloatArray:
        """Return the command in force, float32 [A].

        Raises:
            PursuitError: nobody has commanded anything yet.
        """
        command_A = self._in_force.values_A
        if command_A is None:
            topic = self.config.command_topic
            raise PursuitError(CODES.NO_WORLD_MODEL, f'no command on {topic} yet')
        return command_A

    def follow(self, actions_TA: FloatArray, require_wanted: Callable[[], None]) -> None:
        """Give one command per frame, each for the frame after the newest one seen; return once
        the last one is in force.

        Args:
            actions_TA: in the contract's units.
            require_wanted: raises where it shall not go on; the robot then holds.

        Raises:
            PursuitError: no more predictions come; or what `require_wanted` raises.
        """
        model = self.model()
        half_ns, lead_ns = round(0.5e9 / model.rate_hz), round(1e6 * model.action_lead_ms)
        self._wait_for_frame(1, require_wanted)  # there is a first one to count from
        for action_A in actions_TA:
            require_wanted()
            due_ns = self.seen_ns + half_ns
            stamp_ns = due_ns + lead_ns
            self._in_force.put(action_A, stamp_ns)
            self._commands.publish(
                Action(header=convert.header(stamp_ns, ''), values=convert.float_array(action_A))
            )
            self._wait_for_frame(due_ns, require_wanted)

    def _wait_for_frame(self, stamp_ns: int, require_wanted: Callable[[], None]) -> None:
        """Wait until the world model has seen a frame of that stamp or later; raises as
        `follow`.
        """
        name, limit_s = self.config.world_model, self.config.answer_s
        if not self._until(lambda: self.seen_ns >= stamp_ns, limit_s, require_wanted):
            text = f'no prediction from {name} for {limit_s:g} s'
            raise PursuitError(CODES.NO_WORLD_MODEL, text)

    def _until(
        self, condition: Callable[[], bool], limit_s: float, require_wanted: Callable[[], None]
    ) -> bool:
        """Wait until a condition holds; False where it does not come to hold in time."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            require_wanted()
            with self._news:
                if self._news.wait_for(condition, LOOK_S):
                    return True
        return False
