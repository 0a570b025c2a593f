"""Choose between a motion planner's trajectories by what the camera would show; MoveIt-style.

    python docs/examples/choose_trajectory.py

For every picture on ~/goal: take candidates from the motion planner, bring them to the model's
rate, leave out what the robot cannot follow, ask the world model about the rest, leave out what
it is too unsure of, carry the best one out, or say that none is good.

Axes: K candidates, T time, A action, N waypoints, J joints.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import Image
from wm_ros_msgs.msg import Action, ModelInfo, Prediction

from wm_ros.nodes.planner_client import (
    Answer,
    QueryError,
    WorldModelClient,
    goal_image,
    smoothness,
)

Array = npt.NDArray[np.floating]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
JOINTS = ('x', 'y', 'z')  # action entries that the motion planner moves
MOST_FRAMES = 64  # the world model's parameter query_steps
MOST_STEP = 0.15  # from frame to frame, as a share of an entry's range
DRAWS = 4  # as many as the package was calibrated with
LEAST_GAIN = 0.2  # share of the cost of holding still that a trajectory must save
MOST_DOUBT = 0.5  # share of that cost that the expected squared error may be


def motion_planner(here_J: Array) -> Iterator[tuple[Array, Array]]:
    """Put yours here: time_from_start [N] in s and positions [N, J] of each JointTrajectory.

    This one takes the hand to five places, over a raised way.
    """
    for x in (-0.27, -0.18, -0.09, 0.09, 0.18):
        end_J = np.array([x, -0.1, 0.12])
        over_J = (here_J + end_J) / 2 + [0.0, 0.0, 0.05]
        yield np.array([0.0, 0.4, 0.8]), np.stack([here_J, over_J, end_J])


def resample(times_N: Array, way_NJ: Array, info: ModelInfo, held_A: Array) -> Array:
    """Return one command per frame of the model, [T, A]; entries that do not move are held."""
    frames = int(np.ceil(times_N[-1] * info.rate_hz))
    times_T = np.arange(1, frames + 1) / info.rate_hz  # the place at time 0 is commanded already
    commands_TA = np.repeat(held_A[None], frames, 0)
    for joint, way_N in zip(JOINTS, way_NJ.T, strict=True):
        commands_TA[:, info.action_names.index(joint)] = np.interp(times_T, times_N, way_N)
    return commands_TA


def fault(commands_TA: Array, info: ModelInfo, held_A: Array) -> str:
    """Return why a trajectory cannot be a candidate; empty where it can."""
    low_A, high_A = np.array(info.action_low), np.array(info.action_high)
    steps_TA = np.abs(np.diff(commands_TA, axis=0, prepend=held_A[None]))
    if len(commands_TA) > MOST_FRAMES:
        return f'longer than {MOST_FRAMES} frames'
    if ((commands_TA < low_A) | (commands_TA > high_A)).any():
        return 'outside the limits'
    return 'too fast' if (steps_TA > MOST_STEP * (high_A - low_A)).any() else ''


def choose(answer: Answer) -> int:
    """Return the best candidate that saves enough and is sure enough; 0, holding still, if none.

    A goal's cost is a mean squared error in the latent, and uncertainty is the root of one.
    """
    hold = answer.costs_K[0]
    saves_K = answer.costs_K < (1 - LEAST_GAIN) * hold
    sure_K = answer.uncertainty_K**2 < MOST_DOUBT * hold
    best = int(np.argmin(np.where(saves_K & sure_K, answer.costs_K, np.inf)))
    return best if saves_K[best] and sure_K[best] else 0


def stamp_ns(message: Action) -> int:
    """Return the instant from which a command is in force."""
    return int(Time.from_msg(message.header.stamp).nanoseconds)


class Chooser(Node):
    """Hears goals, the command in force, and which frame the world model has seen."""

    def __init__(self) -> None:
        super().__init__('choose_trajectory')
        self.client = WorldModelClient(self)
        self.info: Any = None
        self.seen_ns = 0  # stamp of the newest frame that the world model has seen
        self.command: Any = None  # in force, or given for the next frame
        self.goal: Any = None
        hear = self.create_subscription
        hear(ModelInfo, '/world_model/model_info', partial(setattr, self, 'info'), LATCHED)
        hear(Prediction, '/world_model/prediction', self.hear_frame, 1)
        hear(Action, '/command', self.hear_command, 10)
        hear(Image, '~/goal', partial(setattr, self, 'goal'), 1)
        self.commands = self.create_publisher(Action, '/command', 10)

    def hear_frame(self, message: Prediction) -> None:
        """Note the frame; predictions further ahead tell of the same one."""
        self.seen_ns = Time.from_msg(message.source_stamp).nanoseconds

    def hear_command(self, message: Action) -> None:
        """Keep the newest by its stamp: an echo of an own command may come after the next one."""
        if not self.command or stamp_ns(message) >= stamp_ns(self.command):
            self.command = message

    def decide(self, goal: Image) -> Array:
        """Return the commands [T, A] to carry out; no rows where no trajectory is good."""
        held_A = np.array(self.command.values)
        here_J = held_A[[self.info.action_names.index(joint) for joint in JOINTS]]
        candidates = {'holding still': held_A[None]}
        for number, way in enumerate(motion_planner(here_J), 1):
            commands_TA = resample(*way, self.info, held_A)
            if reason := fault(commands_TA, self.info, held_A):
                self.get_logger().info(f'trajectory {number} is left out: {reason}')
            else:
                candidates[f'trajectory {number}'] = commands_TA
        frames = max(map(len, candidates.values()))  # the shorter ones hold their end
        rows = [np.pad(c, ((0, frames - len(c)), (0, 0)), 'edge') for c in candidates.values()]
        answer = self.client.evaluate(rows, [goal_image(goal), smoothness(0.05)], draws=DRAWS)
        best = choose(answer)
        name = list(candidates)[best]
        costs, doubts = answer.costs_K.round(3), answer.uncertainty_K.round(3)
        self.get_logger().info(f'{list(candidates)}: costs {costs}, uncertainty {doubts}: {name}')
        return candidates[name] if best else held_A[None][:0]

    def carry_out(self, commands_TA: Array) -> None:
        """Give one command per frame, each for the frame after the newest one seen: stamped in the
        middle between the two, where a camera that is early or late moves it to neither.
        """
        half_ns = round(0.5e9 / self.info.rate_hz + 1e6 * self.info.action_lead_ms)
        for command_A in commands_TA:
            before_ns = self.seen_ns
            while self.seen_ns == before_ns:
                rclpy.spin_once(self, timeout_sec=0.1)
            self.command = Action(values=array('f', command_A))
            self.command.header.stamp = Time(nanoseconds=self.seen_ns + half_ns).to_msg()
            self.commands.publish(self.command)


def main() -> None:
    """Take goals until Ctrl-C."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C is a KeyboardInterrupt
    node = Chooser()
    try:
        while True:
            rclpy.spin_once(node, timeout_sec=0.1)
            if node.goal and node.info and node.seen_ns and node.command:
                goal, node.goal = node.goal, None
                try:
                    node.carry_out(node.decide(goal))
                except (QueryError, TimeoutError) as error:
                    node.get_logger().error(f'no decision: {error}')
    except KeyboardInterrupt:
        node.client.close()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == '__main__':
    main()
