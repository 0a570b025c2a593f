"""The table-top as a robot in lockstep: simulated time stands still until the next command is in.

One frame: /clock, the command in force (while a recorded past is played), the picture. Then the
world waits for a command that comes into force at the next frame, and advances. So a planner may
think as long as it likes, and what it reaches does not depend on the machine.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from wm_ros_msgs.msg import Action

from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.nodes.inputs import LATCHED
from wm_ros.nodes.table import CAMERA_INFO_TOPIC
from wm_ros.sim.config import SimConfig
from wm_ros.sim.goals import Goal
from wm_ros.sim.scene import TableTop
from wm_ros.sim.world import FOVY_DEG, RATE_HZ, WorldState

if TYPE_CHECKING:
    from collections.abc import Callable

    from wm_ros.datatypes import FloatArray, ImageArray

PERIOD_NS = round(1e9 / RATE_HZ)
BETWEEN_GOALS_NS = 10_000_000_000  # longer than the contract's gap: the memory starts afresh


class StageTimeout(RuntimeError):
    """Nobody said what to do, or saw what was shown, in time."""


class Stage(Node):
    """Camera, clock and simulator of one process.

    Args:
        image_size: side of the picture, px.

    Attributes:
        stamp_ns: of the newest frame.
        frames: shown so far.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__('stage')
        self.table = TableTop(SimConfig(image_size=image_size))
        self.camera = self.create_publisher(Image, CAMERA_TOPIC, QoSProfile(depth=5))
        self.info = self.create_publisher(CameraInfo, CAMERA_INFO_TOPIC, QoSProfile(depth=5))
        self.clock_out = self.create_publisher(Clock, '/clock', QoSProfile(depth=10))
        self.commands = self.create_publisher(Action, COMMAND_TOPIC, QoSProfile(depth=10))
        self.renderer = self.create_publisher(
            String, convert.topic_beside(CAMERA_TOPIC, 'renderer'), LATCHED
        )
        self.renderer.publish(String(data=self.table.renderer))
        self.create_subscription(Action, COMMAND_TOPIC, self.receive, QoSProfile(depth=10))
        self.intrinsics = convert.pinhole_info(image_size, FOVY_DEG)
        self.stamp_ns = 1_000_000_000
        self.frames = 0
        self.command_A: FloatArray = np.zeros(0, np.float32)
        self._received: dict[int, FloatArray] = {}

    @property
    def state(self) -> WorldState:
        """Where everything is."""
        return self.table.world_state

    def receive(self, message: Action) -> None:
        """Keep a command until the frame comes from which it is in force."""
        self._received[stamp_to_ns(message.header.stamp)] = np.asarray(message.values, np.float32)

    def begin(self, goal: Goal) -> None:
        """Set the world up for a goal; the memory of who watches starts afresh."""
        self.table.reset(goal.layout)
        self.stamp_ns += BETWEEN_GOALS_NS
        self._received.clear()

    def show(self, command_A: FloatArray | None = None) -> None:
        """Publish the frame of now.

        Args:
            command_A: command in force from this frame on, to be published as well; None where
                somebody else has published it.
        """
        head = convert.header(self.stamp_ns, 'camera_optical_frame')
        self.clock_out.publish(Clock(clock=head.stamp))
        if command_A is not None:
            self.command_A = command_A
            self.commands.publish(Action(header=head, values=convert.float_array(command_A)))
        self.intrinsics.header = head
        self.info.publish(self.intrinsics)
        self.camera.publish(convert.image_message(self.picture(), head))
        self.frames += 1

    def picture(self) -> ImageArray:
        """Return the picture of now."""
        return self.table.render()

    def advance(self) -> None:
        """Let the command in force act for one period."""
        self.table.step(self.command_A)
        self.stamp_ns += PERIOD_NS

    def take_command(self) -> bool:
        """Take the command that comes into force at the next frame; False while there is none."""
        for stamp_ns in sorted(self._received):
            if self.stamp_ns < stamp_ns <= self.stamp_ns + PERIOD_NS:
                self._next_A = self._received.pop(stamp_ns)
                return True
            if stamp_ns <= self.stamp_ns:
                del self._received[stamp_ns]
        return False

    def follow(self) -> None:
        """Advance under the command in force, then put the one just taken into force."""
        self.advance()
        self.command_A = self._next_A
        self.show()

    def destroy_node(self) -> None:
        """Close the renderer, then the node."""
        self.table.close()
        super().destroy_node()


def wait_for(
    condition: Callable[[], bool], spin: Callable[[float], None], timeout_s: float, what: str
) -> None:
    """Handle events until a condition holds.

    Raises:
        StageTimeout: it did not come to hold in time.
    """
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise StageTimeout(f'{what}: waited {timeout_s:g} s')
        spin(0.05)
