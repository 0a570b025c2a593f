"""`sim_node`: the table-top simulator behaving as a robot: camera out, commands in, at a steady
rate.

At each frame instant, in this order: the command in force is latched, published (driver `plan`
only, stamped with the instant), then the frame that was rendered before; after that the simulator
advances one period. So the command of a frame is on its way before the frame, and nothing about
its alignment is ambiguous.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from wm_ros_msgs.msg import Action

from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC, SimNodeConfig
from wm_ros.contract_fields import plain
from wm_ros.nodes import convert, params, spin
from wm_ros.nodes.audience import Audience
from wm_ros.nodes.logs import CsvLog, open_lines
from wm_ros.nodes.table import CAMERA_INFO_TOPIC
from wm_ros.sim.config import SimConfig
from wm_ros.sim.episodes import plan_episode
from wm_ros.sim.plan import EpisodePlan
from wm_ros.sim.recall import FIRST_FACT
from wm_ros.sim.scene import ACTION_LIMITS, ACTION_NAMES, TableTop
from wm_ros.sim.world import FOVY_DEG

if TYPE_CHECKING:
    from wm_ros.datatypes import FloatArray

LINGER_S = 0.5
CLOCK_START_NS = 1_000_000_000


def episode(kind: str, seed: int, frames: int) -> tuple[EpisodePlan, int]:
    """Return a plan and how many of its frames to play; 0 asks for all.

    Recall episodes have one length and are cut short, the others are planned to length.

    Raises:
        ValueError: more frames than the episode has.
    """
    plan = plan_episode(kind, seed, frames or None if kind not in FIRST_FACT else None)
    if frames > plan.frames:
        raise ValueError(f'{kind} episodes have {plan.frames} frames, {frames} asked for')
    return plan, frames or plan.frames


class SimNode(Node):
    """Plays one episode in real time. `step` is called between events and keeps the schedule."""

    def __init__(self) -> None:
        super().__init__('sim')
        params.declare(self, SimNodeConfig)
        self.config = params.read(self, SimNodeConfig)
        self.plan, self.frames = episode(self.config.kind, self.config.seed, self.config.frames)
        self.sim = TableTop(SimConfig(image_size=self.config.image_size))
        self.period_ns = round(1e9 / self.config.rate_hz)
        self.log = CsvLog(self.config.publish_log, ('stamp_ns', 'monotonic_ns', 'late_ms'))
        self.truth: TextIO | None = None
        if self.config.truth_file:
            self.truth = open_lines(self.config.truth_file)
        self.camera = self.create_publisher(Image, CAMERA_TOPIC, QoSProfile(depth=5))
        self.info = self.create_publisher(CameraInfo, CAMERA_INFO_TOPIC, QoSProfile(depth=5))
        self.renderer = self.create_publisher(
            String,
            convert.topic_beside(CAMERA_TOPIC, 'renderer'),
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )
        self.renderer.publish(String(data=self.sim.renderer))
        self.intrinsics = convert.pinhole_info(self.config.image_size, FOVY_DEG)
        self.clock_out = self.create_publisher(Clock, '/clock', 10) if self.config.clock else None
        self.commands = None
        if self.config.driver == 'plan':
            self.commands = self.create_publisher(Action, COMMAND_TOPIC, QoSProfile(depth=10))
        else:
            self.create_subscription(Action, COMMAND_TOPIC, self.receive, QoSProfile(depth=10))
        self.audience = Audience(
            self.camera,
            [out for out in (self.info, self.commands, self.clock_out) if out is not None],
            self.config.wait_subscribers,
            self.config.settle_s,
        )
        self.due_ns = self.ended_ns = -1
        self.stamp_ns = 0
        self.rejected = 0
        self.rewind()

    def rewind(self) -> None:
        """Put the simulator at the start of the episode and render its first frame."""
        self.index = 0
        self.sim.reset(self.plan.layout)
        rest = self.sim.state()[: len(ACTION_NAMES)]  # until commanded, it commands where it is
        self.command_A: FloatArray = rest.astype(np.float32)
        self.image_HWC = self.sim.render()

    def receive(self, message: Action) -> None:
        """Take a command; the newest one is latched at the next frame instant."""
        values_A = np.asarray(message.values, np.float32)
        if values_A.shape != (len(ACTION_NAMES),) or not np.isfinite(values_A).all():
            self.rejected += 1
            self.get_logger().warning(
                f'command refused: expected {len(ACTION_NAMES)} finite values, got '
                f'{values_A.tolist()} ({self.rejected} refused so far)',
                throttle_duration_sec=1.0,
            )
            return
        limits_A2 = np.asarray(ACTION_LIMITS, np.float32)
        self.command_A = np.clip(values_A, limits_A2[:, 0], limits_A2[:, 1])

    def step(self) -> float | None:
        """Publish a frame when its instant has come; return the time to the next in s, None at
        the end.
        """
        now_ns = time.monotonic_ns()
        if self.due_ns < 0 and not self.try_start(now_ns):
            return 0.02
        if self.ended_ns >= 0:
            return 0.05 if now_ns - self.ended_ns < LINGER_S * 1e9 else None
        if now_ns < self.due_ns:
            return (self.due_ns - now_ns) / 1e9
        if now_ns - self.due_ns > self.period_ns:
            self.due_ns = now_ns  # the machine stalled: so did this world, its stamps stay even
        self.publish(now_ns)
        self.advance()
        self.due_ns += self.period_ns
        self.stamp_ns += self.period_ns
        return 0.0

    def try_start(self, now_ns: int) -> bool:
        """Start once the wanted subscribers have been there for a while."""
        if not self.audience.settled(now_ns / 1e9):
            return False
        self.due_ns = now_ns
        self.stamp_ns = CLOCK_START_NS if self.config.clock else self.get_clock().now().nanoseconds
        self.get_logger().info(
            f'{self.config.kind} episode {self.config.seed}: '
            f'{self.frames} frames at {self.config.rate_hz:g} Hz'
        )
        return True

    def publish(self, now_ns: int) -> None:
        """Send clock, command and frame of this instant."""
        if self.config.driver == 'plan':
            self.command_A = self.plan.actions_TA[self.index]
        head = convert.header(self.stamp_ns, self.config.frame_id)
        if self.clock_out is not None:
            self.clock_out.publish(Clock(clock=head.stamp))
        if self.commands is not None:
            self.commands.publish(Action(header=head, values=convert.float_array(self.command_A)))
        self.intrinsics.header = head
        self.info.publish(self.intrinsics)
        message = convert.image_message(self.image_HWC, head)
        self.log.write(self.stamp_ns, time.monotonic_ns(), round((now_ns - self.due_ns) / 1e6, 3))
        self.camera.publish(message)

    def advance(self) -> None:
        """Write the truth of the frame sent, let the command act for one period, render the next
        frame.
        """
        if self.truth is not None:
            self.truth.write(json.dumps(self.ground_truth()) + '\n')
        self.index += 1
        if self.index < self.frames:
            self.sim.step(self.command_A)
            self.image_HWC = self.sim.render()
        elif self.config.loop:
            self.rewind()
        else:
            self.ended_ns = time.monotonic_ns()

    def ground_truth(self) -> dict[str, Any]:
        """Return the truth of the current frame as plain values, its label picture left out."""
        truth = replace(self.sim.truth(mask=True), fact_mask_HW=None)
        return {'index': self.index, 'stamp_ns': self.stamp_ns, **plain(truth)}

    def destroy_node(self) -> None:
        """Close files and renderer, then the node."""
        self.log.close()
        if self.truth is not None:
            self.truth.close()
        self.sim.close()
        super().destroy_node()


def main() -> int:
    """Play the episode and end, or end at SIGINT or SIGTERM."""
    return spin.run(SimNode, SimNode.step)


if __name__ == '__main__':
    raise SystemExit(main())
